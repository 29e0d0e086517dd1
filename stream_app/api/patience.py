"""The stream's own encoder, asked by the API: in small pieces, with a time limit, never cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any, ParamSpec, TypeVar

import numpy as np

from encoders.interface import Float32
from state.window import Window
from stream_app.api.problems import COME_AGAIN_S, ApiProblem
from stream_app.encoded import Encoded
from stream_app.encoder_process import EncoderFailed
from stream_app.encoding import WindowEncoder
from stream_app.errors import RestartWorker
from stream_app.row_table import RowsExhausted
from stream_app.text_keys import inline_key, text_keys

P = ParamSpec("P")
T = TypeVar("T")

_ANSWER_S = 10.0
"""For the encoder to answer; its own limit, encode_timeout_s, is the stream's."""
_MOST_PENDING = 16
"""Requests that wait for the encoder: more would only wait for their time to be over."""


class PatientEncoder:
    """Asks on behalf of requests, so that a round of the stream waits for one piece at most.

    1. New texts go to the encoder in slices; a slice, or what is asked once they are there, is a
       piece. Of the whole API one piece is at the encoder, and the next one comes behind the
       rounds that have come to wait meanwhile.
    2. Requests with texts of their own take their turn as a whole: sharing the time that the
       stream leaves, many would all be too late. A user's events may go between two slices.
    3. Where a request's time is over, what is left of it is not sent. The piece under way goes on:
       cancelled half-way it would leave rows behind that hold no text.
    """

    def __init__(self, as_stored: Callable[[str], str]) -> None:
        """``as_stored``: a text as a user's is stored; up to tens of ms for one made to be slow."""
        self._as_stored = as_stored
        self._pending = 0
        self._texts = asyncio.Lock()
        self._encoder = asyncio.Lock()
        self._piece: asyncio.Task[Any] | None = None

    async def windows(
        self, encoder: WindowEncoder, windows: Sequence[Window], *, with_granularities: bool = False
    ) -> Encoded:
        """Return the windows' vectors.

        Raises:
            ApiProblem: one of them cannot be encoded, or not now.
        """
        async with self._request():
            await self._put(encoder, list(chain.from_iterable(map(text_keys, windows))))
            encoded = await self._ask(
                encoder.encode, windows, with_granularities=with_granularities
            )
        for reason in encoded.failures.values():
            raise ApiProblem(503, "encoder-failed", reason, COME_AGAIN_S)
        return encoded

    async def texts(self, encoder: WindowEncoder, texts: Sequence[str]) -> list[Float32 | None]:
        """Return the texts' vectors in the space of the items, ``None`` where the model fails.

        Raises:
            ApiProblem: not now.
        """
        async with self._request(), self._texts:
            keys = []
            for text in texts:
                keys.append(inline_key(self._as_stored(text)))
                await asyncio.sleep(0)
            await self._put(encoder, keys)
            vector_of = await self._ask(encoder.vectors_by_key, keys)
        return [vector_of.get(key) for key in keys]

    async def by_key(self, encoder: WindowEncoder, keys: Sequence[str]) -> dict[str, Float32]:
        """Return the vectors of the texts of events, of those that say anything.

        Raises:
            ApiProblem: not now.
        """
        if not keys:
            return {}
        async with self._request():
            await self._put(encoder, keys)
            found = await self._ask(encoder.vectors_by_key, keys)
        return {key: vector for key, vector in found.items() if np.any(vector)}

    async def forget(self, encoder: WindowEncoder, texts: Sequence[str]) -> None:
        """Drop texts of a user who was forgotten meanwhile, behind the piece under way.

        Raises:
            EncoderFailed: twice in a row.
        """
        await self._ask(encoder.forget, texts)

    @asynccontextmanager
    async def _request(self) -> AsyncIterator[None]:
        """Hold a place among the pending for as long as a client waits."""
        if self._pending >= _MOST_PENDING:
            raise ApiProblem(503, "encoder-failed", "the encoder is busy", COME_AGAIN_S)
        self._pending += 1
        try:
            async with asyncio.timeout(_ANSWER_S):
                yield
        except TimeoutError:
            message = f"no answer within {_ANSWER_S:g} s"
            raise ApiProblem(503, "encoder-failed", message, COME_AGAIN_S) from None
        except (EncoderFailed, RowsExhausted, RestartWorker) as error:
            raise ApiProblem(503, "encoder-failed", str(error), COME_AGAIN_S) from error
        finally:
            self._pending -= 1

    async def _put(self, encoder: WindowEncoder, keys: Sequence[str]) -> None:
        for part in encoder.new_slices(keys):
            await self._ask(encoder.put_slice, part)

    async def _ask(
        self, ask: Callable[P, Coroutine[Any, Any, T]], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """Have one piece done, when no other of the API is under way."""
        await self._encoder.acquire()
        piece = asyncio.create_task(ask(*arguments, **named))
        self._piece = piece  # the loop itself would let go of it
        piece.add_done_callback(self._on_done)
        return await asyncio.shield(piece)

    def _on_done(self, piece: asyncio.Task[Any]) -> None:
        self._encoder.release()
        if not piece.cancelled():
            piece.exception()  # told to the client, if it still waits
