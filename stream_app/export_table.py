"""The comparison of bundles as a Markdown table, and where it goes in a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream_app.errors import FixSettings

if TYPE_CHECKING:
    from encoders.shipping.comparison import Line, Speed

BEGIN = "<!-- written by interest-stream export --compare: begin -->"
END = "<!-- end -->"

_MEBI = 1 << 20
_HEADINGS = (
    "bundle", "layers", "text model, MiB", "text vectors, bytes", "texts/s", "users/s", "cosine",
    "1 in 100", "neighbours",
)  # fmt: skip


def table(lines: Sequence[Line]) -> str:
    """Return one row per bundle; speeds are multiples of the first one's."""
    metrics = list(lines[0].metrics)
    rows = [[*_HEADINGS, *metrics], ["---", *["---:"] * (len(_HEADINGS) - 1 + len(metrics))]]
    for line in lines:
        origin = line.manifest.origin
        rows.append([
            line.name,
            str(len(origin.text_layers)),
            f"{line.text_model_bytes / _MEBI:.1f}",
            f"{line.text_vectors_bytes:,}",
            _speed(line.text_speed),
            _speed(line.user_speed),
            f"{line.cosine:.4f}",
            f"{line.cosine_low:.4f}",
            f"{line.neighbours:.3f}",
            *(f"{line.metrics[name]:.4f}" for name in metrics),
        ])  # fmt: skip
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def page(said: Mapping[str, Any], lines: Sequence[Line]) -> str:
    """Return the table with how it was made, in a sentence each."""
    versions = ", ".join(f"{name} {number}" for name, number in said["versions"].items())
    asked = said["users_asked"]
    on = f" and {asked:,} users' last new items (split seed {said['split_seed']})" if asked else ""
    notes = "".join(f"\n{note}\n" for note in said["notes"])
    return (
        f"`{said['command']}`\n\n{table(lines)}\n"
        f"On {said['texts']:,} texts{on}, seed {said['seed']}, {versions}.\n{notes}"
    )


def summary(lines: Sequence[Line]) -> dict[str, Any]:
    """Return the main figures by bundle, for one line of JSON."""
    return {
        line.name: {
            "model_id": line.manifest.model_id,
            "text_model_bytes": line.text_model_bytes,
            "texts_per_s_ratio": round(line.text_speed.ratio, 3),
            "users_per_s_ratio": round(line.user_speed.ratio, 3),
            "cosine": round(line.cosine, 6),
            "neighbours@10": round(line.neighbours, 4),
            **{name: round(value, 6) for name, value in line.metrics.items()},
        }
        for line in lines
    }


def check(page: Path) -> None:
    """Raises FixSettings where :func:`put_into` would: better before the work than after it."""
    _parts(page)


def put_into(page: Path, text: str) -> None:
    """Replace what stands between the two marks of ``page``.

    Raises:
        FixSettings: the page is not there, or has no such marks.
    """
    before, after = _parts(page)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def _parts(page: Path) -> tuple[str, str]:
    found = page.read_text(encoding="utf-8") if page.is_file() else ""
    before, begin, rest = found.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise FixSettings(f"{page} has no lines {BEGIN} and {END} to write between")
    return before, after


def _speed(speed: Speed) -> str:
    return f"{speed.ratio:.2f} ({speed.low:.2f} to {speed.high:.2f})"
