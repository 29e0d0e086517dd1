"""Will this user buy this item? A logistic head on interest vectors, against plain features.

    python examples/purchase.py
    INTEREST_INTEREST_MODEL=model python examples/purchase.py

MovieLens-1M by the demo's convention: five stars are a purchase, anything else is not. Everything
is known only as of the moment before the event: counts, recency, and the vector that the worker
would have published by then. Heads learn on the first part of the time line and are tested on the
rest. Compared are features alone, vectors alone (user, item, and their elementwise product, whose
sum is the cosine), and both (stacked); intervals are over resampled users, differences are paired.

Legend: E events, Q questions (one event each), F features, D dimensions of a vector.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import typer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import encoders
from encoders.evaluation.interactions import Interactions, from_events, in_time_order
from encoders.evaluation.interest import all_time, held, put_texts, window_batch
from encoders.evaluation.ranking import Progress
from state.event import TYPE_CODES, Event, EventType
from state.window import WindowPolicy
from stream_app import movielens
from stream_app.cli.progress import progress_bars
from stream_app.errors import FixData, InterestStreamError
from stream_app.settings import load

EXAMPLE = "Example: INTEREST_INTEREST_MODEL=model python examples/purchase.py --questions 20000"

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PURCHASE = TYPE_CODES[EventType.PURCHASE]
STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0)
"""Tried strengths C of the head: the first 80 % of the training events choose, by the last 20 %."""
RESAMPLES = 1_000
_AT_ONCE = 256


@dataclass(frozen=True)
class Questions:
    """Events that are asked about, in time order."""

    data: Interactions
    positions: Ints
    """[Q] of events in ``data``."""
    bought: npt.NDArray[np.bool_]
    """[Q] the answers."""
    first_test: int
    """Questions from here on are the test."""


def purchase(
    events: Annotated[int, typer.Option(min=100, help="Only the first so many ratings.")] = (
        movielens.RATINGS
    ),
    questions: Annotated[int, typer.Option(min=100, help="Drawn from them.")] = 40_000,
    test_share: Annotated[
        float, typer.Option(min=0.05, max=0.9, help="The last so much of the time line.")
    ] = 0.3,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
) -> None:
    """Predict purchases from interest vectors, from plain features, and from both: AUC.

    The model is that of the settings: INTEREST_INTEREST_MODEL is its folder, empty untrained.
    """
    settings = load()
    asked = draw(interactions(events, seed), questions, test_share, seed)
    inputs = {"features": features(asked)}
    encoder = encoders.build(settings.encoder_config())
    try:
        with progress_bars(shown=True) as bar:
            put_texts(encoder, asked.data, bar("texts"))
            inputs["vectors"] = vectors(encoder, asked, settings.window_policy(), bar("vectors"))
    finally:
        encoder.close()
    scores = {name: head_scores(columns, asked) for name, columns in inputs.items()}
    scores["both"] = stacked_scores(inputs["features"], inputs["vectors"], asked)
    for line in report(scores, asked, encoder.info.model_id, seed):
        print(line)


def interactions(count: int, seed: int) -> Interactions:
    """Return the first ``count`` ratings as events; those of one second in a random order."""
    catalogue = {item["item_id"]: item["text"] for item in movielens.items()}
    events = []
    for rating in movielens.ratings(count):
        record = movielens.event(rating)
        events.append(msgspec.convert(record, Event))
    return in_time_order(from_events(events, catalogue), seed=seed)


def draw(data: Interactions, count: int, test_share: float, seed: int) -> Questions:
    """Return ``count`` events, drawn from those whose user had an event before.

    Raises:
        FixData: there are not both purchases and others on both sides of the split.
    """
    _, first = np.unique(data.users, return_index=True)
    later = np.setdiff1d(np.arange(len(data)), first)
    drawn = np.random.default_rng(seed).choice(later, min(count, len(later)), replace=False)
    positions = np.sort(drawn)
    bought = data.types[positions] == PURCHASE
    first_test = int(np.searchsorted(positions, round(len(data) * (1.0 - test_share))))
    for side in (bought[:first_test], bought[first_test:]):
        if not side.any() or side.all():
            raise FixData("too few events for a split: each side needs purchases and others")
    return Questions(data, positions, bought, first_test)


def features(asked: Questions) -> Floats:
    """Return [Q, F]: what can be counted without any vector, as of just before each event."""
    data = asked.data
    columns = []
    for who in (data.users, data.items):
        all_before = before(who, np.ones(len(data)))
        bought = before(who, data.types == PURCHASE)
        clicked = before(who, data.types == TYPE_CODES[EventType.CLICK])
        columns += [np.log1p(all_before), np.log1p(bought), np.log1p(clicked)]
        # Shares start at one half and move with evidence (Laplace's rule of succession).
        columns.append((bought + 1.0) / (all_before + 2.0))
    columns.append(np.log1p(since_last(data.users, data.times_ms) / 1000.0))
    columns.append(np.log1p(since_last(data.items, data.times_ms) / 1000.0))
    return np.stack(columns, axis=1)[asked.positions]


def before(who: Ints, amounts: npt.NDArray[np.generic]) -> Floats:
    """Return [E] the sum of ``amounts`` over the earlier events of the same user or item."""
    order = np.argsort(who, kind="stable")
    ahead = np.concatenate([[0.0], np.cumsum(amounts[order].astype(np.float64))[:-1]])
    _, starts, of_group = np.unique(who[order], return_index=True, return_inverse=True)
    sums = np.empty(len(who))
    sums[order] = ahead - ahead[starts][of_group]
    return sums


def since_last(who: Ints, times_ms: Ints) -> Floats:
    """Return [E] milliseconds since the previous event of the same user or item; a year if none."""
    order = np.argsort(who, kind="stable")
    gaps = np.diff(times_ms[order], prepend=0).astype(np.float64)
    _, starts = np.unique(who[order], return_index=True)
    gaps[starts] = 365.0 * 86_400_000
    found = np.empty(len(who))
    found[order] = gaps
    return found


def vectors(
    encoder: encoders.InterestEncoder, asked: Questions, policy: WindowPolicy, progress: Progress
) -> Floats:
    """Return [Q, 3 D]: the vector that the worker would have published before each event, the
    item's, and their product, in blocks."""
    data, positions = asked.data, asked.positions
    pasts, rows = pasts_of(data, positions), data.rows[positions]
    parts = []
    for start in range(0, len(positions), _AT_ONCE):
        block = slice(start, start + _AT_ONCE)
        parts.append(pair_vectors(encoder, data, pasts[block], rows[block], policy))
        progress(start + len(parts[-1]), len(positions))
    return np.concatenate(parts)


def pair_vectors(
    encoder: encoders.InterestEncoder, data: Interactions, pasts: Sequence[Ints],
    rows: npt.NDArray[np.int32], policy: WindowPolicy,
) -> Floats:  # fmt: skip
    """Return [Q, 3 D]: the user's vector of each past, the item's of each row, their product."""
    windows = [held(past, data.times_ms, policy) for past in pasts]
    users = encoder.encode(window_batch(data, windows, all_time(data, list(pasts)))).vectors
    items = encoder.item_vectors(rows)
    return np.hstack([users, items, users * items]).astype(np.float64)


def pasts_of(data: Interactions, positions: Ints) -> list[Ints]:
    """Return the positions of the same user's events before each of ``positions``."""
    order = np.argsort(data.users, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    starts = np.searchsorted(data.users[order], data.users[positions])
    return [order[start:stop] for start, stop in zip(starts, place[positions], strict=True)]


def head_scores(columns: Floats, asked: Questions) -> Floats:
    """Return [test questions] the log odds of a purchase; the test part is only scored."""
    scores: Floats = head(columns, asked, 0, asked.first_test).decision_function(
        columns[asked.first_test :]
    )
    return scores


def stacked_scores(features: Floats, vectors: Floats, asked: Questions) -> Floats:
    """Return [test questions] the log odds by both: the vectors' head, taught by the first half of
    the training events, is one more feature for a head taught by the second half.

    Side by side, a thousand columns of vectors would drown ten of features, and a head that is
    scored on what it was taught with would be trusted too much (Wolpert 1992, stacking).
    """
    half = asked.first_test // 2
    opinion = head(vectors, asked, 0, half).decision_function(vectors)
    columns = np.column_stack([features, opinion])
    scores: Floats = head(columns, asked, half, asked.first_test).decision_function(
        columns[asked.first_test :]
    )
    return scores


def head(columns: Floats, asked: Questions, start: int, stop: int) -> Pipeline:
    """Return a logistic head taught by questions ``start`` to ``stop``.

    Raises:
        FixData: there are not both purchases and others among what teaches it and what chooses.
    """
    train, bought = columns[start:stop], asked.bought[start:stop]
    cut = round(len(train) * 0.8)
    for part in (bought[:cut], bought[cut:]):
        if not part.any() or part.all():
            raise FixData(
                f"too few events to learn from: {len(part)} of them hold {int(part.sum())} "
                "purchases, and both purchases and others are needed; ask for more --questions "
                "or a smaller --test-share"
            )

    def fitted(strength: float, until: int) -> Pipeline:
        regression = LogisticRegression(C=strength, max_iter=1_000)
        return make_pipeline(StandardScaler(), regression).fit(train[:until], bought[:until])

    def chosen_by(strength: float) -> float:
        found = fitted(strength, cut).decision_function(train[cut:])
        return float(roc_auc_score(bought[cut:], found))

    return fitted(max(STRENGTHS, key=chosen_by), len(train))


def report(
    scores: Mapping[str, Floats], asked: Questions, model_id: str, seed: int
) -> Iterator[str]:
    """Yield the AUC of each input with its 95 % interval, and the gaps to the features."""
    bought = asked.bought[asked.first_test :]
    users = asked.data.users[asked.positions[asked.first_test :]]
    yield f"model {model_id}: {asked.first_test} events to learn from, {len(bought)} to be tested"
    yield f"by {len(np.unique(users))} users, {bought.mean():.1%} of them purchases"
    drawn = {name: resampled_auc(bought, found, users, seed) for name, found in scores.items()}
    aucs = {name: roc_auc_score(bought, found) for name, found in scores.items()}
    for name, auc in aucs.items():
        line = f"{name:9} AUC {auc:.4f} {ends(drawn[name])}"
        if name != "features":
            gap = drawn[name] - drawn["features"]
            line += f"  over features {auc - aucs['features']:+.4f} {ends(gap, '+')}"
        yield line


def ends(values: Floats, sign: str = "") -> str:
    """Return the ends of the 95 % interval as text."""
    low, high = np.quantile(values, (0.025, 0.975))
    return f"({low:{sign}.4f} {high:{sign}.4f})"


def resampled_auc(bought: npt.NDArray[np.bool_], scores: Floats, users: Ints, seed: int) -> Floats:
    """Return [R] AUCs, of users drawn with repetition; the same users for the same seed."""
    _, of_user = np.unique(users, return_inverse=True)
    count = int(of_user.max()) + 1
    _, rank = np.unique(scores, return_inverse=True)
    rng = np.random.default_rng(seed)
    share = np.full(count, 1.0 / count)
    return np.array(
        [
            weighted_auc(bought, rank, rng.multinomial(count, share)[of_user].astype(np.float64))
            for _ in range(RESAMPLES)
        ]
    )


def weighted_auc(bought: npt.NDArray[np.bool_], rank: Ints, weights: Floats) -> float:
    """Return how often a purchase stands above another event, a tie counting half.

    ``rank`` [Q] numbers the distinct scores, ascending; ``weights`` [Q] say how often each
    question was drawn. As scikit-learn's ``roc_auc_score``, which sorts anew for every draw.
    """
    places = int(rank.max()) + 1
    above = np.bincount(rank, weights * bought, places)
    other = np.bincount(rank, weights * ~bought, places)
    below = np.cumsum(other) - other / 2.0
    return float(above @ below / (above.sum() * other.sum()))


def main() -> None:
    """Run; what an operator can mend is one line."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(epilog=EXAMPLE)(purchase)
    try:
        app()
    except (InterestStreamError, encoders.EncoderError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
