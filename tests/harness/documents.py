"""The fenced blocks of README and docs, and what each kind of block promises.

=============  =========================================================================
info string    what the tests do with it
=============  =========================================================================
``sh``         run by bash in page order, must exit 0; its ``make`` lines by ``make -n``,
               its ``docker`` lines not (``tests/unit/test_docker.py`` checks their files)
``sh background``  started and left running; must end with 0 after SIGTERM
``sh finally`` as ``sh``, but after all pages
``sh model``   as ``sh``, with the real encoder instead of the stub
``python``     run as a script, must exit 0
``json KIND``  read by the code that reads such a thing: event, item, update, item-vector,
               interest (the configuration of an interest model, as it is by default),
               api-… (what the read API takes and gives)
``toml``       loaded as a settings file
``text``       output or a drawing, ``mermaid`` a picture: not run
=============  =========================================================================

Any other info string is an error, so that nothing goes untested by a slip.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stream_app.api import answers, status_answers

ROOT = Path(__file__).resolve().parents[2]
API_KINDS = {
    "problem": answers.Problem,
    "interest": answers.InterestAnswer,
    "neighbours": answers.NeighboursAnswer,
    "history": answers.HistoryAnswer,
    "audience-request": answers.AudienceRequest,
    "audience": answers.AudienceAnswer,
    "embed-request": answers.EmbedRequest,
    "embed": answers.EmbedAnswer,
    "status": status_answers.StatusAnswer,
    "workers": status_answers.WorkersAnswer,
}
KINDS = {
    "sh", "sh background", "sh finally", "sh model", "python", "toml", "text", "mermaid",
    "json event", "json item", "json update", "json item-vector", "json interest",
    *(f"json api-{name}" for name in API_KINDS),
}  # fmt: skip

_OPENING = re.compile(r"^\s*(`{3,}|~{3,})(.*)$")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether it is run against a broker."""
        return self.kind.startswith(("sh", "python"))


def pages() -> list[Path]:
    """Return every page a reader is sent to, README first."""
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*top, *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page.

    Raises:
        ValueError: a fence is not closed.
    """
    name = page.relative_to(ROOT).as_posix()
    fence = kind = ""
    start = 0
    lines: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if fence:
            if line.strip() == fence:
                yield Block(name, start, kind, "\n".join(lines) + "\n")
                fence = ""
            else:
                lines.append(line)
        elif found := _OPENING.match(line):
            fence, kind = found[1], found[2].strip()
            start, lines = number, []
    if fence:
        raise ValueError(f"{name}:{start}: the fence is not closed")


def all_blocks() -> list[Block]:
    """Return the blocks of every page, in reading order."""
    return [block for page in pages() for block in blocks(page)]
