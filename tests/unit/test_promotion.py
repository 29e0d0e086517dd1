"""What a promotion does about each user."""

from __future__ import annotations

import pytest

from stream_app.errors import FixSettings
from stream_app.replaying.promotion import Promotion, check
from stream_app.replaying.promotion_verdicts import Last, Verdict, verdict

OLD, NEW = Last(7, "old", 3, 5, 90), Last(7, "new", 2, 5, 90)
GONE = Last(7, None, 3)


@pytest.mark.parametrize(
    ("live", "shadow", "committed", "wanted"),
    [
        (OLD, NEW, 8, Verdict.COPY),
        (OLD._replace(applied_offset=5), NEW, 8, Verdict.COPY),
        (None, NEW, 8, Verdict.COPY),
        (OLD._replace(applied_offset=5), NEW, 7, Verdict.LEFT_TO_WORKERS),
        (OLD._replace(applied_offset=9), NEW, 10, Verdict.SHADOW_BEHIND),
        (OLD._replace(model_id="new", applied_offset=9), NEW, 10, Verdict.DONE),
        (OLD._replace(model_id="new"), None, 10, Verdict.DONE),
        (OLD._replace(event_count=6), NEW, 8, Verdict.OTHER_WINDOW),
        (OLD._replace(time_ms=91), NEW, 8, Verdict.OTHER_WINDOW),
        (GONE, NEW, 8, Verdict.FORGOTTEN),
        (GONE._replace(applied_offset=6), NEW, 8, Verdict.FORGOTTEN),
        (OLD, GONE, 8, Verdict.FORGOTTEN),
        (OLD, None, 8, Verdict.NOT_IN_SHADOW),
    ],
)
def test_verdicts(live: Last | None, shadow: Last | None, committed: int, wanted: Verdict) -> None:
    assert verdict(live, shadow, "new", committed) is wanted


def test_nothing_is_promoted_while_the_old_model_publishes() -> None:
    found = Promotion("next", "new", True, 0, {2: "old", 0: "old"})
    with pytest.raises(FixSettings, match=r"in partitions 0, 2 is of model old, not of new"):
        check(found, before_rollover=False)
    check(found, before_rollover=True)
    found.not_rolled_over.clear()
    check(found, before_rollover=False)
