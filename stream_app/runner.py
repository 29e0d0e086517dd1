"""A worker as a process: its event loop, its signals, its exit code."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aiokafka.errors import KafkaError
from faust.exceptions import ConsistencyError
from faust.tables.recovery import ServiceStopped

from encoders.interface import EncoderInfo
from stream_app.errors import ReportBug, RestartWorker
from stream_app.event_loop import WorkerLoop
from stream_app.failures import explained
from stream_app.logs import what_happened
from stream_app.lost_connections import let_aiokafka_notice
from stream_app.replaying.bounds import Bounds
from stream_app.settings import Settings
from stream_app.worker import Worker

log = logging.getLogger("stream_app.runner")

_COLLECT_EVERY_S = 3600.0


def run(
    settings: Settings,
    *,
    bounds: Bounds | None = None,
    on_model: Callable[[EncoderInfo], Awaitable[None]] | None = None,
    until: Callable[[Worker], Coroutine[Any, Any, None]] | None = None,
) -> int:
    """Run a worker until SIGTERM, SIGINT or a failure; return the exit code.

    ``bounds`` and ``on_model`` are the worker's; when ``until`` returns, the worker is stopped.
    """
    settings.log_style().begin()
    logging.getLogger("faust.tables.recovery").addFilter(_is_not_told_at_the_end)
    let_aiokafka_notice()
    with asyncio.Runner(loop_factory=WorkerLoop) as runner:
        return runner.run(_run(settings, bounds, on_model, until))


async def _run(
    settings: Settings,
    bounds: Bounds | None,
    on_model: Callable[[EncoderInfo], Awaitable[None]] | None,
    until: Callable[[Worker], Coroutine[Any, Any, None]] | None,
) -> int:
    worker = Worker(settings, bounds, on_model)
    garbage = asyncio.create_task(_collect_garbage_rarely())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_forgotten_task)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    starting = asyncio.create_task(worker.app.start())
    waits = {
        asyncio.create_task(stop.wait()),
        asyncio.create_task(worker.failed.wait()),
        asyncio.create_task(worker.app.wait_until_stopped()),
    }
    until_done = None if until is None else asyncio.create_task(until(worker))
    if until_done is not None:
        waits.add(until_done)
    unstarted: Exception | None = None
    try:
        done, _ = await asyncio.wait({starting, *waits}, return_when=asyncio.FIRST_COMPLETED)
        if starting in done:
            starting.result()
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    except Exception as error:  # noqa: BLE001 - told below, as whatever else ends a worker
        unstarted = error
    finally:
        for task in (starting, garbage, *waits):
            task.cancel()
        await _stopped(worker)
    failure = worker.failure or unstarted or worker.app.crash_reason
    if failure is None and until_done is not None and until_done.done():
        failure = None if until_done.cancelled() else until_done.exception()
    if failure is None:
        return 0
    told = explained(failure, settings)
    if stop.is_set() and isinstance(told, ReportBug):
        return RestartWorker.exit_code
    raise told from failure


def _is_not_told_at_the_end(record: logging.LogRecord) -> bool:
    """Leave out Faust's traceback of a changelog made anew: the worker's last line says it."""
    return not (record.exc_info and isinstance(record.exc_info[1], ConsistencyError))


def _on_forgotten_task(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say what nobody waited for; of Kafka in one line, for whoever sent it has told of it.

    Faust leaves a task behind where the worker stops during a recovery; that is no news.
    """
    error = context.get("exception")
    if isinstance(error, KafkaError):
        log.warning("%s: %r", context["message"], error)
    elif not isinstance(error, ServiceStopped):  # the loop's own handler would write out the task
        log.error("%s", what_happened(context["message"]), exc_info=error)


async def _stopped(worker: Worker) -> None:
    try:
        async with asyncio.timeout(worker.settings.stop_timeout_s):
            await worker.app.stop()
    except TimeoutError:
        worker.failure = worker.failure or RestartWorker(
            f"the worker did not stop within stop_timeout_s ({worker.settings.stop_timeout_s:g} s)"
        )
    finally:
        await worker.after_stop()


async def _collect_garbage_rarely() -> None:
    """Run Python's cycle collector once an hour (and at rebalances) instead of all the time.

    Windows are a million small tuples without cycles: looking at each new one took a fifth of all
    time and stalled the loop for up to 150 ms with 20,000 users. What cycles there are, tracebacks
    mostly, came to 161 objects after 300,000 events.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        await asyncio.sleep(_COLLECT_EVERY_S)
        gc.collect()
