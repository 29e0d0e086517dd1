"""The report of an evaluation, as blocks of a page. It says what was found, good or bad."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from encoders.evaluation import plots
from encoders.evaluation.bootstrap import Estimate
from encoders.evaluation.breakdowns import COLD_BELOW, Part
from encoders.evaluation.pages import Block, Code, Heading, Paragraph, Picture, Table
from encoders.evaluation.report_safety import explanation, lists, swapped_words
from encoders.evaluation.results import OURS, Grid, GridLine, Measured, Protocol, Report

METRICS = (
    "recall@10", "ndcg@10", "mrr@10", "recall@20", "ndcg@20", "mrr@20", "auc",
)  # fmt: skip
_TITLES = {"leave_last_out": "Leave-last-out", "prequential": "Prequential"}
_OF_ITEMS = ("popularity of the target", "events before")
"""Breakdowns that are not of groups of users."""
_MAIN = ("recall@10", "ndcg@10")


def blocks(report: Report, *, with_plots: bool) -> list[Block]:
    """Return the whole page; without plots where matplotlib is not installed."""
    page: list[Block] = [
        Heading(1, "Evaluation"),
        Paragraph(
            "Written by the command below, which overwrites it; the .json of the same name has "
            "every figure. Brackets are 95 % bootstrap intervals over users; differences are "
            "paired. Ties and scores that are not numbers count against a model."
        ),
        Code(report.command),
        Table(("What", "Value"), list(_facts(report))),
    ]
    page += [Paragraph(note) for note in report.notes]
    for protocol in report.protocols:
        page += _protocol(protocol, with_plots=with_plots)
    if report.counterfactual is not None:
        page += swapped_words(report.counterfactual)
    if report.explanation is not None:
        page += explanation(report.explanation)
    return page


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    yield "seed", str(report.seed)
    yield "seconds", f"{report.seconds:.0f}"
    for source in (report.model, report.data, report.versions):
        for name, value in source.items():
            yield name.replace("_", " "), str(value)


def _protocol(protocol: Protocol, *, with_plots: bool) -> Iterator[Block]:
    title = _TITLES[protocol.name]
    yield Heading(2, title)
    yield Paragraph(f"{protocol.rule} {protocol.questions:,} questions, {protocol.users:,} users.")
    yield _models(protocol.models)
    for name, reason in protocol.skipped.items():
        yield Paragraph(f"{name} was left out: {reason}.")
    if with_plots:
        yield Picture(f"{protocol.name}-models", f"{title}: models", plots.models(protocol.models))
    yield Paragraph(f"{OURS} minus the other model, on the same questions:")
    yield Table(
        ("Against", *_MAIN),
        [
            (name, *(_signed(values[metric]) for metric in _MAIN))
            for name, values in protocol.differences.items()
        ],
    )
    if protocol.other_order:
        yield from _orders(protocol)
    yield from _breakdowns(protocol)
    if protocol.staleness:
        yield from _staleness(protocol, with_plots=with_plots)
    if protocol.grid is not None:
        yield from _grid(protocol.grid, with_plots=with_plots)
    if protocol.name == "leave_last_out":
        yield from _several(protocol.several)
        yield from lists(protocol.models)


def _models(lines: Sequence[Measured]) -> Table:
    rows = [
        (
            line.name,
            *(
                _interval(line.metrics[metric]) if metric in _MAIN
                else _figure(line.metrics[metric].mean)
                for metric in METRICS
            ),
            _figure(line.coverage),
        )
        for line in lines
    ]  # fmt: skip
    return Table(("Model", *METRICS, "coverage@10"), rows)


def _orders(protocol: Protocol) -> Iterator[Block]:
    yield Heading(3, "Order of events of the same time")
    other = "file" if protocol.order == "random" else "random"
    yield Paragraph(
        "Our rule is a random order, drawn by the seed: nothing is known of the order within a "
        "second, and a file sorted by something that goes with the future gives it away."
    )
    by_name = {line.name: line for line in protocol.other_order}
    rows = [
        (
            line.name,
            *(_figure(line.metrics[metric].mean) for metric in _MAIN),
            *(_figure(by_name[line.name].metrics[metric].mean) for metric in _MAIN),
        )
        for line in protocol.models
        if line.name in by_name
    ]
    heads = [f"{metric}, {order}" for order in (protocol.order, other) for metric in _MAIN]
    yield Table(("Model", *heads), rows)


def _breakdowns(protocol: Protocol) -> Iterator[Block]:
    if not protocol.breakdowns:
        return
    yield Heading(3, "For whom and for what" if protocol.name == "leave_last_out" else "For what")
    yield Paragraph(
        f"Cold: fewer than {COLD_BELOW} events in training. Head and middle hold a third of all "
        "training events each. Activity is by events before the question. A group whose interval "
        "lies wholly below another's is served worse."
    )
    for what in next(iter(protocol.breakdowns.values())):
        by_model = {name: parts[what] for name, parts in protocol.breakdowns.items()}
        labels = [part.label for part in next(iter(by_model.values()))]
        rows = [_broken_down(place, list(by_model.values())) for place in range(len(labels))]
        yield Table((what, "questions", *(f"recall@10, {name}" for name in by_model)), rows)
        if len(labels) > 1 and what not in _OF_ITEMS:
            yield Paragraph(_spread(what, by_model[OURS]))


def _broken_down(place: int, models: Sequence[list[Part]]) -> tuple[str, ...]:
    """The row of one label: the parts of every model stand in the same order."""
    first = models[0][place]
    recalls = [_interval(parts[place].metrics["recall@10"]) for parts in models]
    return (first.label, f"{first.questions:,}", *recalls)


def _spread(what: str, parts: Sequence[Part]) -> str:
    ranked = sorted(parts, key=lambda part: part.metrics["recall@10"].mean)
    worst, best = ranked[0], ranked[-1]
    apart = worst.metrics["recall@10"].high < best.metrics["recall@10"].low
    how = "outside both intervals" if apart else "within the intervals"
    gap = best.metrics["recall@10"].mean - worst.metrics["recall@10"].mean
    return (
        f"By {what}, {OURS} serves {best.label} best and {worst.label} worst; the gap in recall@10 "
        f"of {gap:.4f} is {how}."
    )


def _staleness(protocol: Protocol, *, with_plots: bool) -> Iterator[Block]:
    yield Heading(3, "What real time is worth")
    yield Paragraph(
        "The same users and questions, with vectors that are late by so many of the user's own "
        "events or by so much time. A user with nothing older has no vector yet and finds nothing."
    )
    head = ["Late by", *_MAIN, "ndcg@10 against at once", "users with a vector"]
    rows = [
        [
            line.measured.name,
            *(_interval(line.measured.metrics[metric]) for metric in _MAIN),
            _signed(line.lost["ndcg@10"]),
            f"{line.told:.1%}",
        ]
        for line in protocol.staleness
    ]
    among = [line.lost_told for line in protocol.staleness if line.lost_told is not None]
    if len(among) == len(rows):
        head.append("against at once, among these")
        for row, lost in zip(rows, among, strict=True):
            row.append(_signed(lost["ndcg@10"]))
    yield Table(tuple(head), [tuple(row) for row in rows])
    if with_plots:
        yield Picture("staleness", "Metrics over the delay", plots.delays(protocol.staleness))


def _grid(grid: Grid, *, with_plots: bool) -> Iterator[Block]:
    yield Heading(3, "Granularities, fusions, context")
    yield Paragraph(
        "Each granularity alone, each left out, and all; what takes part weighs the same. Only "
        "what a model was trained for is asked of it: `train --every-subset` makes one that may be "
        "asked for all of these, with the context and without, and `--also FOLDER` adds other "
        "models, of another fusion, say. Untrained, all fusions are the same and the context is "
        "zero."
    )
    if not grid.lines:
        yield Paragraph("This model was trained for one configuration, that of the tables above.")
        return
    compared = any(line.against_all for line in grid.lines)
    last = ("ndcg@10 minus that of all",) if compared else ()
    yield Table(
        ("Granularities", "fusion", "context", "model", *_MAIN, *last),
        [_grid_row(line)[: 6 + len(last)] for line in grid.lines],
    )
    if with_plots and plots.has_grid(grid.lines):
        yield Picture("grid", "NDCG@10 of every configuration", plots.grid(grid.lines))
    if grid.difference:
        yield Paragraph(_verdict(grid, grid.difference["ndcg@10"]))


def _grid_row(line: GridLine) -> tuple[str, ...]:
    figures = [_interval(line.measured.metrics[metric]) for metric in _MAIN]
    context = "on" if line.context else "off"
    against = _signed(line.against_all) if line.against_all else ""
    return (line.granularities, line.fusion, context, line.model or OURS, *figures, against)


def _verdict(grid: Grid, gap: Estimate) -> str:
    if gap.low > 0.0:
        outcome = "All four beat the best one outside the interval"
    elif gap.high < 0.0:
        outcome = "All four do worse than the best one alone, outside the interval"
    else:
        outcome = "All four do not beat the best one: the difference lies within the interval"
    return (
        f"{outcome}: best of all four ({grid.best_of_all}) minus best alone ({grid.best_alone}) is "
        f"{_signed(gap)} in ndcg@10. Both were chosen on these questions, which flatters both."
    )


def _several(lines: Sequence[Measured]) -> Iterator[Block]:
    yield Heading(3, "One vector or K")
    if not lines:
        yield Paragraph("This model has one vector per user.")
        return
    yield Paragraph("An item's score by K vectors is that of the best of them.")
    yield _models(lines)


def _figure(value: float) -> str:
    return f"{value:.4f}"


def _interval(value: Estimate) -> str:
    return f"{value.mean:.4f} [{value.low:.4f}, {value.high:.4f}]"


def _signed(value: Estimate) -> str:
    return f"{value.mean:+.4f} [{value.low:+.4f}, {value.high:+.4f}]"
