"""What runs inside the encoder process: it reads requests from its pipe and answers in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import encoders
from encoders.config import EncoderConfig
from encoders.interface import EncoderInfo, Float32, Int32, Interests, TextReport, WindowBatch
from stream_app.logs import LogStyle

Request = tuple[Callable[..., Any], tuple[Any, ...]]
"""One of the ``request_`` functions below, and its arguments."""
Answer = tuple[bool, Any]
"""Whether it went well, and what came of it: the result, or the exception."""

_encoder: encoders.InterestEncoder | None = None


def serve(pipe: Connection[Answer, Request], log_style: LogStyle | None = None) -> None:
    """Answer requests until the worker closes the pipe."""
    if log_style is not None:
        log_style.begin()
    for sent_to_all in (signal.SIGINT, signal.SIGTERM):  # the worker stops us when it is done
        signal.signal(sent_to_all, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        answer: Answer
        try:
            answer = (True, function(*arguments))
        except encoders.EncoderError as error:
            answer = (False, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker deals with it
            answer = (False, RuntimeError(repr(error)))  # the exception itself may not travel
        pipe.send(answer)


def _end_with_parent() -> None:
    """A worker killed with -9 cannot stop us, and a busy process does not look at its pipe."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _loaded() -> encoders.InterestEncoder:
    assert _encoder is not None, "called outside the encoder process"
    return _encoder


def request_load(config: EncoderConfig) -> EncoderInfo:
    """Load the models."""
    global _encoder
    _encoder = encoders.build(config)
    return _encoder.info


def request_close() -> None:
    """Close the encoder's files."""
    if _encoder is not None:
        _encoder.close()


def request_ping() -> None:
    """Show that requests are answered."""


def request_texts(texts: Sequence[tuple[int, str]], media: Mapping[int, Float32]) -> TextReport:
    """Embed texts and keep them, and the media of some of them, under their row numbers."""
    return _loaded().put_texts(texts, media)


def request_forgetting(texts: Sequence[tuple[int, str]]) -> None:
    """Drop texts from memory and from disk."""
    _loaded().drop_texts(texts)


def request_interests(
    batch: WindowBatch, with_granularities: bool, with_several: bool
) -> Interests:
    """Return one vector per user of the batch, and the K of several interests if asked for."""
    found = _loaded().encode(batch, with_granularities=with_granularities)
    # Not asked for, they stay here: through the pipe they would be K times the rest.
    return found if with_several else replace(found, several=None)


def request_item_vectors(rows: Int32) -> Float32:
    """Return vectors of single texts, [N, D]."""
    return _loaded().item_vectors(rows)
