"""Masking: on labelled texts, in events, in dead letters."""

from __future__ import annotations

import json
import runpy
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from state.event import Event, EventLimits, decode
from state.masking import mask
from stream_app.dead_letters import masked
from stream_app.intake import decode_records
from stream_app.settings import Settings
from tests.masking import labelled

LIMITS = Settings().event_limits()


@pytest.mark.parametrize("part", labelled.PARTS)
def test_labelled_texts(part: str) -> None:
    """Floors a little below what docs/security.md reports, and that page reports what is so."""
    scores = labelled.scores(part)
    assert set(scores) == {"card", "email", "phone"}
    assert all(score.right + score.missed >= 40 for score in scores.values())
    assert all(score.precision >= 0.97 for score in scores.values())
    assert all(
        score.recall >= (0.99 if part == "development" else 0.86) for score in scores.values()
    )


def test_the_page_says_what_is_measured() -> None:
    script = runpy.run_module("docs.masking_table")
    found = script["PAGE"].read_text(encoding="utf-8")
    assert found == script["page"](), "run python -m docs.masking_table"


_SIGNS = st.text(st.sampled_from("0123456789 +-().@abe\u0665é[]/€"), max_size=60)


@given(st.one_of(_SIGNS, st.text(max_size=60)))
def test_masking_twice_changes_nothing_more(text: str) -> None:
    once = mask(text)
    assert mask(once) == once


@given(_SIGNS, st.sampled_from(["anna@example.org", "+49 30 1234567", "4111 1111 1111 1111"]))
def test_what_is_written_among_letters_is_found(noise: str, secret: str) -> None:
    letters = "".join(sign for sign in noise if sign in "abe ")
    assert secret not in mask(f"{letters} {secret} {letters}")


def test_digits_of_other_scripts_and_wide_signs() -> None:
    assert mask("اتصل +٤٩ ٣٠ ١٢٣٤٥٦٧") == "اتصل [phone]"
    assert mask("４１１１ １１１１ １１１１ １１１１") == "[card]"


def _event(limits: EventLimits, **fields: Any) -> Event:
    value = {"event_id": "e", "user_id": "u", **fields}
    return decode(b"u", json.dumps(value).encode(), 7, limits)


@pytest.mark.parametrize(
    ("setting", "kinds"),
    [("off", set()), ("written", {"search", "review"}), ("all", {"search", "review", "view"})],
)
def test_the_setting_says_whose_texts(setting: str, kinds: set[str]) -> None:
    limits = Settings(mask_texts=setting).event_limits()  # type: ignore[arg-type]
    texts = {
        kind: _event(limits, type=kind, text="mail anna@example.org").text
        for kind in ("search", "review", "view")
    }
    assert {kind for kind, text in texts.items() if text == "mail [email]"} == kinds
    assert {text for kind, text in texts.items() if kind not in kinds} <= {"mail anna@example.org"}


def test_everything_else_of_the_event_stays() -> None:
    event = _event(LIMITS, type="review", item_id="i", text="a@example.org", time_ms=5, dwell_ms=2)
    assert event == Event("e", "u", event.type, "i", "[email]", 5, None, 2)


def _letter(value: bytes, limits: EventLimits = LIMITS) -> Any:
    record = ConsumerRecord("t", 0, 3, 7, 0, b"u", value, None, 1, len(value), ())
    (_, (letter,)) = decode_records([record], limits)
    return letter


def test_a_refused_event_is_buried_masked_and_says_so() -> None:
    number = "+49 30 1234567"
    refused = {"event_id": number, "user_id": "u", "type": "gaze", "text": "søren@example.org",
               "more": [{"tel": number, "n": 10**30}]}  # fmt: skip
    letter = _letter(json.dumps(refused).encode())
    assert json.loads(letter.value) == refused | {
        "text": "[email]", "more": [{"tel": "[phone]", "n": 10**30}]
    }  # fmt: skip
    assert ("masked", b"1") in letter.record().headers


def test_what_is_no_json_is_masked_as_a_text() -> None:
    assert _letter(b'\xff{"text": "anna@example.org').value == b'\xff{"text": "[email]'


@pytest.mark.parametrize("value", [b"", b"\xff\xfe", b'{ "a":1e2 }', b"[" * 100_000, b"NaN"])
def test_what_holds_nothing_is_buried_to_the_byte(value: bytes) -> None:
    assert masked(value) is value
    letter = _letter(value)
    assert letter.value is value
    assert not letter.masked


def test_masking_off_buries_as_it_came() -> None:
    limits = Settings(mask_texts="off").event_limits()
    assert _letter(b"anna@example.org", limits).value == b"anna@example.org"
