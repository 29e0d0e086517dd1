"""The encoder process itself: killed, hung, raising, restarted. A real process with the stub."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest

from encoders.config import EncoderConfig
from stream_app import encoder_child
from stream_app.encoder_process import EncoderDied, EncoderFailed, EncoderProcess
from stream_app.errors import FixSettings, RestartWorker

STUB = EncoderConfig(kind="stub", stub_dimensions=8)


@pytest.fixture
async def process() -> AsyncIterator[EncoderProcess]:
    process = EncoderProcess(STUB, start_timeout_s=60, request_timeout_s=2)
    await process.start()
    yield process
    await process.stop()


async def test_answers_come_in_the_order_of_the_requests(process: EncoderProcess) -> None:
    lengths = [1, 100_000, 3, 2_000_000]
    answers = await asyncio.gather(*(process.call(bytes, length) for length in lengths))
    assert [len(answer) for answer in answers] == lengths


async def test_what_it_raises_is_said_and_it_lives_on(process: EncoderProcess) -> None:
    with pytest.raises(EncoderFailed, match="invalid literal"):
        await process.call(int, "x")
    assert await process.call(int, "7") == 7
    assert process.epoch == 1


async def test_a_killed_process_is_replaced_for_whoever_waits(process: EncoderProcess) -> None:
    waiting = [asyncio.create_task(process.call(time.sleep, 1.5)) for _ in range(3)]
    await asyncio.sleep(0.2)
    os.kill(process.pid or 0, signal.SIGKILL)
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, EncoderFailed)
    assert process.epoch == 2
    assert await process.call(os.getpid) == process.pid


async def test_a_request_during_a_restart_waits_for_its_end(process: EncoderProcess) -> None:
    first = asyncio.create_task(process.call(os._exit, 1))
    while process.pid is not None and process._pipe is not None:  # noqa: ASYNC110 - no event of it
        await asyncio.sleep(0.005)
    with pytest.raises(EncoderFailed, match="restarted"):  # its rows belong to the one that died
        await process.call(os.getpid)
    assert process.epoch == 2
    assert await process.call(int, "7") == 7
    with pytest.raises(EncoderFailed, match="died"):
        await first


async def test_a_hung_process_is_replaced(process: EncoderProcess) -> None:
    with pytest.raises(EncoderFailed, match=r"no answer within encode_timeout_s \(2 s\)"):
        await process.call(time.sleep, 60)
    assert process.epoch == 2
    assert await process.call(int, "7") == 7


async def test_after_stop_nothing_is_started_again(process: EncoderProcess) -> None:
    await process.stop()
    with pytest.raises(EncoderFailed, match="not running"):
        await process.call(encoder_child.request_close)
    assert process.epoch == 1


async def test_a_model_that_cannot_be_loaded_is_a_setting_to_fix() -> None:
    config = EncoderConfig(text_model="./nowhere")
    process = EncoderProcess(config, start_timeout_s=60, request_timeout_s=2)
    with pytest.raises(FixSettings, match="no model folder"):
        await process.start()
    assert process.pid is None


async def test_one_that_answers_owes_nothing(process: EncoderProcess) -> None:
    assert await process.silent_s() == 0.0
    await process.call(int, "7")
    assert await process.silent_s() == 0.0


async def test_a_busy_one_is_silent_since_its_last_answer(process: EncoderProcess) -> None:
    begun_s = time.monotonic()
    calls = [asyncio.create_task(process.call(time.sleep, 0.8)) for _ in range(2)]
    await asyncio.sleep(0.05)
    assert await process.silent_s() > 0
    await calls[0]
    silent_s = await process.silent_s()
    assert silent_s <= time.monotonic() - begun_s - 0.8  # of the second request, not of both
    await calls[1]
    assert await process.silent_s() == 0.0


async def test_one_that_hangs_while_idle_is_found_out(process: EncoderProcess) -> None:
    os.kill(process.pid or 0, signal.SIGSTOP)
    silent_s = await process.silent_s()
    assert silent_s >= 1.0  # it was asked for a sign of life
    assert await process.silent_s() > silent_s
    os.kill(process.pid or 0, signal.SIGCONT)
    assert await process.call(int, "7") == 7
    assert await process.silent_s() == 0.0


async def test_one_that_died_while_idle_is_silent_since_then(process: EncoderProcess) -> None:
    os.kill(process.pid or 0, signal.SIGKILL)
    while not await process.silent_s():  # noqa: ASYNC110 - no event of it
        await asyncio.sleep(0.005)
    silent_s = await process.silent_s()
    assert await process.silent_s() > silent_s


async def test_a_restart_does_not_end_the_silence(process: EncoderProcess) -> None:
    hung = asyncio.create_task(process.call(time.sleep, 60))
    while process._pipe is not None:  # noqa: ASYNC110 - no event of it
        await asyncio.sleep(0.005)
    assert await process.silent_s() >= 2.0  # the time limit of a request
    with pytest.raises(EncoderFailed, match="no answer"):
        await hung
    assert await process.silent_s() == 0.0


async def test_each_request_is_timed_by_its_name_answered_or_not() -> None:
    told: list[tuple[str, float]] = []
    process = EncoderProcess(
        STUB,
        start_timeout_s=60,
        request_timeout_s=2,
        answered=lambda name, seconds: told.append((name, seconds)),
    )
    await process.start()
    await process.call(encoder_child.request_forgetting, [])
    with pytest.raises(EncoderFailed):
        await process.call(time.sleep, "x")
    await process.silent_s()  # a sign of life is no request
    assert [name for name, _ in told] == ["forgetting", "sleep"]
    assert all(0 < seconds < 2 for _, seconds in told)
    await process.stop()


async def test_one_that_does_not_come_up_any_more_ends_the_worker(
    process: EncoderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts, waits_s = 0, []

    async def start_in_vain() -> None:
        nonlocal starts
        starts += 1
        raise EncoderDied

    async def no_wait(seconds: float) -> None:
        waits_s.append(seconds)

    monkeypatch.setattr(process, "start", start_in_vain)
    monkeypatch.setattr(asyncio, "sleep", no_wait)
    with pytest.raises(RestartWorker, match="does not come up any more: the encoder process died"):
        await process.call(os._exit, 1)
    assert starts == 5
    assert waits_s == [0.5, 1, 2, 4]
