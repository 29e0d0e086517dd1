"""Why a user's vector scores an item as it does: the share of each event, word and granularity.

Legend: L known events of a window, A active granularities, S steps, T text dimensions, D of the
vectors, n tokens of a text. ::

    score = I(z) . item / |I(z)|        z: the centred text vectors of the events, and the context
    share of a part = (part of z) . mean over the path of d(I . item) / dz / |I(z)|

That is integrated gradients (Sundararajan et al. 2017, equation 1) from the catalogue's mean text,
which is z = 0, to the window as it is; of a model that is linear in z one step of it is exact. The
length |I(z)| is held at its value: it is the same for all items and moves no rank. Each granularity
reads a copy of z of its own, so what an event adds is told apart by granularity. The shares and
``rest``, the score of the mean text, add up to the score.

Words are told apart by the pooling, which is linear in the token vectors: exact as far as a token's
vector is taken as the token's, though the text model has let its neighbours into it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from encoders.config import InterestConfig
from encoders.context_features import context_features
from encoders.evaluation.metrics import Float64
from encoders.event_weights import EventWeigher, WeightedEvents
from encoders.interest_model import InterestModel
from encoders.interface import MEDIA, Float32, Int64, WindowBatch
from encoders.media_rows import prepared
from encoders.sequence_batches import rectangles
from encoders.text_encoder import TextEncoder
from encoders.tokens import LEVELS, SENTENCE, TEXT, WORD, weigh_tokens

STEPS = 32
"""Midpoints of the path where the model is not linear: the parts then miss the score by about a
thousandth (the report says by how much)."""

POWER = 4
"""The points lie closer at the beginning, where a norm makes much of little: a layer's norm of a
text hardly off the mean is nearly that of the text."""

_LEVEL_OF = {"word": WORD, "sentence": SENTENCE, "paragraph": TEXT, "document": TEXT}


@dataclass(frozen=True)
class Explanation:
    """One score, taken apart."""

    score: float
    rest: float
    """What the catalogue's mean text alone would score."""
    context: float
    granularities: tuple[str, ...]
    """[A]"""
    places: Int64
    """[L] place in the window of each event with a known text."""
    rows: Int64
    """[L] row of its text."""
    events: Float64
    """[A, L] the share of each event through each granularity."""
    slopes: Float64
    """[A, L, 3, T] mean gradient at each text vector, for :meth:`Explainer.words`."""

    @property
    def gap(self) -> float:
        """How far the parts miss the score: the error of the integration."""
        return self.score - self.rest - self.context - float(self.events.sum())


class Explainer:
    """Takes scores of one model apart. The model must have been trained with one vector or more;
    the one vector is explained."""

    def __init__(
        self,
        config: InterestConfig,
        tensors: Mapping[str, torch.Tensor],
        text: TextEncoder,
        levels: Float32,
        texts: Sequence[str],
        media: Float32 | None = None,
    ) -> None:
        """``levels`` [R, 3, T] are the vectors of ``texts`` by row, zero where a text has none;
        ``media`` [N, M] what the first of them bring beside, of a model that takes it."""
        self._config = config
        self._text = text
        self._texts = texts
        salience = tensors.get("salience")
        self._salience = None if salience is None else salience.float().numpy()
        dimensions = config.dimensions or text.dimensions
        self._model = InterestModel(config, dimensions, tensors).eval().requires_grad_(False)
        centre = tensors.get("centre", torch.zeros(LEVELS, text.dimensions)).float()
        self._centre = centre
        self._known = np.any(levels != 0.0, axis=(1, 2))
        self._levels = torch.from_numpy(levels) - centre
        self._media = None
        if config.media_dimensions:
            self._media = torch.zeros(len(levels), config.media_dimensions + 1)
            if media is not None:
                fixed = tensors["media.centre"].float(), tensors["media.whiten"].float()
                self._media[: len(media)] = prepared(media, *fixed)
        self._weigher = EventWeigher(config)
        self.is_linear = self._model.is_untrained

    def explain(self, window: WindowBatch, item: Float32) -> Explanation:
        """Return the shares of one user's ``window`` in the score of ``item`` [D].

        Raises:
            ValueError: the batch is not of one user, or no text of the window is known.
        """
        if len(window.offsets) != 2:
            raise ValueError(f"one user at a time, not {len(window.offsets) - 1}")
        events = self._weigher.weigh(window, self._known, with_session=True)
        if not events.has_weight[0]:
            raise ValueError("no text of this window is known: there is nothing to explain")
        steps = 1 if self.is_linear else STEPS
        rows = torch.from_numpy(events.rows)
        z, residual = self._levels[rows], self._residuals(events.rows)
        context = self._context(window, events)
        path, pace = _path(steps)
        starts = [self._start(name, rows, z) for name in self._model.active]
        copies = [_scaled(start, path) for start in starts]
        own = [_scaled(residual, path) for _ in self._model.active]
        moved = _scaled(context, path)
        fused = self._fused(events, copies, own, moved)
        target = torch.from_numpy(item)
        with torch.no_grad():
            whole, none = (self._at(events, starts, residual, context, a) for a in (1.0, 0.0))
        length = torch.linalg.vector_norm(whole)
        leaves = [*copies, *own, moved]
        slopes = torch.autograd.grad((fused @ target).sum() / length, leaves, allow_unused=True)
        mean = [torch.zeros_like(leaf[0]) if slope is None else torch.tensordot(pace, slope, 1)
                for slope, leaf in zip(slopes, leaves, strict=True)]  # fmt: skip
        active = len(copies)
        shares = [
            (mean[at] * starts[at]).flatten(1).sum(1) + (mean[active + at] * residual).sum(1)
            for at in range(active)
        ]
        known = (window.rows >= 0) & self._known[np.maximum(window.rows, 0)]
        return Explanation(
            score=float(whole @ target / length),
            rest=float(none @ target / length),
            context=float(mean[-1] @ context),
            granularities=self._model.active,
            places=np.flatnonzero(known),
            rows=events.rows,
            events=torch.stack(shares).double().numpy(),
            slopes=torch.stack(
                [part if part.ndim == z.ndim else torch.zeros_like(z) for part in mean[:active]]
            )
            .double()
            .numpy(),
        )

    def _start(self, granularity: str, rows: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """[L, ...] what a granularity reads of the events: their texts, or their media."""
        if granularity != MEDIA:
            return z
        assert self._media is not None
        return self._media[rows]

    def words(self, explanation: Explanation, event: int) -> list[tuple[str, float]]:
        """Return (word, share) of one event's text, in the order of the text.

        They add up to the event's share, less what special tokens and an item's own residual add.
        """
        text = self._texts[int(explanation.rows[event])]
        encoding = self._text.tokenizer.encode(text)
        tokens = weigh_tokens(text, encoding, self._salience, self._text.pooling)
        if tokens is None:
            return []
        with torch.inference_mode():
            hidden = self._text.forward([tokens.ids]).double().cpu().numpy()
        sums = tokens.weights @ hidden
        lengths = np.linalg.norm(sums, axis=1)
        slope = explanation.slopes[:, event].sum(axis=0)  # [3, T]
        centre = self._centre.double().numpy()
        parts = np.zeros(len(tokens.ids))
        for level in range(LEVELS):
            centred = hidden / max(float(lengths[level]), 1e-12) - centre[level]
            parts += tokens.weights[level] * (centred @ slope[level])
        found: dict[int, tuple[int, int, float]] = {}
        for at, word in enumerate(encoding.word_ids):
            if word is not None:
                start, end = encoding.offsets[at]
                first, _, share = found.get(word, (start, end, 0.0))
                found[word] = (first, end, share + float(parts[at]))
        return [(text[start:end], share) for start, end, share in found.values()]

    def _residuals(self, rows: Int64) -> torch.Tensor:
        """[L, D] what the items' own learned vectors and media add to the tower; zero where a model
        has none."""
        tower = self._model.tower
        result = torch.zeros(len(rows), self._model.dimensions)
        if tower is not None and tower.residual is not None:
            places = tower.places([self._texts[row] for row in rows])
            own = torch.from_numpy(places >= 0)
            result[own] = tower.residual[torch.from_numpy(places[places >= 0])]
        if tower is not None and tower.media is not None and self._media is not None:
            result = result + tower.media(self._media[torch.from_numpy(rows)])
        return result

    def _context(self, window: WindowBatch, events: WeightedEvents) -> torch.Tensor:
        """[D] C of this user; zero where context takes no part."""
        model = self._model
        if not model.uses_context:
            return torch.zeros(model.dimensions)
        features = torch.from_numpy(context_features(window, self._config.session_gap_ms))
        queries = None
        if model.reads_queries:
            shares = torch.from_numpy(self._weigher.queries(events))
            texts = self._levels[torch.from_numpy(events.rows), TEXT]
            queries = model.whitened(TEXT, (shares[:, None] * texts).sum(0, keepdim=True))
        context: torch.Tensor = model.context(features, queries)[0]
        return context

    def _at(
        self,
        events: WeightedEvents,
        starts: Sequence[torch.Tensor],
        residual: torch.Tensor,
        context: torch.Tensor,
        alpha: float,
    ) -> torch.Tensor:
        """[D] the fused vector at one point of the path, not scaled to unit length."""
        copies = [alpha * start[None] for start in starts]
        parts = copies, [alpha * residual[None]] * len(copies)
        return self._fused(events, *parts, alpha * context[None])[0]

    def _fused(
        self,
        events: WeightedEvents,
        copies: Sequence[torch.Tensor],
        own: Sequence[torch.Tensor],
        context: torch.Tensor,
    ) -> torch.Tensor:
        """A copies [S, L, 3, T] of the text vectors, [S, L, D] of the residuals and [S, D] context
        -> [S, D]."""
        model = self._model
        projected = []
        for name, z, residual in zip(model.active, copies, own, strict=True):
            if name == MEDIA:
                x = (torch.from_numpy(events.window)[None, :, None] * z).sum(1)
            elif model.reads(name):
                x = self._read(name, events, z, residual)
            else:
                level = _LEVEL_OF[name]
                weights = events.session if name == "paragraph" else events.window
                assert weights is not None
                pooled = (torch.from_numpy(weights)[None, :, None] * z[:, :, level]).sum(1)
                x = model.whitened(level, pooled)
            projected.append(model.projection(name)(x))
        return model.fuse(torch.stack(projected), context if model.uses_context else None)

    def _read(
        self, name: str, events: WeightedEvents, z: torch.Tensor, residual: torch.Tensor
    ) -> torch.Tensor:
        """[S, D] what the reader says at the newest event of the window or session."""
        model = self._model
        reader, tower = model.reader, model.tower
        assert reader is not None
        assert tower is not None
        gap_ms = self._config.session_gap_ms if name == "paragraph" else None
        (part,) = rectangles(events, reader.config.positions, gap_ms)
        chosen = part.events[0, : int(part.last[0]) + 1]
        steps, index = len(z), torch.from_numpy(chosen)
        flat = z[:, index].reshape(-1, LEVELS, z.shape[-1])
        raised = tower.perceptron(model.tower_x(flat)).view(steps, len(chosen), -1)
        tokens = functional.layer_norm(
            raised + residual[:, index], tower.gain.shape, tower.gain, tower.shift
        )
        times_ms, types = (
            torch.from_numpy(column[chosen].astype(np.int64)).expand(steps, -1)
            for column in (events.times_ms, events.types)
        )
        starts = torch.zeros_like(times_ms)
        last = torch.full((steps,), len(chosen) - 1)
        result: torch.Tensor = reader(tokens, times_ms, types, starts, last)
        return result


def _path(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[S] points of the path and [S] how much of it each stands for: alpha = t ** POWER at the
    midpoints of t."""
    if steps == 1:
        return torch.ones(1), torch.ones(1)
    middle = (torch.arange(steps) + 0.5) / steps
    return middle**POWER, POWER * middle ** (POWER - 1) / steps


def _scaled(part: torch.Tensor, path: torch.Tensor) -> torch.Tensor:
    """[...] -> [S, ...] at each point of the path, ready to be differentiated."""
    points = path.view(-1, *(1 for _ in part.shape)) * part[None]
    return points.detach().requires_grad_(True)
