"""Swap the words that name a group: how far does a user's vector move, and do the lists change?

Legend: B users of a block, R texts, D dimensions, N items.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from encoders.evaluation.interactions import Interactions
from encoders.evaluation.interest import all_time, held, window_batch
from encoders.evaluation.metrics import recommended
from encoders.evaluation.plan import Bar, Setting
from encoders.evaluation.ranking import BLOCK_USERS, cosine_scores
from encoders.evaluation.results import Counterfactual, Shift
from encoders.interface import Float32, Int32, Int64, InterestEncoder
from state.window import WindowPolicy

PAIRS = (
    ("woman", "man"), ("women", "men"), ("girl", "boy"), ("girls", "boys"), ("her", "his"),
    ("she", "he"), ("herself", "himself"), ("female", "male"), ("mother", "father"),
    ("daughter", "son"), ("sister", "brother"), ("sisters", "brothers"), ("wife", "husband"),
    ("wives", "husbands"), ("lady", "gentleman"), ("ladies", "gentlemen"), ("queen", "king"),
    ("princess", "prince"), ("mom", "dad"), ("bride", "groom"),
)  # fmt: skip
"""Words of gender, which texts of every kind have; ``him`` becomes ``her`` and not back."""

_OTHER = {"him": "her"} | {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}
_WORD = re.compile(r"\b(" + "|".join(_OTHER) + r")\b", re.IGNORECASE)


def swapped(text: str) -> str:
    """Return ``text`` with every group word exchanged, capitals kept.

    >>> swapped("Pretty Woman (1990). Her man, HIS girl.")
    'Pretty Man (1990). His woman, HER boy.'
    """
    return _WORD.sub(lambda match: _like(match[0], _OTHER[match[0].lower()]), text)


def _like(model: str, word: str) -> str:
    if model.isupper() and len(model) > 1:
        return word.upper()
    return word.capitalize() if model[0].isupper() else word


@dataclass(frozen=True)
class _Change:
    """What becomes of the texts with a group word."""

    what: str
    row_of: Int32
    """[R] the row that is read instead."""


def run(
    setting: Setting, encoder: InterestEncoder, policy: WindowPolicy, bar: Bar
) -> Counterfactual | None:
    """Return how far vectors and lists move; None where no asked user has such a text.

    The texts of the data must have been put into the encoder; two more rows are used for every
    text that has a group word, behind the texts' own.
    """
    texts = setting.questions.data.texts
    rows = np.array([row for row, text in enumerate(texts) if swapped(text) != text], dtype=int)
    changes = _put_changed(encoder, setting.questions.data, rows)
    has_word = np.zeros(len(texts) + 1, dtype=bool)  # the last for events without a text
    has_word[rows] = True
    windows = list(_windows(setting, policy))
    asked = [
        question
        for question, (_, window) in enumerate(windows)
        if has_word[setting.questions.data.rows[window]].any()
    ]
    if not asked:
        return None
    progress = bar("swapped words")
    found: dict[str, list[tuple[Float32, Float32]]] = {change.what: [] for change in changes}
    for start in range(0, len(asked), BLOCK_USERS):
        block = asked[start : start + BLOCK_USERS]
        for what, moved in _moved(setting, encoder, changes, windows, block):
            found[what].append(moved)
        progress(start + len(block), len(asked))
    return Counterfactual(
        PAIRS, len(rows), len(asked), len(windows), [_shift(*item) for item in found.items()]
    )


def _put_changed(encoder: InterestEncoder, data: Interactions, rows: Int64) -> list[_Change]:
    texts = data.texts
    own = np.arange(len(texts), dtype=np.int32)
    count = len(rows)
    behind = len(texts) + np.arange(2 * count, dtype=np.int32)
    # The same tokens under another key: what an item's own learned vector does, seen alone.
    new = [swapped(texts[row]) for row in rows] + [f"{texts[row]} " for row in rows]
    media = data.media_of(range(len(texts)))
    kept = {row: media[old] for row, old in zip(behind.tolist(), [*rows, *rows], strict=True)
            if old in media}  # fmt: skip
    encoder.put_texts(list(zip(behind.tolist(), new, strict=True)), kept)
    maps = []
    for replaced in (behind[:count], behind[count:], np.full(count, -1, dtype=np.int32)):
        row_of = own.copy()
        row_of[rows] = replaced
        maps.append(row_of)
    names = ("words swapped", "same words, item's own vector lost", "events left out")
    return [_Change(name, row_of) for name, row_of in zip(names, maps, strict=True)]


def _windows(setting: Setting, policy: WindowPolicy) -> Iterator[tuple[Int64, Int64]]:
    """Of every question the positions of all past events, and of those a window holds."""
    times_ms = setting.questions.data.times_ms
    for question in range(len(setting.questions)):
        past = setting.questions.past(question)
        yield past, held(past, times_ms, policy)


def _moved(
    setting: Setting,
    encoder: InterestEncoder,
    changes: list[_Change],
    windows: list[tuple[Int64, Int64]],
    block: list[int],
) -> Iterator[tuple[str, tuple[Float32, Float32]]]:
    """Yield per change the cosines [B] and the shares of the lists that stay [B]."""
    data = setting.questions.data
    told = [windows[question][0] for question in block]
    batch = window_batch(data, [windows[question][1] for question in block], all_time(data, told))
    seen = [setting.seen[question] for question in block]
    items = encoder.item_vectors(np.arange(len(data.item_ids), dtype=np.int32))
    before = encoder.encode(batch).vectors
    lists = recommended(cosine_scores(before, items), seen)
    for change in changes:
        rows = np.where(batch.rows >= 0, change.row_of[batch.rows], np.int32(-1))
        after = encoder.encode(replace(batch, rows=rows)).vectors
        stays = lists & recommended(cosine_scores(after, items), seen)
        overlap = stays.sum(axis=1) / np.maximum(lists.sum(axis=1), 1)
        cosines = (before * after).sum(axis=1)
        yield change.what, (cosines, overlap.astype(np.float32))


def _shift(what: str, moved: list[tuple[Float32, Float32]]) -> Shift:
    cosines = np.concatenate([cosine for cosine, _ in moved])
    overlaps = np.concatenate([overlap for _, overlap in moved])
    return Shift(
        what,
        len(cosines),
        float(cosines.mean()),
        float(np.quantile(cosines, 0.05)),
        float(overlaps.mean()),
    )
