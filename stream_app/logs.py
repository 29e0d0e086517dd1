"""What the worker writes on stderr: lines for people or JSON for machines, and nobody's data.

User ids and texts are in no message of ours. What could still bring them in are exceptions that are
not ours: a KeyError names its key, a tokenizer the text it fails on. Unless a setting allows it, of
such an exception only the type and where it was raised are written.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from stream_app.errors import InterestStreamError

log = logging.getLogger(__name__)

_LIBRARIES = ("faust", "mode", "aiokafka", "stream_app.delivery", "abc")
_OF_THE_WORLD = {  # by name: while the interpreter ends, nothing can be imported any more
    "aiokafka.errors.KafkaError",
    "builtins.OSError",  # TimeoutError is one
    "encoders.errors.EncoderError",
    "state.database.DatabaseDamaged",
    "state.database.DatabaseFull",
    "stream_app.errors.InterestStreamError",
}
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class LogStyle(NamedTuple):
    """How and what the worker writes. Travels to the encoder process."""

    level: str
    form: Literal["text", "json"]
    personal_data: bool

    def begin(self) -> None:
        """Write so from now on, for the whole process."""
        handler = logging.StreamHandler()
        handler.setFormatter(formatter(self))
        logging.basicConfig(level=self.level.upper(), handlers=[handler])
        quiet = logging.WARNING
        if self.level == "debug":  # aiokafka then writes whole requests, with all that is in them
            quiet = logging.DEBUG if self.personal_data else logging.INFO
        for library in _LIBRARIES:
            logging.getLogger(library).setLevel(quiet)
        logging.captureWarnings(capture=True)  # these three would write on stderr what they like
        sys.unraisablehook = _on_unraisable
        threading.excepthook = _on_ended_thread


def _on_unraisable(what: sys.UnraisableHookArgs) -> None:
    place = getattr(what.object, "__qualname__", type(what.object).__name__)
    log.error("an error in %s, which goes on", place, exc_info=what.exc_value)


def _on_ended_thread(what: threading.ExceptHookArgs) -> None:
    name = what.thread.name if what.thread else "unknown"
    log.error("the thread %s ended with an error", name, exc_info=what.exc_value)


def formatter(style: LogStyle) -> logging.Formatter:
    """Return what turns records into lines of this style."""
    return (Json if style.form == "json" else Text)(personal_data=style.personal_data)


def shown(error: BaseException, *, personal_data: bool) -> str:
    """Return what may be written of an exception's message."""
    if personal_data or _speaks_of_the_world(error):
        return str(error)
    return f"{type(error).__name__} (what it says may be a user's: see log_personal_data)"


def _speaks_of_the_world(error: BaseException) -> bool:
    """Tell whether the message names settings, brokers and files, but no data."""
    if isinstance(error, InterestStreamError) and error.quotes_data:
        return False
    return any(
        f"{kind.__module__}.{kind.__qualname__}" in _OF_THE_WORLD for kind in type(error).__mro__
    )


def what_happened(message: str) -> str:
    """Return an event loop's message without a callback's arguments and an error's text."""
    return re.split(r"[\n(]", message, maxsplit=1)[0]


class _Said(str):
    """Looks the same as ``%s`` and as ``%r``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Text(logging.Formatter):
    """One line, and below it the traceback, if any."""

    def __init__(self, *, personal_data: bool) -> None:
        super().__init__(_TEXT)
        self._personal_data = personal_data

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        return super().format(self._discreet(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  # logging's name
        """Return the traceback, with messages as far as they may be shown."""
        if self._personal_data:
            return super().formatException(ei)
        return "".join(self._traced(ei[1])).rstrip()

    def _discreet(self, record: logging.LogRecord) -> logging.LogRecord:
        """Return a copy whose arguments and traceback may be written, whatever they are."""
        if self._personal_data or not (record.args or record.exc_info):
            return record
        copy = logging.makeLogRecord(record.__dict__)
        copy.exc_text = None  # another handler may have left the whole of it there
        if record.name == "asyncio" and record.exc_info:
            copy.msg, copy.args = what_happened(record.getMessage()), None
        elif isinstance(record.args, Mapping):
            copy.args = {name: self._argument(each) for name, each in record.args.items()}
        elif record.args:
            copy.args = tuple(map(self._argument, record.args))
        return copy

    def _argument(self, argument: object) -> object:
        if isinstance(argument, BaseException) and not _speaks_of_the_world(argument):
            return _Said(shown(argument, personal_data=False))
        return argument

    def _traced(self, error: BaseException) -> Iterator[str]:
        before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if before is not None:
            yield from self._traced(before)
            yield "\nwhich led to:\n\n"
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(error.__traceback__)
        name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        yield f"{name}: {shown(error, personal_data=False)}\n"


class Json(Text):
    """One object per line: time, level, logger, message; error with the traceback, if any.

    What a record has in ``extra={"fields": {...}}`` stands in it, too.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        record = self._discreet(record)
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()
