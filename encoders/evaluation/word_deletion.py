"""Whether the shares of words are faithful: words are taken out of a text, and the score falls.

As ``deletion`` does with events, but the text model reads the shorter text anew, so this also asks
how far a word's share is its own and not that of the words beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from encoders.evaluation.bootstrap import Estimate, estimates
from encoders.evaluation.interactions import Interactions
from encoders.evaluation.interest import window_batch
from encoders.evaluation.results import Deleted
from encoders.interface import Float32, Int64, InterestEncoder

if TYPE_CHECKING:
    from encoders.evaluation.explanation import Explainer, Explanation

TAKEN_OUT = (1, 2, 3)


def run(
    data: Interactions,
    encoder: InterestEncoder,
    explainer: Explainer,
    explained: Sequence[tuple[Int64, Explanation]],
    items: Float32,
    seed: int,
) -> list[Deleted]:
    """Return what is left of the scores without some words of the event that contributes most.

    ``explained`` are the positions of a window's events and its explanation, ``items`` [B, D] what
    each is of. Only those count whose text has more words than are ever taken out. The rows behind
    the texts' own are used, as many as there are users.
    """
    cases = []
    for (window, told), item in zip(explained, items, strict=True):
        event = int(told.events.sum(axis=0).argmax())
        words = explainer.words(told, event)
        if len(_telling(words)) > max(TAKEN_OUT):
            cases.append((window, told, event, words, item))
    cases = cases[: 2 * len(data.texts)]
    if not cases:
        return []
    rng = np.random.default_rng(seed)
    batch = window_batch(data, [window for window, *_ in cases])
    replaced = batch.offsets[:-1] + [told.places[event] for _, told, event, *_ in cases]
    rows = batch.rows.copy()
    behind = len(data.texts) + np.arange(len(cases), dtype=np.int32)
    own = rows[replaced].tolist()
    rows[replaced] = behind
    changed = replace(batch, rows=rows)
    brought = data.media_of(range(len(data.texts)))
    media = {
        row: brought[old] for row, old in zip(behind.tolist(), own, strict=True) if old in brought
    }
    orders: dict[str, list[Int64]] = {"most": [], "random": [], "least": []}
    for _, _, _, words, _ in cases:
        telling = _telling(words)
        ranked = telling[np.argsort([-words[at][1] for at in telling], kind="stable")]
        orders["most"].append(ranked)
        orders["random"].append(rng.permutation(ranked))
        orders["least"].append(ranked[::-1])
    wanted = np.array([item for *_, item in cases])

    def left(out: Sequence[Int64]) -> Estimate:
        texts = [
            _without(words, gone) for (_, _, _, words, _), gone in zip(cases, out, strict=True)
        ]
        encoder.put_texts(list(zip(behind.tolist(), texts, strict=True)), media)
        scores = (encoder.encode(changed).vectors * wanted).sum(axis=1).astype(np.float64)
        return estimates({"left": scores}, np.arange(len(cases)), seed=seed)["left"]

    return [
        Deleted(count, **{how: left([o[:count] for o in order]) for how, order in orders.items()})
        for count in (0, *TAKEN_OUT)
    ]


def _telling(words: Sequence[tuple[str, float]]) -> Int64:
    """Places of what is more than a sign."""
    found = [at for at, (word, _) in enumerate(words) if any(sign.isalnum() for sign in word)]
    return np.array(found, dtype=np.int64)


def _without(words: Sequence[tuple[str, float]], gone: Int64) -> str:
    """The rest of the text, never under the key of the whole: an item's own vector would go too,
    and with the first word already."""
    return " ".join(word for at, (word, _) in enumerate(words) if at not in gone) + " "
