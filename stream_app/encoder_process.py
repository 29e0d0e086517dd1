"""The encoder in a process of its own: supervised, restarted, every request with a time limit.

Beside a busy event loop a torch thread loses most of its speed to the interpreter lock; in its own
process it keeps it, and a crash, a hang or an out-of-memory kill does not take the stream down.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import encoders
from encoders.config import EncoderConfig
from encoders.interface import EncoderInfo, Float32, Int32, Interests, TextReport, WindowBatch
from stream_app.errors import FixSettings, InterestStreamError, RestartWorker

T = TypeVar("T")

log = logging.getLogger("stream_app.encoder")

_MAX_STARTS_IN_A_ROW = 5


class EncoderFailed(InterestStreamError):
    """The encoder raised, hung or died over a request; it is up again."""


class EncoderProcess:
    """One spawned process with one encoder. Requests are answered in the order they were made."""

    def __init__(
        self, config: EncoderConfig, *, start_timeout_s: float, request_timeout_s: float
    ) -> None:
        self._config = config
        self._start_timeout_s = start_timeout_s
        self._request_timeout_s = request_timeout_s
        self._pool: ProcessPoolExecutor | None = None
        self._pid: int | None = None
        self._starting = asyncio.Lock()
        self.epoch = 0
        """How often it was started. What the process held in memory is gone with an epoch."""
        self.info: EncoderInfo | None = None

    @property
    def pid(self) -> int | None:
        """The encoder's process id, while it runs."""
        return self._pid

    async def start(self) -> EncoderInfo:
        """Start the process and load the models.

        Raises:
            FixSettings: the models cannot be loaded; the message says which and why.
        """
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, mp_context=context)
        loop = asyncio.get_running_loop()
        try:
            self._pid, info = await asyncio.wait_for(
                loop.run_in_executor(self._pool, _load, self._config), self._start_timeout_s
            )
        except TimeoutError:
            self._kill()
            raise FixSettings(
                f"the encoder did not load within encoder_start_timeout_s "
                f"({self._start_timeout_s:g} s)"
            ) from None
        except encoders.EncoderError as error:
            self._kill()
            raise FixSettings(str(error)) from None
        self.info = info
        self.epoch += 1
        return info

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run one of this module's ``request_`` functions in the process.

        Raises:
            EncoderFailed: it raised (the process lives on), or it hung or died (it is up again,
                with nothing in memory: ``epoch`` has changed).
            RestartWorker: the process does not come up any more.
        """
        epoch = self.epoch
        pool = self._pool
        if pool is None:
            raise EncoderFailed("the encoder process is not running")
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(
                loop.run_in_executor(pool, function, *arguments), self._request_timeout_s
            )
        except TimeoutError:
            reason = f"no answer within encode_timeout_s ({self._request_timeout_s:g} s)"
        except BrokenProcessPool:
            reason = "the encoder process died"
        except RuntimeError as error:
            if "shutdown" not in str(error):
                raise EncoderFailed(f"the encoder raised {error!r}") from error
            reason = "the encoder process was being restarted"
        except Exception as error:
            raise EncoderFailed(f"the encoder raised {error!r}") from error
        await self._restart(epoch, reason)
        raise EncoderFailed(reason)

    async def _restart(self, failed_epoch: int, reason: str) -> None:
        async with self._starting:
            if self.epoch != failed_epoch:
                return  # another request of the same epoch has seen to it
            log.warning("Restarting the encoder: %s", reason)
            for attempt in range(_MAX_STARTS_IN_A_ROW):
                self._kill()
                try:
                    await self.start()
                except (BrokenProcessPool, FixSettings) as error:
                    log.error("The encoder did not come up (%s of 5): %s", attempt + 1, error)
                    await asyncio.sleep(2**attempt / 2)
                else:
                    return
            raise RestartWorker(f"the encoder process does not come up any more: {reason}")

    def _kill(self) -> None:
        if self._pid is not None:
            try:
                os.kill(self._pid, signal.SIGKILL)
            except ProcessLookupError:
                log.debug("encoder process %s was gone already", self._pid)
            self._pid = None
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    async def stop(self) -> None:
        """Let the process close its files and end; kill it if it does not."""
        if self._pool is None:
            return
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.run_in_executor(self._pool, _close), 5)
        except (TimeoutError, BrokenProcessPool, RuntimeError) as error:
            log.warning("The encoder did not close cleanly: %r", error)
        self._kill()


_encoder: encoders.InterestEncoder | None = None
"""In the encoder process only."""


def _load(config: EncoderConfig) -> tuple[int, EncoderInfo]:
    global _encoder
    for sent_to_all in (signal.SIGINT, signal.SIGTERM):  # the worker stops us when it is done
        signal.signal(sent_to_all, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _encoder = encoders.build(config)
    return os.getpid(), _encoder.info


def _end_with_parent() -> None:
    """A worker killed with -9 cannot stop us, and the pool's pipes do not tell either."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _close() -> None:
    if _encoder is not None:
        _encoder.close()


def _loaded() -> encoders.InterestEncoder:
    assert _encoder is not None, "called outside the encoder process"
    return _encoder


def request_texts(texts: Sequence[tuple[int, str]]) -> TextReport:
    """In the encoder process: embed texts and keep them under their row numbers."""
    return _loaded().put_texts(texts)


def request_forgetting(texts: Sequence[tuple[int, str]]) -> None:
    """In the encoder process: drop texts from memory and from disk."""
    _loaded().drop_texts(texts)


def request_interests(batch: WindowBatch, with_granularities: bool) -> Interests:
    """In the encoder process: one vector per user of the batch."""
    return _loaded().encode(batch, with_granularities=with_granularities)


def request_item_vectors(rows: Int32) -> Float32:
    """In the encoder process: vectors of single texts, [N, D]."""
    return _loaded().item_vectors(rows)
