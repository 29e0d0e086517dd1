"""The API of real workers: each answers for every user, from what the worker really holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import StreamMaker
from tests.harness import checks, vectors
from tests.harness.api import TOKEN, Api, start_with_api
from tests.harness.deadline import LONG_PATIENCE_S, eventually
from tests.harness.load import Load, event_message
from tests.harness.stream import STOP_S, Stream

pytestmark = pytest.mark.broker

LOAD = Load(events=600, users=25, items=30, poison=0.02, forget=0.0)
ADVERTISEMENT = "red shoes"


def test_two_workers_answer_for_every_user_and_one_when_it_is_alone(
    make_stream: StreamMaker,
) -> None:
    stream = make_stream()
    stream.publish(LOAD.catalogue())
    stream.send(LOAD.messages())
    apis = [start_with_api(stream) for _ in range(2)]
    stream.wait_shared([api.worker for api in apis])
    stream.drain()
    _wait_item_vectors(stream)
    wanted = _Wanted(stream)

    places = [_answers_are_right(api, wanted) for api in apis]
    assert places[0] == places[1], "whoever is asked, the holder answers"
    assert set(places[0].values()) == {api.url for api in apis}, "and both hold users"
    _status_is_right(apis, stream, wanted)
    assert _audience(apis) == pytest.approx(wanted.audience(), abs=1e-5)
    assert apis[0].ask("/v1/status", token="another-token-of-16").status == 401
    gone = min(wanted.reference.forgotten)
    assert apis[1].of_user(gone, "interest").status == 404

    left, leaver = apis
    leaver.worker.ask_to_stop()
    assert leaver.worker.wait(STOP_S + 5) == 0
    stream.wait_shared([left.worker])
    assert set(_answers_are_right(left, wanted).values()) == {left.url}
    eventually(
        lambda: _audience([left]) == pytest.approx(wanted.audience(), abs=1e-5),
        what=lambda: f"{wanted.audience()} in {left.ask('/v1/audience', _ASKED)}",
    )
    forgotten, *_ = wanted.audience()
    stream.send([event_message({"event_id": "f", "user_id": forgotten, "type": "forget"})])
    stream.drain()
    assert left.of_user(forgotten, "interest").status == 404
    assert forgotten not in _audience([left])


def test_the_document_is_kept_to_and_what_is_wrong_refused(
    make_stream: StreamMaker, tmp_path: Path
) -> None:
    """Schemathesis: what the document allows, and what it does not, and everything between."""
    stream = make_stream(partitions=1)
    load = Load(events=200, users=3, items=10)
    stream.publish(load.catalogue())
    stream.send(load.messages())
    api = start_with_api(stream, api_requests_per_s=100_000)
    api.worker.wait_running()
    stream.drain()
    known = tmp_path / "schemathesis.toml"
    known.write_text('[parameters]\nuser_id = "user-5"\n')
    stream.send([event_message({"event_id": "x", "user_id": "user-5", "type": "view",
                                "item_id": "item-1"})])  # fmt: skip
    stream.drain()
    for number, config in enumerate(([], ["--config-file", str(known)])):
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), *config, "run"),
            *(f"{api.url}/openapi.json", "--header", f"Authorization: Bearer {TOKEN}"),
            *("--checks", "all", "--phases", "coverage,fuzzing", "--max-examples", "20"),
            *("--seed", str(41 + number), "--continue-on-failure", "--report", "json"),
            *("--report-json-path", str(tmp_path / f"report-{number}.json")),
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=LONG_PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert "7 selected / 7 total" in done.stdout
    assert api.of_user("user-5", "history").status == 200, "and it is well"


_ASKED = {"text": ADVERTISEMENT, "k": 100}


class _Wanted:
    """What must be answered, by the plain reference."""

    def __init__(self, stream: Stream) -> None:
        self.reference = stream.reference()
        self.texts = stream.item_texts()
        settings = stream.settings
        self.vectors = vectors.of_users(self.reference, self.texts, settings)
        self.items = {
            item: np.array(vectors.of_item(text, settings)) for item, text in self.texts.items()
        }
        self.question = np.array(vectors.of_item(ADVERTISEMENT, settings))

    def audience(self) -> dict[str, float]:
        """Return the score of every user."""
        return {user: float(np.dot(vector, self.question)) for user, vector in self.vectors.items()}

    def scores(self, user: str) -> list[float]:
        """Return the scores of all items."""
        vector = np.array(self.vectors[user])
        return sorted((float(vector @ item) for item in self.items.values()), reverse=True)


def _wait_item_vectors(stream: Stream) -> None:
    def published() -> bool:
        records = stream.client.read(stream.settings.item_vectors_topic)
        return len(checks.last_per_key(records)) == LOAD.items

    eventually(published, what="every item's vector published")


def _answers_are_right(api: Api, wanted: _Wanted) -> dict[str, str]:
    """Ask for every user; return who answered."""
    answered_by = {}
    for name, user in sorted(wanted.reference.users.items()):
        answer = eventually(
            lambda name=name: _if_ready(api, name),  # type: ignore[misc]
            what=lambda name=name: f"{name}: {api.of_user(name, 'interest')}",  # type: ignore[misc]
        )
        assert answer["vector"] == pytest.approx(wanted.vectors[name], abs=1e-6)
        held = [
            {key: each[key] for key in each.keys() & {"event_id", "type", "time_ms", "item_id"}}
            for each in answer["events"]
        ]
        assert held == [{key: each.get(key) for key in held[0]} for each in user.held]
        provenance = answer["provenance"]
        assert provenance["applied_offset"] == user.applied_offset
        assert provenance["partition"] == wanted.reference.partition[name]
        answered_by[name] = provenance["worker"]

        near = api.of_user(name, "neighbours", k=5).said
        assert near["complete"]
        scores = [each["score"] for each in near["items"]]
        assert scores == pytest.approx(wanted.scores(name)[:5], abs=1e-5)
        assert all(each["text"] == wanted.texts[each["item_id"]] for each in near["items"])
        path = api.of_user(name, "history").said
        assert [each["event_id"] for each in path["points"]] == provenance["event_ids"]
        assert len(path["landmarks"]) == 12
    return answered_by


def _if_ready(api: Api, user: str) -> Any:
    """Return what is said of a user, nothing while the group is not settled."""
    answer = api.of_user(user, "interest")
    assert answer.status in (200, 503), answer
    return answer.said if answer.status == 200 else None


def _status_is_right(apis: list[Api], stream: Stream, wanted: _Wanted) -> None:
    answer = apis[0].ask("/v1/workers").said
    statuses = {each["url"]: each["status"] for each in answer["workers"]}
    assert set(statuses) == {api.url for api in apis}
    records = len(stream.events())
    assert sum(each["counts"]["records"] for each in statuses.values()) >= records
    letters: dict[str, int] = {}
    for each in statuses.values():
        assert each["lag"] == 0
        assert each["state"] == "running"
        assert not each["recovery"]["active"]
        assert [place["is_this"] for place in each["workers"]].count(True) == 1
        for reason, count in each["dead_letters"]["by_reason"].items():
            letters[reason] = letters.get(reason, 0) + count
    held = [part["partition"] for each in statuses.values() for part in each["partitions"]]
    assert sorted(held) == list(range(stream.settings.partitions))
    dead = stream.client.read(stream.settings.dead_letters_topic)
    assert sum(letters.values()) == len(dead) > 0
    told = [each for one in statuses.values() for each in one["dead_letters"]["last"]]
    places = {(each["partition"], each["offset"]) for each in told}
    assert places <= wanted.reference.poison


def _audience(apis: list[Api]) -> dict[str, float]:
    """Return the audience of all workers together."""
    found: dict[str, float] = {}
    for api in apis:
        users = eventually(
            lambda api=api: _if_complete(api),  # type: ignore[misc]
            what=lambda api=api: f"complete: {api.ask('/v1/audience', _ASKED).said}",  # type: ignore[misc]
        )
        scores = [each["score"] for each in users]
        assert scores == sorted(scores, reverse=True)
        assert len({each["user_id"] for each in users}) == len(users)
        assert not found.keys() & {each["user_id"] for each in users}, "one user, one holder"
        found |= {each["user_id"]: each["score"] for each in users}
    return found


def _if_complete(api: Api) -> Any:
    said = api.ask("/v1/audience", _ASKED).said
    return said["users"] if said["complete"] else None
