"""Another catalogue, the same model: how well a model ranks items and users it was never shown.

    python examples/cross_domain.py split --out halves
    interest-stream train --events halves/a-events.jsonl --items halves/a-items.jsonl --out model-a
    python examples/cross_domain.py rank --model model-a

``split`` makes two shops of MovieLens-1M that share neither an item nor a user. ``rank`` asks a
shop's users for their last new item, of all items of that shop. Popularity and item-kNN know the
shop's own past, which the models do not: they see a user's events and the items' texts.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer

import encoders
from encoders.evaluation.baselines import ItemKnn, MeanVector, Popularity
from encoders.evaluation.bootstrap import Estimate, differences, estimates
from encoders.evaluation.interest import InterestScorer, put_texts
from encoders.evaluation.plan import Plan, Setting
from encoders.evaluation.ranking import Result, Scorer
from stream_app import movielens
from stream_app.cli.progress import progress_bars
from stream_app.errors import InterestStreamError
from stream_app.evaluation_data import file_interactions
from stream_app.named_model import with_model
from stream_app.settings import Settings, load

METRICS = ("recall@10", "ndcg@10")
EXAMPLE = "Example: python examples/cross_domain.py rank --model model-a --users 500"
app = typer.Typer(
    no_args_is_help=True,
    help="How well a model ranks a catalogue and users it was never shown.",
    epilog=EXAMPLE,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class By(StrEnum):
    """What decides in which shop an item is sold."""

    ITEM = "item"
    GENRE = "genre"


@app.command()
def split(
    out: Annotated[Path, typer.Option(help="Folder for the four files.")] = Path("halves"),
    by: Annotated[By, typer.Option(help="Items at random, or whole genres.")] = By.ITEM,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    events: Annotated[int, typer.Option(min=1, help="Only the first so many.")] = movielens.RATINGS,
) -> None:
    """Write the shops a and b: a-items.jsonl, a-events.jsonl, b-items.jsonl, b-events.jsonl."""
    catalogue, ratings = movielens.items(), movielens.ratings(events)
    genres = {item["item_id"]: item["genres"].partition(",")[0] for item in catalogue}
    sold_in_a = half(sorted(genres), seed) if by is By.ITEM else half_of_genres(genres)
    buy_in_a = half(sorted({rating.user_id for rating in ratings}), seed + 1)
    out.mkdir(parents=True, exist_ok=True)
    for shop in "ab":
        first = shop == "a"
        items = [item for item in catalogue if (item["item_id"] in sold_in_a) == first]
        acts = [
            movielens.event(rating)
            for rating in ratings
            if (rating.item_id in sold_in_a) == first and (rating.user_id in buy_in_a) == first
        ]
        write_lines(out / f"{shop}-items.jsonl", items)
        write_lines(out / f"{shop}-events.jsonl", acts)
        users = len({act["user_id"] for act in acts})
        print(f"shop {shop}: {len(items)} items, {users} users, {len(acts)} events")


def half(names: Sequence[str], seed: int) -> frozenset[str]:
    """Return a random half of ``names``."""
    drawn = np.random.default_rng(seed).permutation(len(names))[: len(names) // 2]
    return frozenset(names[at] for at in drawn)


def half_of_genres(genres: Mapping[str, str]) -> frozenset[str]:
    """Return about half of the items, by whole genres: the largest first, to the smaller side."""
    sides: tuple[set[str], set[str]] = (set(), set())
    sizes = [0, 0]
    for genre, count in Counter(genres.values()).most_common():
        side = int(sizes[1] < sizes[0])
        sizes[side] += count
        sides[side].add(genre)
    return frozenset(item for item, genre in genres.items() if genre in sides[0])


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON Lines."""
    path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))


@app.command()
def rank(
    events: Annotated[Path, typer.Option(help="Of the shop to rank in.")] = Path(
        "halves/b-events.jsonl"
    ),
    items: Annotated[Path, typer.Option(help="Its catalogue.")] = Path("halves/b-items.jsonl"),
    model: Annotated[
        list[Path] | None, typer.Option(help="Folder of an interest model or a bundle, repeatable.")
    ] = None,
    users: Annotated[int | None, typer.Option(min=1, help="Ask a sample of so many.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
) -> None:
    """Rank a shop's items with models that were made elsewhere, and with what the shop has."""
    settings = load()
    setting = Setting.of(file_interactions(events, items, settings), Plan(seed, users), "random")
    results: dict[str, Result] = {}
    with progress_bars(shown=True) as bar:
        for name, scorer in scorers(setting, settings, model or []):
            results[name] = setting.ask(scorer, bar(name))
    print(f"{len(setting.questions)} users, {len(setting.questions.data.item_ids)} items")
    for line in table(results, seed):
        print(line)


def scorers(
    setting: Setting, settings: Settings, models: Sequence[Path]
) -> Iterator[tuple[str, Scorer]]:
    """Yield what ranks, and its name; one model is loaded at a time."""
    questions = setting.questions
    yield "popularity in this shop", Popularity(questions)
    yield "item-kNN in this shop", ItemKnn(questions, half_life=setting.plan.half_life_events)
    plain = open_encoder(settings, setting, None)
    count = len(questions.data.item_ids)
    texts = plain.item_vectors(np.arange(len(questions.data.texts), dtype=np.int32))
    yield (
        "untrained, nothing known",
        InterestScorer(plain, questions.data, settings.window_policy()),
    )
    plain.close()
    half_life = setting.plan.half_life_events
    centred = MeanVector(texts, count, centred=True, half_life_events=half_life)
    yield "untrained, centred on this shop", centred
    for folder in models:
        encoder = open_encoder(settings, setting, folder)
        yield folder.name, InterestScorer(encoder, questions.data, settings.window_policy())
        encoder.close()


def open_encoder(
    settings: Settings, setting: Setting, folder: Path | None
) -> encoders.InterestEncoder:
    """Return an encoder of the model in ``folder`` (None: untrained) that knows all texts."""
    data = setting.questions.data
    config = with_model(settings.encoder_config(), folder)
    encoder = encoders.build(replace(config, slab_rows=max(64, len(data.texts))))
    put_texts(encoder, data)
    return encoder


def table(results: Mapping[str, Result], seed: int) -> Iterator[str]:
    """Yield a line per ranker: metrics with 95 % intervals, and the gap to popularity."""
    base = next(iter(results.values()))
    yield f"{'':34}{'R@10':24}{'NDCG@10':24}{'NDCG@10 over popularity'}"
    for name, result in results.items():
        values = {metric: result.values[metric] for metric in METRICS}
        found = estimates(values, result.users, seed=seed)
        gap = differences(values, base.values, result.users, seed=seed)["ndcg@10"]
        shown = "".join(f"{interval(found[metric]):24}" for metric in METRICS)
        yield f"{name:34}{shown}{'' if result is base else interval(gap, '+')}".rstrip()


def interval(estimate: Estimate, sign: str = "") -> str:
    """Return a mean and the ends of its interval, as text."""
    low, high = f"{estimate.low:{sign}.3f}", f"{estimate.high:{sign}.3f}"
    return f"{estimate.mean:{sign}.3f} ({low} {high})"


def main() -> None:
    """Run; what an operator can mend is one line."""
    try:
        app()
    except (InterestStreamError, encoders.EncoderError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
