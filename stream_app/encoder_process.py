"""The encoder in a process of its own: supervised, restarted, every request with a time limit.

Beside a busy event loop a torch thread loses most of its speed to the interpreter lock; in its own
process it keeps it, and a crash, a hang or an out-of-memory kill does not take the stream down.

The worker's loop reads and writes the pipe itself. The standard library's process pool does it
from two threads: each request woke both, and they fought the loop for the interpreter lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import pickle
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar, cast

from encoders import EncoderError
from encoders.config import EncoderConfig
from encoders.interface import EncoderInfo
from stream_app import encoder_child
from stream_app.encoder_child import Answer, Request
from stream_app.errors import FixSettings, InterestStreamError, RestartWorker
from stream_app.logs import LogStyle

T = TypeVar("T")

log = logging.getLogger("stream_app.encoder")

_MAX_STARTS_IN_A_ROW = 5
_CLOSE_TIMEOUT_S = 5.0
_PING_TIMEOUT_S = 1.0
_LENGTH = struct.Struct("!i")
"""Before each message, as :class:`multiprocessing.connection.Connection` frames them."""


class EncoderFailed(InterestStreamError):
    """The encoder raised, hung or died over a request; it is up again."""


class EncoderRaised(EncoderFailed):
    """The encoder raised, and says why in words that may be the text's."""

    quotes_data = True


class EncoderDied(RestartWorker):
    """The process has closed its end of the pipe."""

    def __init__(self) -> None:
        super().__init__("the encoder process died")


class RequestPipe(asyncio.Protocol):
    """The loop's end of the pipe: requests out, answers in, in the same order."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._received = bytearray()
        self._silent_since_s: float | None = None
        self._lost_s: float | None = None

    @classmethod
    async def over(cls, pipe: Connection[Request, Answer]) -> RequestPipe:
        """Take over a duplex pipe's end."""
        with pipe:
            end = socket.socket(fileno=os.dup(pipe.fileno()))
        _, protocol = await asyncio.get_running_loop().create_unix_connection(cls, sock=end)
        return protocol

    async def ask(
        self, timeout_s: float, function: Callable[..., T], arguments: tuple[Any, ...]
    ) -> T:
        """Have the process run the function, and return what it returned.

        Raises:
            TimeoutError: no answer in time.
            EncoderDied: there will be no answer.
            Exception: what the function raised.
        """
        if self._transport is None or self._transport.is_closing():
            raise EncoderDied
        message = pickle.dumps((function, arguments), pickle.HIGHEST_PROTOCOL)
        answer = asyncio.get_running_loop().create_future()
        if not self._waiting:
            self._silent_since_s = time.monotonic()
        self._waiting.append(answer)
        self._transport.writelines([_LENGTH.pack(len(message)), message])
        async with asyncio.timeout(timeout_s):
            return cast(T, await answer)

    @property
    def silent_since_s(self) -> float | None:
        """``time.monotonic()`` since which a request waits and none was answered; None: none waits.

        Also one that nobody waits for any more. Of a pipe that was closed: since then.
        """
        if self._lost_s is not None:
            return self._lost_s
        return self._silent_since_s if self._waiting else None

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand over each answer that is complete."""
        received = self._received
        received += data
        while len(received) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(received)
            end = _LENGTH.size + length
            if len(received) < end:
                return
            went_well, outcome = pickle.loads(memoryview(received)[_LENGTH.size : end])
            del received[:end]
            answer = self._waiting.popleft()
            self._silent_since_s = time.monotonic()
            if answer.done():  # nobody waits any more
                continue
            if went_well:
                answer.set_result(outcome)
            else:
                answer.set_exception(outcome)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        self._lost_s = self.silent_since_s or time.monotonic()
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(EncoderDied())


class EncoderProcess:
    """One spawned process with one encoder. Requests are answered in the order they were made."""

    def __init__(
        self,
        config: EncoderConfig,
        *,
        start_timeout_s: float,
        request_timeout_s: float,
        answered: Callable[[str, float], None] = lambda request, seconds: None,
        log_style: LogStyle | None = None,
    ) -> None:
        """``answered`` is told of each request's name and time, answered or not."""
        self._config = config
        self._start_timeout_s = start_timeout_s
        self._request_timeout_s = request_timeout_s
        self._answered = answered
        self._log_style = log_style
        self._down_since_s: float | None = None
        self._process: SpawnProcess | None = None
        self._pipe: RequestPipe | None = None
        self._starting = asyncio.Lock()
        self._stopped = False
        self.epoch = 0
        """How often it was started. What the process held in memory is gone with an epoch."""
        self.info: EncoderInfo | None = None

    @property
    def pid(self) -> int | None:
        """The encoder's process id, while it runs."""
        return None if self._process is None else self._process.pid

    async def start(self) -> EncoderInfo:
        """Start the process and load the models.

        Raises:
            FixSettings: the models cannot be loaded; the message says which and why.
            EncoderDied: it ended while loading.
        """
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=encoder_child.serve, args=(theirs, self._log_style), name="encoder", daemon=True
        )
        with theirs:
            self._process.start()
        pipe = await RequestPipe.over(ours)
        try:
            info = await pipe.ask(
                self._start_timeout_s, encoder_child.request_load, (self._config,)
            )
        except TimeoutError:
            self._kill()
            raise FixSettings(
                f"the encoder did not load within encoder_start_timeout_s "
                f"({self._start_timeout_s:g} s)"
            ) from None
        except EncoderError as error:
            self._kill()
            raise FixSettings(str(error)) from None
        self._pipe = pipe
        self._down_since_s = None
        self.info = info
        self.epoch += 1
        return info

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run one of ``encoder_child``'s ``request_`` functions in the process.

        Raises:
            EncoderFailed: it raised (the process lives on), or it hung or died (it is up again,
                with nothing in memory: ``epoch`` has changed).
            RestartWorker: the process does not come up any more.
        """
        epoch = self.epoch
        if self._stopped:
            raise EncoderFailed("the encoder process is not running")
        try:
            if self._pipe is not None:
                return await self._timed(self._pipe, function, arguments)
            reason = "the encoder process was being restarted"
        except TimeoutError:
            reason = f"no answer within encode_timeout_s ({self._request_timeout_s:g} s)"
        except EncoderDied as error:
            reason = str(error)
        except Exception as error:
            raise EncoderRaised(f"the encoder raised {error}") from error
        await self._restart(epoch, reason)
        raise EncoderFailed(reason)

    async def _timed(
        self, pipe: RequestPipe, function: Callable[..., T], arguments: tuple[Any, ...]
    ) -> T:
        asked_s = time.perf_counter()
        try:
            return await pipe.ask(self._request_timeout_s, function, arguments)
        finally:
            name = function.__name__.removeprefix("request_")
            self._answered(name, time.perf_counter() - asked_s)

    async def silent_s(self) -> float:
        """Return for how many seconds it has owed an answer; 0.0 where it owes none.

        While no request is under way it is asked for a sign of life, for at most a second. Requests
        are answered in order, so this is how long it has been busy with one of them; a process that
        is being restarted has been silent since the request that it failed.
        """
        pipe = self._pipe
        if pipe is not None and pipe.silent_since_s is None:
            with contextlib.suppress(TimeoutError, EncoderDied):
                await pipe.ask(_PING_TIMEOUT_S, encoder_child.request_ping, ())
        since_s = self._down_since_s if self._pipe is None else self._pipe.silent_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    async def _restart(self, failed_epoch: int, reason: str) -> None:
        async with self._starting:
            if self.epoch != failed_epoch:
                return  # another request of the same epoch has seen to it
            log.warning("Restarting the encoder: %s", reason)
            for attempt in range(_MAX_STARTS_IN_A_ROW):
                if attempt:
                    await asyncio.sleep(2**attempt / 4)
                self._kill()
                try:
                    await self.start()
                except (EncoderDied, FixSettings) as error:
                    log.error("The encoder did not come up (%s of 5): %r", attempt + 1, error)
                else:
                    return
            raise RestartWorker(f"the encoder process does not come up any more: {reason}")

    def _kill(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            self._down_since_s = pipe.silent_since_s or time.monotonic()
            pipe.close()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join(_CLOSE_TIMEOUT_S)

    async def stop(self) -> None:
        """Let the process close its files and end; kill it if it does not."""
        self._stopped = True
        if self._pipe is not None:
            try:
                await self._pipe.ask(_CLOSE_TIMEOUT_S, encoder_child.request_close, ())
            except (TimeoutError, EncoderDied, RuntimeError) as error:
                log.warning("The encoder did not close cleanly: %r", error)
        self._kill()
