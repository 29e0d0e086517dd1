"""The report's part on fairness and safety: lists, swapped words, explanations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from encoders.evaluation.bootstrap import Estimate
from encoders.evaluation.pages import Block, Heading, Paragraph, Table
from encoders.evaluation.results import Counterfactual, Deleted, Explained, Measured


def lists(models: Sequence[Measured]) -> Iterator[Block]:
    """Yield what the lists of ten are like besides the hit."""
    yield Heading(3, "What the lists are like")
    yield Paragraph(
        "Diversity is 1 - the mean cosine of the texts in a list. Miscalibration is how far a "
        "list's genres are from the user's own (Steck 2018, in nats; 0 is calibrated). Gini says "
        "how unequally the items of the catalogue are shown: 0 all alike, 1 one has all."
    )
    named = [name for name in ("diversity@10", "miscalibration@10") if name in models[0].metrics]
    rows = [
        (
            line.name,
            *(f"{line.metrics[name].mean:.3f}" for name in named),
            f"{line.coverage:.3f}",
            f"{line.gini:.3f}",
        )
        for line in models
    ]
    yield Table(("Model", *named, "coverage@10", "Gini"), rows)


def swapped_words(found: Counterfactual) -> Iterator[Block]:
    """Yield how far the vectors move when a word that names a group is swapped."""
    yield Heading(2, "Swapped group words")
    pairs = ", ".join(f"{one}/{other}" for one, other in found.pairs)
    yield Paragraph(
        f"Every word that names a group is swapped for its counterpart ({pairs}) in the texts of "
        f"the events, never in the items that are ranked. {found.texts} texts have such a word; "
        f"{found.users:,} of {found.asked:,} users have one in their window. As a measure: what "
        "leaving these events out altogether does."
    )
    rows = [
        (s.what, str(s.users), f"{s.cosine:.4f}", f"{s.cosine_p05:.4f}", f"{s.overlap:.3f}")
        for s in found.shifts
    ]
    head = ("Change", "users", "mean cosine", "5th percentile", "share of the ten that stays")
    yield Table(head, rows)


def explanation(found: Explained) -> Iterator[Block]:
    """Yield how a score is taken apart, and whether that is faithful."""
    yield Heading(2, "Explanation")
    yield Paragraph(
        f"The score of the best item of {found.questions} users, taken apart by event, word and "
        f"granularity ({found.method}). The parts miss the score by {found.gap:.1e} on average. "
        "Whether that is faithful a deletion test says: events are taken out of the window, those "
        "first that are said to contribute most, and the vector is made anew."
    )
    yield _deletions("Events", found.deletions)
    if found.word_deletions:
        yield Paragraph(
            "The same with words of the one event that contributes most; the text model reads "
            "what is left anew."
        )
        yield _deletions("Words", found.word_deletions)
    by_part = ", ".join(f"{name} {value:+.4f}" for name, value in found.granularities.items())
    yield Paragraph(f"Mean contribution to the score: {by_part}.")
    for example in found.examples:
        yield Heading(3, f"Why {example.item!r} for user {example.user}: {example.score:.4f}")
        yield Table(
            ("Event", "contribution", "words"),
            [
                (part.what, f"{part.value:+.4f}", ", ".join(f"{w} {v:+.4f}" for w, v in part.words))
                for part in example.events
            ],
        )


def _deletions(what: str, lines: Sequence[Deleted]) -> Table:
    head = [f"{what} taken out", "score left, most first", "at random", "least first"]
    columns = [[_span(at) for at in each] for each in zip(*map(_left, lines), strict=True)]
    gaps = [line.gap for line in lines if line.gap is not None]
    if len(gaps) == len(lines):
        head.append("most first less at random, paired")
        columns.append([_span(gap, "+") for gap in gaps])
    counts = [str(line.count) for line in lines]
    return Table(tuple(head), list(zip(counts, *columns, strict=True)))


def _left(line: Deleted) -> tuple[Estimate, Estimate, Estimate]:
    return line.most, line.random, line.least


def _span(value: Estimate, sign: str = "") -> str:
    return f"{value.mean:{sign}.4f} [{value.low:{sign}.4f}, {value.high:{sign}.4f}]"
