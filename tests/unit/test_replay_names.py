from __future__ import annotations

from pathlib import Path

import pytest

from stream_app.errors import FixSettings
from stream_app.replaying.names import name_of, plan_topic, shadow_settings
from stream_app.settings import Settings

LIVE = Settings(app_id="shop", datadir=Path("/data/worker"), text_model="here", http_port=8080)
WRITTEN = ("app_id", "updates_topic", "item_vectors_topic", "dead_letters_topic", "changelog_topic")


def test_a_shadow_writes_to_nothing_that_is_live() -> None:
    shadow = shadow_settings(LIVE, "june")
    assert shadow.app_id == "shop-replay-june"
    assert shadow.changelog_topic == "shop-replay-june-windows-changelog"
    assert shadow.updates_topic == "interest.updates-replay-june"
    assert shadow.datadir == Path("/data/worker/replays/june")
    assert shadow.http_port == 0
    live, own = ({getattr(s, name) for name in WRITTEN} for s in (LIVE, shadow))
    assert not live & own
    assert len(own) == len(WRITTEN)


def test_a_shadow_reads_and_folds_what_the_live_worker_does() -> None:
    shadow = shadow_settings(LIVE, "june")
    written = {*WRITTEN, "datadir", "http_port"}
    assert shadow.model_dump(exclude=written) == LIVE.model_dump(exclude=written)


def test_two_names_share_nothing() -> None:
    one, other = shadow_settings(LIVE, "june"), shadow_settings(LIVE, "june-plan")
    for name in (*WRITTEN, "datadir"):
        assert getattr(one, name) != getattr(other, name)
    assert plan_topic(LIVE, "june") == "shop-replay-june-plan"
    assert plan_topic(LIVE, "june-plan") == "shop-replay-june-plan-plan"


def test_a_bundle_takes_the_place_of_both_models() -> None:
    shadow = shadow_settings(LIVE.model_copy(update={"encoder": "stub"}), "june", model="/bundle")
    assert (shadow.model, shadow.encoder) == ("/bundle", "transformer")
    assert (shadow.text_model, shadow.interest_model) == ("", "")
    shadow.encoder_config()  # refuses two kinds of model beside each other


def test_processes_on_one_machine_have_datadirs_of_their_own() -> None:
    assert shadow_settings(LIVE, "june", datadir=Path("/two")).datadir == Path("/two")


@pytest.mark.parametrize("name", ["", "June", "a b", "-a", "a" * 41, "a/b", "ä"])
def test_what_no_topic_may_be_called_is_refused(name: str) -> None:
    with pytest.raises(FixSettings, match="1 to 40 of a-z"):
        shadow_settings(LIVE, name)


def test_an_app_id_that_gets_too_long_is_refused() -> None:
    with pytest.raises(FixSettings, match="app_id"):
        shadow_settings(LIVE.model_copy(update={"app_id": "a" * 90}), "june")


def test_a_name_is_found_again_in_what_it_names() -> None:
    assert name_of("shop-replay-june", "shop") == "june"
    assert name_of("shop", "shop") is None
    assert name_of("shop-replay-", "shop") is None
    assert name_of("shopping-replay-june", "shop") is None
