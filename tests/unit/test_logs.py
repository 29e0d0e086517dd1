"""What is logged: JSON a machine can read, one block at the start, and nobody's data."""

from __future__ import annotations

import ast
import asyncio
import json
import logging
import pydoc
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from encoders.interface import EncoderInfo
from stream_app import logs, runner, start_block
from stream_app.encoder_process import EncoderFailed, EncoderRaised
from stream_app.errors import RestartWorker
from stream_app.failures import explained
from stream_app.logs import LogStyle, formatter
from stream_app.settings import Settings

ROOT = Path(__file__).parents[2]
QUIET = LogStyle("info", "text", personal_data=False)
AS_JSON = QUIET._replace(form="json")
ALLOWED = LogStyle("info", "text", personal_data=True)
INFO = EncoderInfo("0123abcd", 384, ("word",), (1.0,), "cpu", "packed")

PERSONAL = {
    *("key", "user", "user_id", "users_texts", "text", "texts", "value", "detail", "event_id"),
    *("record", "records", "event", "window", "state", "letter", "letters", "session_id"),
}
"""Names under which a user's data travels in the sources."""
GUARDED = ("stream_app/burials.py", "whose")
"""The one argument that holds such data, and only where the setting allows it."""


def line(style: LogStyle, message: str, *args: object, error: BaseException | None = None) -> str:
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("stream_app.x", logging.ERROR, "x.py", 1, message, args, info)
    return formatter(style).format(record)


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:  # noqa: BLE001 - with its traceback, as a log has it
        return caught


@pytest.mark.parametrize("form", ["%s", "%r"])
@pytest.mark.parametrize("style", [QUIET, AS_JSON])
def test_a_foreign_exceptions_message_is_left_out(style: LogStyle, form: str) -> None:
    for error in (KeyError("alice"), EncoderRaised("the encoder raised on 'alice'")):
        said = line(style, f"it failed: {form}", error)
        assert "alice" not in said
        assert type(error).__name__ in said
        assert "alice" in line(ALLOWED, f"it failed: {form}", error)


def test_a_traceback_says_where_and_not_what() -> None:
    error = raised(RuntimeError("of alice"), cause=raised(KeyError("bob")))
    for style in (QUIET, AS_JSON):
        said = line(style, "it failed", error=error)
        assert "alice" not in said
        assert "bob" not in said
        assert "test_logs.py" in said
        assert "KeyError" in said
        assert "RuntimeError" in said
    allowed = line(ALLOWED, "it failed", error=error)
    assert "alice" in allowed
    assert "bob" in allowed


def test_what_speaks_of_the_world_is_said_in_full() -> None:
    for error in (RestartWorker("partition 3 got lost"), OSError(28, "No space left", "/data")):
        assert str(error) in line(QUIET, "%s", error)
    for name in logs._OF_THE_WORLD:  # by their names, so that a move of one is noticed here
        assert issubclass(pydoc.locate(name), Exception), name


def test_json_is_one_line_with_what_a_machine_asks_for() -> None:
    text = line(AS_JSON, "two\nlines of %s", "words", error=raised(ValueError("x")))
    assert "\n" not in text
    found = json.loads(text)
    assert found["message"] == "two\nlines of words"
    assert (found["level"], found["logger"]) == ("error", "stream_app.x")
    assert found["time"].endswith("+00:00")
    assert found["error"].startswith("Traceback")
    assert set(found) == {"time", "level", "logger", "message", "error"}


async def test_a_task_nobody_waits_for_is_told_of_without_what_it_held(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(user: str) -> None:
        raise KeyError(user)

    task = asyncio.ensure_future(fail("alice"))
    await asyncio.wait([task])
    loop = asyncio.get_running_loop()
    context = {"message": "never retrieved", "exception": task.exception(), "future": task}
    runner._on_forgotten_task(loop, context)
    (record,) = caplog.records
    said = formatter(QUIET).format(record)
    assert "never retrieved" in said
    assert "alice" not in said


def test_what_an_event_loop_tells_is_one_line_of_nobody_even_while_the_interpreter_ends() -> None:
    """A thread's loop has asyncio's own handler; as the program ends, nothing can be imported."""
    told = told_by("""
    import asyncio, gc
    from stream_app.logs import LogStyle

    async def fail(user):
        raise RuntimeError(user) from KeyError(user)

    def raise_on(user):
        raise ValueError(user)

    class Holder:
        pass

    async def main():
        asyncio.get_running_loop().call_soon(raise_on, "alice")
        holder = Holder()
        holder.itself, holder.task = holder, asyncio.ensure_future(fail("alice"))
        await asyncio.wait([holder.task])
        return holder

    LogStyle("info", "json", personal_data=False).begin()
    gc.disable()
    kept = asyncio.new_event_loop().run_until_complete(main())
    """)
    assert [each["message"] for each in told] == [
        "Exception in callback raise_on",
        "Task exception was never retrieved",
    ]
    assert all("Traceback" in each["error"] for each in told)


def test_threads_finalisers_and_warnings_write_lines_of_the_log_like_anyone() -> None:
    told = told_by("""
    import threading, warnings
    from stream_app.logs import LogStyle

    class Finalised:
        def __del__(self):
            raise KeyError("alice")

    def fail():
        raise ValueError("alice")

    LogStyle("info", "json", personal_data=False).begin()
    thread = threading.Thread(target=fail, name="sender")
    thread.start()
    thread.join()
    Finalised()
    warnings.warn("this is old")
    """)
    assert [each["level"] for each in told] == ["error", "error", "warning"]
    assert told[0]["message"] == "the thread sender ended with an error"
    assert "Finalised.__del__" in told[1]["message"]
    assert "this is old" in told[2]["message"]


def told_by(program: str) -> list[dict[str, Any]]:
    """Run a program of its own; return its lines of JSON, none of which names alice."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "alice" not in run.stderr
    return [json.loads(each) for each in run.stderr.splitlines()]


def test_a_bug_that_ends_the_worker_is_told_without_the_data_that_met_it() -> None:
    assert "alice" not in str(explained(KeyError("alice"), Settings()))
    assert "alice" in str(explained(KeyError("alice"), Settings(log_personal_data=True)))


def test_what_the_encoder_raised_may_be_a_users_text_and_is_not_the_last_line() -> None:
    for error in (EncoderRaised("the encoder raised on 'alice'"), EncoderFailed("no answer")):
        told = explained(error, Settings())
        assert "alice" not in str(told)
        assert ("no answer" in str(told)) == (not error.quotes_data)
        allowed = explained(error, Settings(log_personal_data=True))
        assert str(error) in str(allowed)
        for each in (told, allowed):
            assert type(each) is RestartWorker
            assert "nothing is lost" in str(each)


@pytest.mark.parametrize(("personal_data", "level"), [(False, "INFO"), (True, "DEBUG")])
def test_clients_that_write_out_whole_requests_do_so_only_if_allowed(
    personal_data: bool, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    root, kafka = logging.getLogger(), logging.getLogger("aiokafka")
    levels = root.level, kafka.level
    monkeypatch.setattr(root, "handlers", [])  # pytest's own would have it left as it is
    try:
        LogStyle("debug", "text", personal_data).begin()
        assert logging.getLevelName(kafka.level) == level
        assert logging.getLevelName(root.level) == "DEBUG"
        assert len(root.handlers) == 1
    finally:
        logging.captureWarnings(capture=False)
        root.setLevel(levels[0])
        kafka.setLevel(levels[1])


def test_the_start_block_has_what_differs_and_masks_secrets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings(
        security_protocol="SASL_SSL",
        sasl_username="worker",
        sasl_password=SecretStr("geheim"),
        window_max_events=20,
    )
    with caplog.at_level(logging.INFO):
        start_block.tell(settings, INFO, 8)
    (record,) = caplog.records
    text = formatter(QUIET).format(record)
    facts = json.loads(formatter(AS_JSON).format(record))["start"]
    assert "geheim" not in text + str(facts)
    assert facts["settings"] == {
        "security_protocol": "SASL_SSL",
        "sasl_username": "worker",
        "sasl_password": "**********",
        "window_max_events": 20,
    }
    assert (facts["model"], facts["device"], facts["partitions"]) == ("0123abcd", "cpu", 8)
    for said in ("0123abcd", "packed", "sasl_password = **********", "window_max_events = 20"):
        assert said in text


def log_calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            logger, method = ast.unparse(node.func.value), node.func.attr
            if logger in {"log", "self.log", "logger"} and hasattr(logging.Logger, method):
                yield node


def test_no_log_line_has_a_users_data_among_its_arguments() -> None:
    """Names only, but all of them: 50 lines, and those still to come."""
    calls = 0
    for folder in ("stream_app", "encoders", "state"):
        for path in (ROOT / folder).rglob("*.py"):
            place = path.relative_to(ROOT).as_posix()
            for call in log_calls(path):
                calls += 1
                named = {
                    node.id if isinstance(node, ast.Name) else node.attr
                    for argument in call.args[1:]
                    if not ast.unparse(argument).startswith(("len(", "sum("))
                    for node in ast.walk(argument)
                    if isinstance(node, ast.Name | ast.Attribute)
                }
                assert not named & PERSONAL, f"{place}:{call.lineno} logs {named & PERSONAL}"
                if "whose" in named:
                    assert (place, "whose") == GUARDED
    assert calls > 40, f"only {calls} found: is a logger called something else now?"
