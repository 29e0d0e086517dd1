"""Whatever bytes come: the decoders refuse with their own errors, or give what can be used."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, damaged, refused

_NAMES = st.sampled_from(
    ["event_id", "user_id", "type", "item_id", "text", "time_ms", "vector", "schema_version"]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES | st.text(), inner),
    max_leaves=12,
)


@pytest.mark.parametrize("name", TARGETS)
def test_a_sample_of_the_million(name: str) -> None:
    """``python -m tests.fuzz`` gives a million; docs/security.md has its result."""
    random_ = random.Random(1)
    target = TARGETS[name]
    refusals = sum(
        refused(target, damaged(random_, random_.choice(target.sound))) for _ in range(2_000)
    )
    assert not any(refused(target, value) for value in target.sound)
    if target.refusals:
        assert 0 < refusals < 2_000


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60)
@given(value=st.binary(max_size=200))
def test_bytes_by_chance(name: str, value: bytes) -> None:
    target = TARGETS[name]
    refused(target, value)
    refused(target, target.sound[0][:10] + value)


@settings(max_examples=60)
@given(found=_JSON)
def test_json_of_any_shape(found: object) -> None:
    for name in ("event", "update"):
        refused(TARGETS[name], json.dumps(found).encode())
