"""Texts to tokens, and what each token weighs in the text's three vectors.

Legend: n tokens of a text, V words of the vocabulary.

All three vectors of a text are weighted sums of its token vectors h_t, so one forward pass and
one weight matrix [3, n] give them:

- word: words are means of their tokens, weighted by salience:
  salience(w(t)) / tokens(w(t)) / sum of salience
- sentence: mean over sentences of the mean over each one's tokens: 1 / tokens(s(t)) / sentences
- text: 1 / n over all tokens with the special ones (or the first, or the last, token alone)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding

from encoders.interface import Float32, Int64

WORD, SENTENCE, TEXT = range(3)
LEVELS = 3

_SENTENCE_END = re.compile(r"(?:[.!?…]+[\"'”’)\]]*\s+(?![a-z])|[。！？]+|\n+)\s*")
"""A sentence ends at . ! ? or an ellipsis (closing quotes and brackets belong to it) before white
space that no lower-case letter follows, at their full-width forms, and at a line end."""


@dataclass(frozen=True)
class TokenisedText:
    """A text ready for the model."""

    ids: Int64
    """[n] token ids, special tokens included."""
    weights: Float32
    """[3, n] what each token weighs in the word, sentence and text vector."""
    words: Int64
    """[n] number of each token's word in the text, from 0; -1: a special token."""


def sentence_starts(text: str) -> list[int]:
    """Return the character offsets at which sentences start.

    >>> sentence_starts("Heat (1995). A heist. It costs e.g. 5.5 dollars!")
    [0, 13, 22]
    """
    ends = (match.end() for match in _SENTENCE_END.finditer(text))
    return [0, *(end for end in ends if end < len(text))]


def weigh_tokens(
    text: str, encoding: Encoding, salience: Float32 | None, pooling: str
) -> TokenisedText | None:
    """Return the tokens with their weights; None where the text has no token of its own.

    ``salience`` is [V] per token id, None for uniform; ``pooling`` is mean, cls or last.
    """
    ids = np.array(encoding.ids, dtype=np.int64)
    own = np.array(encoding.special_tokens_mask, dtype=np.int64) == 0
    if not own.any():
        return None
    weights = np.zeros((LEVELS, len(ids)), dtype=np.float64)
    weights[WORD, own] = _word_weights(encoding, ids, own, salience)
    starts = np.array([start for start, _ in encoding.offsets], dtype=np.int64)[own]
    sentence = np.searchsorted(sentence_starts(text), starts, side="right")
    weights[SENTENCE, own] = _per_group(sentence)
    if pooling == "mean":
        weights[TEXT] = 1.0 / len(ids)
    else:
        weights[TEXT, 0 if pooling == "cls" else -1] = 1.0
    words = np.full(len(ids), -1, dtype=np.int64)
    words[own] = _word_numbers(encoding, own)
    return TokenisedText(ids, weights.astype(np.float32), words)


def _word_weights(
    encoding: Encoding, ids: Int64, own: np.ndarray, salience: Float32 | None
) -> np.ndarray:
    word = _word_numbers(encoding, own)
    if salience is None:
        return _per_group(word)
    tokens = np.bincount(word)
    of_word = np.bincount(word, weights=salience[ids[own]]) / tokens
    total = of_word.sum()
    if total <= 0.0:
        return _per_group(word)
    weights: np.ndarray = (of_word / tokens / total)[word]
    return weights


def _word_numbers(encoding: Encoding, own: np.ndarray) -> Int64:
    words = np.array([-1 if word is None else word for word in encoding.word_ids])[own]
    _, numbers = np.unique(words, return_inverse=True)
    return numbers.astype(np.int64)


def _per_group(groups: np.ndarray) -> np.ndarray:
    """Weights that make a sum over tokens the mean over groups of each group's mean."""
    _, group, tokens = np.unique(groups, return_inverse=True, return_counts=True)
    weights: np.ndarray = 1.0 / tokens[group] / len(tokens)
    return weights
