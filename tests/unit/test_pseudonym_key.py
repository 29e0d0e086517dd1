"""Pseudonyms: of whom, by which key, and where they are put."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from state.event import EventLimits, InvalidEvent, decode
from state.pseudonyms import Pseudonyms
from stream_app.errors import FixSettings
from stream_app.settings import Settings

KEY = "0123456789abcdef" * 2


def test_it_is_what_other_languages_compute() -> None:
    wanted = hmac.new(KEY.encode(), "J\u00f6rg".encode(), hashlib.sha256).hexdigest()[:32]
    assert Pseudonyms(KEY).of("J\u00f6rg") == wanted
    assert Pseudonyms(KEY).of_key("J\u00f6rg".encode()) == wanted.encode()
    assert Pseudonyms(KEY[::-1]).of("J\u00f6rg") != wanted


def test_an_event_is_checked_by_its_id_and_then_has_a_pseudonym() -> None:
    limits = EventLimits(pseudonyms=Pseudonyms(KEY))
    value = b'{"event_id":"e","user_id":"u","type":"view","item_id":"i"}'
    event = decode(b"u", value, 7, limits)
    assert (event.user_id, event.item_id, event.time_ms) == (Pseudonyms(KEY).of("u"), "i", 7)
    with pytest.raises(InvalidEvent, match="key-mismatch"):
        decode(Pseudonyms(KEY).of_key(b"u"), value, 7, limits)


def test_a_key_stands_in_no_description_of_what_has_it() -> None:
    assert KEY not in repr(EventLimits(pseudonyms=Pseudonyms(KEY)))


def test_settings_read_the_key_and_say_what_is_wrong_with_it(tmp_path: Path) -> None:
    file = tmp_path / "key"
    settings = Settings(pseudonym_key_file=file)
    with pytest.raises(FixSettings, match=r"pseudonym_key_file .* cannot be read"):
        settings.event_limits()
    file.write_text("too short\n")
    with pytest.raises(FixSettings, match=r"pseudonym_key_file .* has 9 characters, 32 are needed"):
        settings.event_limits()
    file.write_text(KEY + "\n")
    assert settings.key_of("u") == Pseudonyms(KEY).of_key(b"u")
    assert Settings().key_of("u") == b"u"
