"""The drift report: what was compared, as JSON and as blocks of a page with plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from encoders.evaluation import drift_plots
from encoders.evaluation.drift import Drift, Spread
from encoders.evaluation.pages import Block, Code, Heading, Paragraph, Picture, Table

_SHOWN_USERS = 20


@dataclass(frozen=True)
class Side:
    """One of the two: what is live, or the shadow."""

    topic: str
    model_id: str
    users: int
    """Whose newest update is of this model."""
    of_other_models: int
    """Users whose newest update is of another; they are left out."""


@dataclass(frozen=True)
class Part:
    """One thing compared: the vectors, a granularity's, or the items'."""

    name: str
    drift: Drift | None
    reason: str = ""
    """Why there is nothing."""
    ids: Sequence[str] = ()
    """Of the users or items compared, in the order of the arrays of ``drift``."""

    def each(self) -> dict[str, dict[str, Any]]:
        """Return what was found of each id; neighbours are looked for of some only."""
        drift = self.drift
        if drift is None:
            return {}
        kept = dict(zip(drift.asked.tolist(), drift.kept.tolist(), strict=True))
        found = {}
        for at, name in enumerate(self.ids):
            figures: dict[str, Any] = {
                "norms": [round(float(lengths[at]), 6) for lengths in drift.lengths],
                "aligned_cosine": round(float(drift.aligned[at]), 6),
                "neighbours_kept": round(kept[at], 4) if at in kept else None,
            }
            if drift.cosine is not None:
                figures["cosine"] = round(float(drift.cosine[at]), 6)
            found[name] = figures
        return found


@dataclass(frozen=True)
class Report:
    """Two models on one past."""

    command: str
    live: Side
    shadow: Side
    only_live: int
    """Users with a vector in the live topic only; ``only_shadow`` the other way round."""
    only_shadow: int
    at_other_offsets: int
    """Users left out because the two vectors are not of the same window."""
    sampled_of: int
    """Users that the sample was drawn from."""
    vectors: Part
    granularities: list[Part]
    items: Part
    notes: list[str] = field(default_factory=list)

    @property
    def parts(self) -> list[Part]:
        """Everything compared."""
        return [self.vectors, *self.granularities, self.items]

    def as_json(self) -> dict[str, Any]:
        """Return every figure, users with what was found of each among them."""
        return {
            "command": self.command,
            "live": vars(self.live),
            "shadow": vars(self.shadow),
            "only_live": self.only_live,
            "only_shadow": self.only_shadow,
            "at_other_offsets": self.at_other_offsets,
            "sampled_of": self.sampled_of,
            "parts": {part.name: _figures(part) for part in self.parts},
            "users": self._users(),
            "notes": self.notes,
        }

    def _users(self) -> list[dict[str, Any]]:
        by_granularity = {part.name: part.each() for part in self.granularities if part.drift}
        return [
            {
                "user": user,
                **figures,
                "granularities": {
                    name: each[user] for name, each in by_granularity.items() if user in each
                },
            }
            for user, figures in self.vectors.each().items()
        ]


def _figures(part: Part) -> dict[str, Any]:
    drift = part.drift
    if drift is None:
        return {"not_compared": part.reason}
    figures: dict[str, Any] = {
        "compared": drift.compared,
        "zero": {"live": drift.zero[0], "shadow": drift.zero[1]},
        "norms": {"live": vars(drift.norms[0]), "shadow": vars(drift.norms[1])},
        "neighbours_kept": vars(Spread.of(drift.kept)),
        "neighbours_kept_by_chance": drift.kept_by_chance,
        "neighbours_jaccard": vars(Spread.of(drift.jaccard)),
        "rank_correlation": drift.rank_correlation,
        "linear_cka": drift.cka,
        "aligned_cosine": vars(Spread.of(drift.aligned)),
    }
    if drift.cosine is not None:
        figures["cosine"] = vars(Spread.of(drift.cosine))
    return figures


def blocks(report: Report, *, with_plots: bool) -> list[Block]:
    """Return the page; without plots where matplotlib is not installed."""
    page: list[Block] = [
        Heading(1, "Two models on one past"),
        Code(report.command),
        Table(("", "live", "shadow"), list(_sides(report))),
        Paragraph(
            "Two models' spaces have nothing to do with each other, so compared is who is near "
            "whom. Neighbours kept: of somebody's 10 nearest by the one model, how many are among "
            "the 10 nearest by the other; 1 is no drift. Rank correlation (Spearman's, of all "
            "pairs' cosines) and linear CKA are 1 for spaces that differ by a rotation only. The "
            "aligned cosine is that of the two vectors once the best rotation, found on the other "
            "half of the users, has laid one space onto the other."
        ),
        Table(_HEAD, [_row(part) for part in report.parts]),
    ]
    page += [Paragraph(f"{part.name}: {part.reason}.") for part in report.parts if part.reason]
    page += [Paragraph(note) for note in report.notes]
    page += list(_most_changed(report))
    if with_plots:
        shown = [(part.name, part.drift) for part in report.parts if part.drift is not None]
        if shown:
            page.append(Picture("neighbours", "Neighbours kept", drift_plots.neighbours(shown)))
            page.append(Picture("aligned", "Aligned cosine", drift_plots.aligned(shown)))
            page.append(Picture("norms", "Norms", drift_plots.norms(shown)))
    return page


_HEAD = (
    "Compared", "N", "zero live / shadow", "neighbours kept", "by chance", "Jaccard",
    "rank correlation", "CKA", "cosine", "aligned cosine", "norm live / shadow",
)  # fmt: skip


def _sides(report: Report) -> Iterator[tuple[str, str, str]]:
    live, shadow = report.live, report.shadow
    yield "topic", live.topic, shadow.topic
    yield "model", live.model_id, shadow.model_id
    yield "users with a vector", f"{live.users:,}", f"{shadow.users:,}"
    yield "users of other models", f"{live.of_other_models:,}", f"{shadow.of_other_models:,}"
    yield "users only here", f"{report.only_live:,}", f"{report.only_shadow:,}"


def _row(part: Part) -> tuple[str, ...]:
    drift = part.drift
    if drift is None:
        return (part.name, *("" for _ in _HEAD[1:]))
    norms = " / ".join(f"{norm.mean:.3f}" for norm in drift.norms)
    return (
        part.name,
        f"{drift.compared:,}",
        f"{drift.zero[0]:,} / {drift.zero[1]:,}",
        f"{drift.kept.mean():.3f}",
        f"{drift.kept_by_chance:.3f}",
        f"{drift.jaccard.mean():.3f}",
        f"{drift.rank_correlation:.3f}",
        f"{drift.cka:.3f}",
        "" if drift.cosine is None else f"{drift.cosine.mean():.3f}",
        f"{drift.aligned.mean():.3f}",
        norms,
    )


def _most_changed(report: Report) -> Iterator[Block]:
    drift = report.vectors.drift
    if drift is None:
        return
    yield Heading(2, "Users who changed most")
    order = np.lexsort((drift.aligned[drift.asked], drift.kept))[:_SHOWN_USERS]
    rows = [
        (
            report.vectors.ids[drift.asked[at]],
            f"{drift.kept[at]:.1f}",
            f"{drift.aligned[drift.asked[at]]:.3f}",
        )
        for at in order
    ]
    yield Table(("User", "neighbours kept", "aligned cosine"), rows)
