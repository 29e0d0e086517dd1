"""Words' salience, learned: what a word weighs in its text's vector of words.

Legend: R texts, n of them at hand, S tokens of all texts, W words of them, T dimensions of the text
model, V tokens of its vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from encoders.interface import Int64
from encoders.text_encoder import TextEncoder
from encoders.tokens import SENTENCE, TEXT, WORD
from encoders.training.learned_texts import LearnedTexts

_TEXTS_AT_ONCE = 256


class LearnedSalience(LearnedTexts):
    """Each token weighs what it did in the catalogue, times the exponential of what is learned.

    The vectors of all tokens are kept, for the text model does not change: 1.5 kB a token.
    """

    def __init__(
        self,
        levels: torch.Tensor,
        width: int,
        tensors: Mapping[str, torch.Tensor],
        texts: Sequence[str],
        encoder: TextEncoder,
    ) -> None:
        super().__init__(levels, width, tensors)
        device = levels.device
        self._start = tensors["salience"].to(device)
        self.change = nn.Parameter(torch.zeros_like(self._start))
        hidden, ids, words, rows = _own_tokens(texts, encoder)
        self._hidden = hidden.to(device)
        self._ids, self._words = (
            torch.from_numpy(ids).to(device),
            torch.from_numpy(words).to(device),
        )
        self._rows, text = np.unique(rows, return_inverse=True)
        self._text = torch.from_numpy(text).to(device)
        first = np.flatnonzero(np.diff(words, prepend=-1))
        self._text_of_word = self._text[torch.from_numpy(first).to(device)]
        self._in_word = torch.bincount(self._words).float()
        begins = np.flatnonzero(np.diff(text, prepend=-1))
        self._begins = torch.from_numpy(begins).to(device)

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """See ``LearnedTexts``."""
        return {"text.salience": self.change}

    def salience(self) -> torch.Tensor:
        """Return [V] what each token weighs by now."""
        return (self._start * self.change.exp()).detach().cpu()

    def refresh(self) -> None:
        """See ``LearnedTexts``."""
        self.end_step()
        with torch.no_grad():
            self._levels[torch.from_numpy(self._rows).to(self._place.device)] = self._anew(
                self._rows
            )

    def _chosen(self, rows: Int64, generator: np.random.Generator) -> Int64:
        return np.intersect1d(rows, self._rows)

    def _anew(self, rows: Int64) -> torch.Tensor:
        """All texts first: that is one pass over the tokens. Their other levels do not change."""
        salience = (self._start * self.change.exp())[self._ids]
        of_word = torch.zeros_like(self._in_word).index_add(0, self._words, salience)
        of_word = of_word / self._in_word
        total = torch.zeros(len(self._rows), device=of_word.device)
        total = total.index_add(0, self._text_of_word, of_word)
        weights = (of_word / self._in_word)[self._words] / total[self._text]
        every = torch.arange(len(self._ids), device=weights.device)
        summed = functional.embedding_bag(
            every, self._hidden, self._begins, mode="sum", per_sample_weights=weights
        )
        words = functional.normalize(summed, dim=1)
        at = torch.from_numpy(np.searchsorted(self._rows, rows)).to(words.device)
        whitened = (words[at] - self._centre[WORD]) @ self._whiten[WORD].T
        held = self._levels[torch.from_numpy(rows).to(words.device)]
        return torch.stack([whitened, held[:, SENTENCE], held[:, TEXT]], dim=1)


def _own_tokens(
    texts: Sequence[str], encoder: TextEncoder
) -> tuple[torch.Tensor, Int64, Int64, Int64]:
    """Return of every token that is no special one its vector [S, T], its id, the number of its
    word, counted over all texts, and its text's row."""
    hidden, ids, words, rows = [], [], [], []
    count = 0
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        chosen = encoder.token_vectors(texts[start : start + _TEXTS_AT_ONCE])
        for row, vectors, own, word in sorted(chosen, key=lambda found: found[0]):
            hidden.append(vectors)
            ids.append(own)
            words.append(word + count)
            count += int(word.max()) + 1
            rows.append(np.full(len(own), start + row))
    return torch.cat(hidden), np.concatenate(ids), np.concatenate(words), np.concatenate(rows)
