"""Event weights against a plain loop over one user's events."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from encoders import InterestConfig, WindowBatch
from encoders.context_features import FEATURES, context_features
from encoders.event_weights import EventWeigher
from state.event import TYPE_CODES, EventType
from tests.conformance.windows import chosen_users, some_windows

DAY_MS = 86_400_000
RULES = InterestConfig(
    rank_half_life_events=4.0,
    time_half_life_ms=DAY_MS,
    event_type_weights={"purchase": 2.0, "view": 0.5},
)


def by_hand(batch: WindowBatch, user: int, known: np.ndarray, rules: InterestConfig) -> list[float]:
    events = [
        event
        for event in range(batch.offsets[user], batch.offsets[user + 1])
        if batch.rows[event] >= 0 and known[batch.rows[event]]
    ]
    names = {code: kind.value for kind, code in TYPE_CODES.items()}
    raw = []
    for rank, event in enumerate(reversed(events)):
        age_ms = int(batch.times_ms[events[-1]] - batch.times_ms[event])
        weight = rules.event_type_weights.get(names[int(batch.types[event])], 1.0)
        weight *= 0.5 ** (rank / rules.rank_half_life_events)
        weight *= 0.5 ** (age_ms / rules.time_half_life_ms)
        raw.append(weight)
    return [weight / sum(raw) for weight in reversed(raw)]


def test_weights_are_those_of_a_plain_loop() -> None:
    batch = some_windows(60, 20)
    known = np.arange(20) % 5 != 0
    weighed = EventWeigher(RULES).weigh(batch, known, with_session=False)
    assert weighed.session is None
    for user in range(60):
        ours = weighed.window[weighed.offsets[user] : weighed.offsets[user + 1]]
        # Ages are rounded down to a 1,024th of a half-life: at most 0.07 % of a weight.
        assert ours == pytest.approx(by_hand(batch, user, known, RULES), rel=2e-3, abs=1e-7)


def test_a_session_is_the_tail_after_the_last_long_gap() -> None:
    rules = InterestConfig(rank_half_life_events=0.0)
    batch = some_windows(60, 20, seed=3)
    known = np.ones(20, dtype=bool)
    weighed = EventWeigher(rules).weigh(batch, known, with_session=True)
    assert weighed.session is not None
    for user in range(60):
        here = slice(batch.offsets[user], batch.offsets[user + 1])
        times = batch.times_ms[here][batch.rows[here] >= 0]
        length = len(times)
        while length > 1 and times[length - 1] - times[length - 2] <= rules.session_gap_ms:
            length -= 1
        tail = len(times) - max(length - 1, 0)
        expected = [0.0] * (len(times) - tail) + [1 / tail if tail else 0.0] * tail
        ours = weighed.session[weighed.offsets[user] : weighed.offsets[user + 1]]
        assert ours == pytest.approx(expected)


def test_weights_do_not_depend_on_the_batch() -> None:
    batch = some_windows(40, 20, seed=5)
    known = np.ones(20, dtype=bool)
    weigher = EventWeigher(RULES)
    whole = weigher.weigh(batch, known, with_session=True)
    assert whole.session is not None
    for user in range(40):
        alone = weigher.weigh(chosen_users(batch, [user]), known, with_session=True)
        here = slice(whole.offsets[user], whole.offsets[user + 1])
        assert np.array_equal(alone.window, whole.window[here])
        assert np.array_equal(alone.session, whole.session[here])


def test_features_do_not_depend_on_the_batch_and_are_finite() -> None:
    batch = some_windows(40, 20, seed=6)
    whole = context_features(batch, 1_800_000)
    assert whole.shape == (40, len(FEATURES))
    assert np.isfinite(whole).all()
    for user in range(40):
        alone = context_features(chosen_users(batch, [user]), 1_800_000)
        assert np.array_equal(alone[0], whole[user])


def test_features_of_a_window_known_by_heart() -> None:
    batch = WindowBatch(
        rows=np.full(4, -1, np.int32),
        offsets=np.array([0, 4]),
        times_ms=np.array([0, 3_600_000, 3_601_000, 3_604_000]),
        types=np.array([TYPE_CODES[EventType.VIEW]] * 3 + [TYPE_CODES[EventType.SEARCH]], np.uint8),
        dwell_ms=np.array([-1, 1_000, -1, 3_000], np.int32),
    )
    named = dict(zip(FEATURES, context_features(batch, 1_800_000)[0], strict=True))
    assert named["share_view"] == pytest.approx(0.75)
    assert named["share_search"] == pytest.approx(0.25)
    assert named["log_events"] == pytest.approx(np.log1p(4))
    assert named["log_span_s"] == pytest.approx(np.log1p(3_604))
    assert named["log_last_gap_s"] == pytest.approx(np.log1p(3))
    assert named["session_share"] == pytest.approx(0.75)
    assert named["dwell_known_share"] == pytest.approx(0.5)
    assert named["mean_log_dwell_s"] == pytest.approx((np.log1p(1) + np.log1p(3)) / 2)
    assert named["hour_sin"] == pytest.approx(np.sin(2 * np.pi * 3_604 / 86_400))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"weights": {"chapter": 1.0}}, "'chapter' is none of document, paragraph"),
        ({"weights": {"word": 0.0}}, "at least one granularity needs a weight above 0"),
        ({"weights": {"word": -1.0}}, "word must be 0 or more, is -1.0"),
        ({"event_type_weights": {"forget": 1.0}}, "'forget' is none of"),
        ({"rank_half_life_events": -1.0}, "rank_half_life_events must be 0 or more, is -1.0"),
        ({"session_gap_ms": 0}, "session_gap_ms must be at least 1, is 0"),
        ({"fusion": "vote"}, "Invalid enum value 'vote'"),
        ({"colour": "red"}, "unknown field `colour`"),
    ],
)
def test_a_wrong_interest_config_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert(wrong, InterestConfig)
