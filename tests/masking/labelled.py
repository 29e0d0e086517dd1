"""Texts in which every address and number is marked: ``Write to ⟨email|a@b.example⟩.``

The files beside this module were written by ``python -m tests.masking.writing``; lines may be added
by hand. The rules were mended on ``development.txt`` only.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple, cast

from state.masking import Kind, Span, spans

FOLDER = Path(__file__).parent
PARTS = ("development", "held-out")

_MARK = re.compile(r"⟨(email|phone|card)\|([^⟩]+)⟩")


class Labelled(NamedTuple):
    """A text, and what is to be found in it."""

    text: str
    wanted: tuple[Span, ...]


class Score(NamedTuple):
    """Finds of one kind: right ones have the very kind, begin and end of the label."""

    right: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float:
        """Share of the finds that are right."""
        return self.right / (self.right + self.wrong)

    @property
    def recall(self) -> float:
        """Share of the labels that are found."""
        return self.right / (self.right + self.missed)


def read(part: str) -> list[Labelled]:
    """Return the texts of one part."""
    lines = (FOLDER / f"{part}.txt").read_text(encoding="utf-8").splitlines()
    return [labelled(line) for line in lines if line]


def labelled(line: str) -> Labelled:
    """Return the text of a marked line, and its labels.

    >>> labelled("to ⟨email|a@b.cd⟩!")
    Labelled(text='to a@b.cd!', wanted=(Span(kind='email', start=3, end=9),))
    """
    text, at, wanted = "", 0, []
    for mark in _MARK.finditer(line):
        text += line[at : mark.start()]
        wanted.append(Span(cast(Kind, mark[1]), len(text), len(text) + len(mark[2])))
        text += mark[2]
        at = mark.end()
    return Labelled(text + line[at:], tuple(wanted))


def scores(part: str) -> dict[str, Score]:
    """Return how masking does on one part, by kind."""
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    for text, wanted in read(part):
        found = spans(text)
        right.update(span.kind for span in found if span in wanted)
        wrong.update(span.kind for span in found if span not in wanted)
        missed.update(span.kind for span in wanted if span not in found)
    return {kind: Score(right[kind], wrong[kind], missed[kind]) for kind in sorted(right | missed)}


def left_behind(part: str) -> int:
    """Return how many labels keep more than half of their signs: what a reader could still use."""
    return sum(
        _covered(span, spans(text)) < (span.end - span.start) / 2
        for text, wanted in read(part)
        for span in wanted
    )


def _covered(span: Span, found: list[Span]) -> int:
    return sum(max(0, min(span.end, one.end) - max(span.start, one.start)) for one in found)
