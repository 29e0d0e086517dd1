"""Whether the shares of words are faithful: words are taken out of a text, and the score falls.

As ``deletion`` does with events, but the text model reads the shorter text anew, so this also asks
how far a word's share is its own and not that of the words beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from encoders.evaluation.interactions import Interactions
from encoders.evaluation.interest import window_batch
from encoders.evaluation.metrics import Float64
from encoders.evaluation.results import Deleted
from encoders.evaluation.taking_out import taking_out
from encoders.interface import Float32, Int64, InterestEncoder

if TYPE_CHECKING:
    from encoders.evaluation.explanation import Explainer, Explanation

TAKEN_OUT = (1, 2, 3)


@dataclass(frozen=True)
class _Case:
    """The event that contributes most to one score."""

    window: Int64
    """Positions of the window's events."""
    place: int
    """Of the event among them."""
    words: Sequence[tuple[str, float]]
    """Of its text, with their shares."""
    counts: Int64
    """[types] all events that the user ever had."""
    item: Float32
    """[D] what the score is of."""

    def by_share(self) -> Int64:
        """Places of the words that are more than a sign, the largest share first."""
        telling = [
            at for at, (word, _) in enumerate(self.words) if any(sign.isalnum() for sign in word)
        ]
        return np.array(sorted(telling, key=lambda at: -self.words[at][1]), dtype=np.int64)

    def text_without(self, gone: Int64) -> str:
        """The rest of the text, never under the key of the whole: an item's own vector would go
        with the first word."""
        return " ".join(word for at, (word, _) in enumerate(self.words) if at not in gone) + " "


def run(
    data: Interactions,
    encoder: InterestEncoder,
    explainer: Explainer,
    explained: Sequence[tuple[Int64, Explanation]],
    counts: Int64,
    items: Float32,
    seed: int,
) -> list[Deleted]:
    """Return what is left of the scores without some words of the event that contributes most.

    ``explained`` are the positions of a window's events and its explanation, ``counts`` [B, types]
    all events of its user, ``items`` [B, D] what each is of. Only those count whose text has more
    words than are ever taken out. The rows behind the texts' own are used, at most two for each
    text.
    """
    cases = []
    for (window, told), ever, item in zip(explained, counts, items, strict=True):
        event = int(told.events.sum(axis=0).argmax())
        case = _Case(window, int(told.places[event]), explainer.words(told, event), ever, item)
        if len(case.by_share()) > max(TAKEN_OUT):
            cases.append(case)
    cases = cases[: 2 * len(data.texts)]
    if not cases:
        return []
    ever = np.array([case.counts for case in cases])
    batch = window_batch(data, [case.window for case in cases], ever)
    changed = batch.offsets[:-1] + [case.place for case in cases]
    behind = np.arange(len(data.texts), len(data.texts) + len(cases), dtype=np.int32)
    media = data.media_of(range(len(data.texts)))
    pairs = zip(behind.tolist(), batch.rows[changed].tolist(), strict=True)
    brought = {row: media[old] for row, old in pairs if old in media}
    rows = batch.rows.copy()
    rows[changed] = behind
    batch = replace(batch, rows=rows)
    wanted = np.array([case.item for case in cases])

    def scores_without(gone: Sequence[Int64]) -> Float64:
        texts = [case.text_without(words) for case, words in zip(cases, gone, strict=True)]
        encoder.put_texts(list(zip(behind.tolist(), texts, strict=True)), brought)
        scores: Float64 = (encoder.encode(batch).vectors * wanted).sum(axis=1).astype(np.float64)
        return scores

    ranked = [case.by_share() for case in cases]
    return taking_out(ranked, TAKEN_OUT, scores_without, seed, np.random.default_rng(seed))
