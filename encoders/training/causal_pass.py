"""One pass over windows that gives the user's vector as it is after every event.

It goes through the modules that serve (``InterestModel`` and its reader and tower), so what is
trained is what runs; only pooling and context are computed for all events at once here.

Legend: B windows, L events, P asked events, n texts at hand, N items, T text dimensions, D of the
vectors, K interests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from encoders.config import InterestConfig
from encoders.event_weights import rank_table
from encoders.interest_model import InterestModel, unit_or_zero
from encoders.interface import MEDIA, Int64
from encoders.tokens import SENTENCE, TEXT, WORD
from encoders.training.windows import Windows
from state.event import TYPE_CODES, EventType

LEVEL_OF = {"word": WORD, "sentence": SENTENCE, "paragraph": TEXT, "document": TEXT}


class Texts(Protocol):
    """Where the vectors of texts come from: a table, or something that is learned, too."""

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Return what is learned, by name."""

    def begin_step(self, rows: Int64, generator: np.random.Generator) -> None:
        """Get ready for a step that needs these different rows."""

    def refresh(self) -> None:
        """Take up what has been learned, for all texts."""

    def take(self, rows: torch.Tensor, level: int) -> torch.Tensor:
        """[n] rows -> [n, T] centred and whitened vectors of one level."""

    def tower_x(self, rows: torch.Tensor) -> torch.Tensor:
        """[n] rows -> [n, width] what the tower takes."""


class FrozenTexts:
    """Vectors that do not change: a look-up."""

    def __init__(self, levels: torch.Tensor, width: int) -> None:
        self._levels = [level.contiguous() for level in levels.unbind(1)]
        self._tower_x = self._levels[TEXT] if width == levels.shape[-1] else levels.flatten(1)

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """See ``Texts``: nothing."""
        return {}

    def begin_step(self, rows: Int64, generator: np.random.Generator) -> None:
        """See ``Texts``: nothing to do."""

    def refresh(self) -> None:
        """See ``Texts``: nothing to do."""

    def take(self, rows: torch.Tensor, level: int) -> torch.Tensor:
        """See ``Texts``."""
        return functional.embedding(rows, self._levels[level])

    def tower_x(self, rows: torch.Tensor) -> torch.Tensor:
        """See ``Texts``."""
        return self._tower_x[rows]


@dataclass(frozen=True)
class Towers:
    """The tower's vectors of some texts, at hand for one batch."""

    vectors: torch.Tensor
    """[n, D] not scaled to unit length."""
    place_of: Int64
    """[R] where each row's vector is; -1: not at hand."""

    def places(self, rows: Int64, device: torch.device) -> torch.Tensor:
        """Rows of any shape -> where their vectors are."""
        return torch.from_numpy(self.place_of[rows]).to(device)


@dataclass(frozen=True)
class Subset:
    """What of a model takes part in a batch."""

    granularities: tuple[str, ...]
    context: bool

    @classmethod
    def drawn(cls, model: InterestModel, generator: np.random.Generator) -> Subset:
        """Return all granularities, all but one, or one alone, with the context or without, each
        as likely: modality dropout (Neverova et al. 2016, ModDrop, arXiv:1501.00102, section 3.3),
        drawn from what is compared rather than part by part."""
        every = model.active
        how, one = generator.integers(3), every[generator.integers(len(every))]
        names = [every, tuple(name for name in every if name != one) or every, (one,)][how]
        return cls(names, model.uses_context and bool(generator.integers(2)))


class CausalPass:
    """A model, and the vectors of the texts it reads."""

    def __init__(
        self,
        model: InterestModel,
        texts: Texts,
        residual_places: Int64,
        device: torch.device,
        media: torch.Tensor | None = None,
    ) -> None:
        """``residual_places`` is [R] the place of each text's residual, -1 where it has none;
        ``media`` [R, M + 1] what each brings beside its text, of a model that takes it."""
        self.model = model
        self.texts = texts
        self.device = device
        self.rules: InterestConfig = model.config
        self._residual_places = torch.from_numpy(residual_places).to(device)
        self._media = None if media is None else media.to(device)
        self._count = len(residual_places)
        self._by_rank = torch.from_numpy(rank_table(self.rules.rank_half_life_events)).float()
        self._by_rank = self._by_rank.to(device)
        by_type = [self.rules.event_type_weights.get(kind.value, 1.0) for kind in TYPE_CODES]
        self._by_type = torch.tensor(by_type, device=device)

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Return all that is learned, by name."""
        return dict(self.model.named_parameters()) | self.texts.named_parameters()

    def towers(self, rows: Int64) -> Towers:
        """Return the tower's vectors of [n] different rows."""
        assert self.model.tower is not None
        chosen = torch.from_numpy(rows).to(self.device)
        x = self.texts.tower_x(chosen)
        media = None if self._media is None else self._media[chosen]
        vectors = self.model.tower(x, self._residual_places[chosen], media)
        place_of = np.full(self._count, -1, dtype=np.int64)
        place_of[rows] = np.arange(len(rows))
        return Towers(vectors, place_of)

    def users(self, windows: Windows, towers: Towers, subset: Subset | None = None) -> torch.Tensor:
        """Return [P, 1 + K, D] the vectors at the asked events; the rows must be at hand."""
        subset = subset or Subset(self.model.active, self.model.uses_context)
        at = _OnDevice.of(windows, towers, self.device)
        tokens = None
        if self.model.reader is not None:
            tokens = functional.embedding(at.places, towers.vectors)
        shares = self._shares(at)
        x = [self._x(name, at, tokens, shares) for name in subset.granularities]
        features = queries = None
        if windows.features is not None and subset.context:
            features = torch.from_numpy(windows.features).to(self.device)
            if self.model.reads_queries:
                queries = self._queries(at, shares)
        vectors: torch.Tensor = self.model(x, features, queries, subset.granularities)
        return vectors

    def hidden(self, windows: Windows, towers: Towers) -> torch.Tensor:
        """Return [P, 1, D] what the reader makes of the asked events when it is not told their
        items, but what came before and after them."""
        reader = self.model.reader
        assert reader is not None
        at = _OnDevice.of(windows, towers, self.device)
        tokens = functional.embedding(at.places, towers.vectors)
        tokens = torch.where(at.asked[:, :, None], reader.mask, tokens)
        last = torch.from_numpy(windows.last).to(self.device)
        starts = torch.zeros_like(at.session_starts)
        read = reader(tokens, at.times_ms, at.types, starts, last, both_ways=True)
        return unit_or_zero(read[at.asked])[:, None]

    def _x(
        self,
        granularity: str,
        at: _OnDevice,
        tokens: torch.Tensor | None,
        shares: torch.Tensor,
    ) -> torch.Tensor:
        """[P, T] pooled, [P, D] read or [P, M + 1] of media."""
        reader = self.model.reader
        if self.model.reads(granularity):
            assert reader is not None
            assert tokens is not None
            starts = at.session_starts
            if granularity == "document":
                starts = torch.zeros_like(starts)
            read: torch.Tensor = reader(tokens, at.times_ms, at.types, starts)
            return read[at.asked]
        if granularity == MEDIA:
            assert self._media is not None
            return (shares @ functional.embedding(at.rows, self._media))[at.asked]
        if granularity == "paragraph":
            events = torch.arange(shares.shape[-1], device=self.device)
            shares = _normal(shares * (events >= at.session_starts[:, :, None]))
        return (shares @ self._level(LEVEL_OF[granularity], at))[at.asked]

    def _level(self, level: int, at: _OnDevice) -> torch.Tensor:
        """[B, L, T]"""
        users, events = at.rows.shape
        return self.texts.take(at.rows.reshape(-1), level).view(users, events, -1)

    def _shares(self, at: _OnDevice) -> torch.Tensor:
        """[B, L, L] what each event (last) counts in the window that ends at each event.

        The same weights as :class:`encoders.event_weights.EventWeigher`'s, all windows at once.
        """
        count = at.rows.shape[1]
        events = torch.arange(count, device=self.device)
        apart = events[:, None] - events
        raw = self._by_rank[apart.clamp(min=0)] * (apart >= 0)
        raw = raw[None] * self._by_type[at.types][:, None]
        if self.rules.time_half_life_ms:
            age_ms = (at.times_ms[:, :, None] - at.times_ms[:, None]).clamp(min=0)
            raw = raw * torch.exp2(-(age_ms.double() / self.rules.time_half_life_ms)).float()
        return _normal(raw)

    def _queries(self, at: _OnDevice, shares: torch.Tensor) -> torch.Tensor:
        """[P, T] the mean of recent searches' texts, zero where there is none."""
        searches = at.types == TYPE_CODES[EventType.SEARCH]
        shares = _normal(shares * searches[:, None])
        return (shares @ self._level(TEXT, at))[at.asked]


@dataclass(frozen=True)
class _OnDevice:
    rows: torch.Tensor
    places: torch.Tensor
    times_ms: torch.Tensor
    types: torch.Tensor
    session_starts: torch.Tensor
    asked: torch.Tensor

    @classmethod
    def of(cls, windows: Windows, towers: Towers, device: torch.device) -> _OnDevice:
        def moved(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(device, non_blocking=True)

        return cls(
            rows=moved(windows.rows),
            places=towers.places(windows.rows, device),
            times_ms=moved(windows.times_ms),
            types=moved(windows.types),
            session_starts=moved(windows.session_starts),
            asked=moved(windows.asked),
        )


def _normal(raw: torch.Tensor) -> torch.Tensor:
    """Scale the last dimension to sum 1; nothing stays nothing."""
    total = raw.sum(-1, keepdim=True)
    return raw / torch.where(total > 0, total, 1.0)
