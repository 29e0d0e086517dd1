"""The stream's own encoder, asked by the API: with a time limit, and never cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np

from encoders.interface import Float32
from state.window import Window
from stream_app.api.problems import COME_AGAIN_S, ApiProblem
from stream_app.encoder_process import EncoderFailed
from stream_app.encoding import Encoded, WindowEncoder
from stream_app.errors import RestartWorker
from stream_app.row_table import RowsExhausted

T = TypeVar("T")

_ANSWER_S = 10.0
"""For the encoder to answer; its own limit, encode_timeout_s, is the stream's."""
_MOST_PENDING = 16
"""Requests the encoder may owe us: a hung one must not gather them for a minute."""


class PatientEncoder:
    """Asks on behalf of requests.

    A request to the encoder that is cancelled half-way leaves rows behind that hold no text, so a
    client whose time is over gets its answer while the request goes on.
    """

    def __init__(self) -> None:
        self._pending: set[asyncio.Task[Any]] = set()

    async def windows(
        self, encoder: WindowEncoder, windows: Sequence[Window], *, with_granularities: bool = False
    ) -> Encoded:
        """Return the windows' vectors.

        Raises:
            ApiProblem: one of them cannot be encoded, or not now.
        """
        asked = encoder.encode(windows, with_granularities=with_granularities)
        encoded = await self._ask(asked)
        for reason in encoded.failures.values():
            raise ApiProblem(503, "encoder-failed", reason, COME_AGAIN_S)
        return encoded

    async def texts(self, encoder: WindowEncoder, texts: Sequence[str]) -> list[Float32 | None]:
        """Return the texts' vectors in the space of the items.

        Raises:
            ApiProblem: not now.
        """
        return await self._ask(encoder.text_vectors(texts))

    async def by_key(self, encoder: WindowEncoder, keys: Sequence[str]) -> dict[str, Float32]:
        """Return the vectors of the texts of events, of those that say anything.

        Raises:
            ApiProblem: not now.
        """
        found = await self._ask(encoder.vectors_by_key(keys)) if keys else {}
        return {key: vector for key, vector in found.items() if np.any(vector)}

    async def _ask(self, asked: Coroutine[Any, Any, T]) -> T:
        if len(self._pending) >= _MOST_PENDING:
            asked.close()
            raise ApiProblem(503, "encoder-failed", "the encoder is busy", COME_AGAIN_S)
        task = asyncio.create_task(asked)
        self._pending.add(task)
        task.add_done_callback(self._on_done)
        done, _ = await asyncio.wait({task}, timeout=_ANSWER_S)
        if not done:
            message = f"no answer within {_ANSWER_S:g} s"
            raise ApiProblem(503, "encoder-failed", message, COME_AGAIN_S)
        try:
            return task.result()
        except (EncoderFailed, RowsExhausted, RestartWorker) as error:
            raise ApiProblem(503, "encoder-failed", str(error), COME_AGAIN_S) from error

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._pending.discard(task)
        if not task.cancelled():
            task.exception()  # told to the client, if it still waits
