"""The API over windows of the test's making: what it says, to whom, and to whom not."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka.structs import ConsumerRecord

from state import codec
from state.event import Event, EventType
from stream_app.api import openapi, patience, service
from stream_app.api.admission import Token, token_of
from stream_app.encoder_process import EncoderFailed
from stream_app.errors import FixSettings
from stream_app.partition import Forgotten
from stream_app.topics import partition_of
from tests.harness.served_api import (
    DIMENSIONS,
    PARTITIONS,
    TOKEN,
    TOPIC,
    ServedApi,
    routes_of,
    serving,
)

ALL = range(PARTITIONS)


def event(name: str, user: str = "alice", **more: object) -> Event:
    values: dict[str, object] = {"item_id": name, "time_ms": ord(name[0]) * 1000, **more}
    return Event(name, user, EventType.VIEW, **values)  # type: ignore[arg-type]


@pytest.fixture
def served(tmp_path: Path) -> ServedApi:
    made = ServedApi(tmp_path, {})
    made.hold(*ALL)
    made.items.update({"a": "red shoes", "b": "blue boots", "c": "a tent"})
    return made


def item_record(item_id: str, vector: list[float] | None, model_id: str) -> ConsumerRecord:
    value = None
    if vector is not None:
        text = f'{{"item_id": "{item_id}", "vector": {vector}, "model_id": "{model_id}"}}'
        value = text.encode()
    key = item_id.encode()
    return ConsumerRecord("t", 0, 0, 0, 0, key, value, None, len(key), 0, ())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer sixteen-characters-or-mor"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": TOKEN}, 401),
        ({"Authorization": f"bearer {TOKEN}"}, 200),
    ],
)
async def test_only_the_token_opens(
    served: ServedApi, headers: dict[str, str], status: int
) -> None:
    async with serving(served) as (client,):
        async with client._session.get(served.url + "/v1/status", headers=headers) as answer:
            assert answer.status == status
            assert ("WWW-Authenticate" in answer.headers) == (status == 401)
        async with client._session.get(served.url + "/openapi.json") as answer:
            assert (await answer.json())["openapi"] == "3.1.0"


@pytest.mark.parametrize("path", ["/v1/users/alice/interest", "/v1/nothing", "/v1/embed"])
async def test_without_the_token_nothing_is_said_of_what_there_is(
    served: ServedApi, path: str
) -> None:
    async with serving(served) as (client,):
        status, said = await client.ask(path, token="another-one-of-16")
    assert (status, said["error"]) == (401, "unauthorized")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "fifteen-letters",
        "sixteen-letters\x07-or-more",
        " sixteen-letters-or-more",
        "sixteen-letters-or-more ",
        "sixteen-letters\tor-more",
        "sixteen letters or more",
        "sechzehn-Zeichen-für-alle",
    ],
)
def test_a_token_that_is_none_is_told_of_at_the_start(tmp_path: Path, token: str) -> None:
    file = tmp_path / "token"
    file.write_text(token + "\n")
    with pytest.raises(FixSettings, match="api_token_file") as caught:
        ServedApi(tmp_path, {}, api_token="", api_token_file=file)
    assert not token or token not in str(caught.value)
    assert "\n" not in str(caught.value)
    if token:
        with pytest.raises(FixSettings, match=r"^api_token must hold 16 or more .* no space"):
            ServedApi(tmp_path, {}, api_token=token)


def test_every_character_that_a_header_carries_may_be_in_a_token(tmp_path: Path) -> None:
    token = "".join(map(chr, range(0x21, 0x7F)))
    served = ServedApi(tmp_path, {}, api_token=token)
    assert Token(token_of(served.settings)).opens(f"Bearer {token}")


async def test_more_requests_than_allowed_are_told_when_to_come_again(tmp_path: Path) -> None:
    served = ServedApi(tmp_path, {}, api_requests_per_s=0.01)
    async with serving(served) as (client,):
        assert (await client.ask("/v1/status", token="x" * 20))[0] == 401  # takes nothing
        assert (await client.ask("/v1/status"))[0] == 200
        status, said = await client.ask("/v1/status")
        assert (status, said["error"]) == (429, "too-many-requests")
        assert 90 <= int(client.headers["Retry-After"]) <= 100


async def test_the_vector_is_the_one_that_would_be_published_and_says_why(
    served: ServedApi,
) -> None:
    partition = served.fold(event("a"), event("b"), event("unknown", time_ms=99_000))
    window = partition.hot[b"alice"]
    assert window is not None
    published = await served.encoder.encode([window])
    async with serving(served) as (client,):
        status, said = await client.ask("/v1/users/alice/interest")
    assert status == 200
    assert said["vector"] == pytest.approx(published.vectors[0].tolist())
    assert said["counts"] == {"view": 3}
    assert said["provenance"] == {
        "model_id": served.process.info.model_id,
        "topic": "interest.events",
        "partition": partition.number,
        "applied_offset": 2,
        "folded_offset": 2,
        "event_ids": ["a", "b", "unknown"],
        "worker": served.url,
    }
    assert {each["name"]: each["weight"] for each in said["granularities"]} == dict(
        zip(served.process.info.granularities, served.process.info.weights, strict=True)
    )
    assert [(each["text"], each["known"]) for each in said["events"]] == [
        ("red shoes", True), ("blue boots", True), (None, False),
    ]  # fmt: skip
    assert said["events"][2]["turn"] == said["events"][2]["contribution"] == 0.0
    assert sum(each["contribution"] for each in said["events"]) == pytest.approx(1.0)


async def test_what_an_event_adds_is_what_lacks_without_it(served: ServedApi) -> None:
    """Folded without the event, the vector is as far away as the answer says."""
    kept = [event("a"), event("c")]
    served.fold(kept[0], event("b"), kept[1])
    twins = [event(each.event_id, "twin") for each in kept]
    served.fold(*twins)
    async with serving(served) as (client,):
        _, with_it = await client.ask("/v1/users/alice/interest")
        _, without_it = await client.ask("/v1/users/twin/interest")
    away = 1.0 - float(np.dot(with_it["vector"], without_it["vector"]))
    assert away > 0.01
    assert with_it["events"][1]["turn"] == pytest.approx(away, abs=1e-6)


async def test_history_lies_on_a_plane_as_the_vectors_lie_in_space(served: ServedApi) -> None:
    """Three points have a plane of their own: no distance may be lost on it."""
    path = []
    async with serving(served) as (client,):
        for name in "abc":
            served.fold(event(name))
            _, said = await client.ask("/v1/users/alice/interest")
            path.append(np.array(said["vector"]))
        served.api._items._complete.set()  # no broker to read it from
        status, told = await client.ask("/v1/users/alice/history")
    assert status == 200
    assert [point["event_id"] for point in told["points"]] == ["a", "b", "c"]
    laid = [np.array([point["x"], point["y"]]) for point in told["points"]]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        in_space = np.linalg.norm(path[one] - path[other])
        assert np.linalg.norm(laid[one] - laid[other]) == pytest.approx(in_space, abs=1e-5)
    assert sum(told["explained"]) == pytest.approx(1.0)
    turns = [0.0, *(1.0 - float(a @ b) for a, b in itertools.pairwise(path))]
    assert [point["turn"] for point in told["points"]] == pytest.approx(turns, abs=1e-6)


async def test_neighbours_are_the_items_of_this_model_by_their_score(served: ServedApi) -> None:
    model_id = served.process.info.model_id
    served.fold(event("a"))
    async with serving(served) as (client,):
        _, said = await client.ask("/v1/users/alice/interest")
        vector = np.array(said["vector"])
        items = served.api._items
        items.take(
            [
                item_record("c", (vector * 0.5).tolist(), model_id),
                item_record("a", vector.tolist(), model_id),
                item_record("b", (-vector).tolist(), model_id),
                item_record("other", (vector * 9).tolist(), "another-model"),
                item_record("gone", (vector * 9).tolist(), model_id),
                item_record("gone", None, model_id),
            ]
        )
        items._complete.set()
        _, near = await client.ask("/v1/users/alice/neighbours?k=2")
        _, unseen = await client.ask("/v1/users/alice/neighbours?unseen=true")
    assert [(each["item_id"], each["in_window"]) for each in near["items"]] == [
        ("a", True), ("c", False),
    ]  # fmt: skip
    assert [each["score"] for each in near["items"]] == pytest.approx([1.0, 0.5], abs=1e-5)
    assert [each["text"] for each in near["items"]] == ["red shoes", "a tent"]
    assert [each["item_id"] for each in unseen["items"]] == ["c", "b"]
    assert (near["items_held"], near["complete"]) == (3, True)


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/v1/users/alice/neighbours?k=0", 400, "bad-request"),
        ("/v1/users/alice/neighbours?k=101", 400, "bad-request"),
        ("/v1/users/alice/neighbours?k=%D9%A3", 400, "bad-request"),
        ("/v1/users/alice/neighbours?unseen=1", 400, "bad-request"),
        ("/v1/users/nobody/interest", 404, "unknown-user"),
        ("/v1/users/nobody/history", 404, "unknown-user"),
        ("/v1/users/%00era/interest", 404, "unknown-user"),
        ("/v1/users/" + "u" * 257 + "/interest", 404, "unknown-user"),
        ("/v1/users//interest", 404, "not-found"),
        ("/v1/nothing", 404, "not-found"),
        ("/v1/embed", 405, "method-not-allowed"),
    ],
)
async def test_what_cannot_be_answered_says_why(
    served: ServedApi, path: str, status: int, error: str
) -> None:
    served.fold(event("a"))
    async with serving(served) as (client,):
        found, said = await client.ask(path)
    assert (found, said["error"]) == (status, error)
    assert said["message"]


async def test_ids_with_a_slash_or_signs_are_found(served: ServedApi) -> None:
    served.fold(event("a", "x/y?z %41"))
    async with serving(served) as (client,):
        status, said = await client.ask("/v1/users/x%2Fy%3Fz%20%2541/interest")
    assert (status, said["user_id"]) == (200, "x/y?z %41")


async def test_bodies_are_limited_whether_or_not_they_say_their_length(tmp_path: Path) -> None:
    served = ServedApi(tmp_path, {}, api_max_body_bytes=1024)

    async def in_chunks():  # type: ignore[no-untyped-def]
        for _ in range(3):
            yield b" " * 500

    async with serving(served) as (client,):
        for data in (b"x" * 1025, in_chunks()):
            status, said = await client.ask("/v1/embed", "POST", data=data)
            assert (status, said["error"]) == (413, "too-large")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embed", b""),
        ("/v1/embed", b"\xff"),
        ("/v1/embed", b'{"texts": []}'),
        ("/v1/embed", b'{"texts": [1]}'),
        ("/v1/embed", b'{"texts": [""]}'),
        ("/v1/embed", b'{"texts": ["a"], "more": 1}'),
        ("/v1/embed", b'{"texts": ["' + b"a" * 4001 + b'"]}'),
        ("/v1/audience", b'{"text": "a", "k": 0}'),
        ("/v1/audience", b'{"text": "a", "k": 101}'),
        ("/v1/audience", b'{"k": 1}'),
    ],
)
async def test_bodies_that_are_something_else_are_refused(
    served: ServedApi, path: str, body: bytes
) -> None:
    async with serving(served) as (client,):
        status, said = await client.ask(path, "POST", data=body)
    assert (status, said["error"]) == (400, "bad-request")


async def test_texts_get_the_vectors_that_items_of_these_texts_have(served: ServedApi) -> None:
    _, items = await served.encoder.item_vectors(["a", "b"])
    async with serving(served) as (client,):
        body = {"texts": ["blue boots", "red shoes", "blue boots", " "]}
        status, said = await client.ask("/v1/embed", "POST", json=body)
    assert (status, said["dimensions"]) == (200, DIMENSIONS)
    first, second, third, blank = said["vectors"]
    assert first == third == pytest.approx(items[1].tolist())
    assert second == pytest.approx(items[0].tolist())
    assert blank == [0.0] * DIMENSIONS


async def test_texts_are_masked_as_those_of_events_are(served: ServedApi) -> None:
    """Their vectors are cached, and one that cannot be embedded becomes a dead letter."""
    async with serving(served) as (client,):
        body = {"texts": ["write to anna@example.org", "write to [email]", "write to me"]}
        _, said = await client.ask("/v1/embed", "POST", json=body)
    secret, masked, other = said["vectors"]
    assert secret == masked != other


async def test_users_are_read_where_they_are_newest_and_stay_where_they_are(
    served: ServedApi,
) -> None:
    partition = served.fold(event("a"))
    stored = partition.hot.pop(b"alice")
    assert stored is not None
    partition.dirty.clear()
    partition.table.write([(b"alice", codec.encode(stored))], 0)
    assert partition.peek(b"alice") == stored
    assert b"alice" not in partition.hot

    served.fold(event("b"))
    newer = partition.hot[b"alice"]
    assert partition.peek(b"alice") == newer
    partition.hot[b"alice"] = stored
    assert partition.peek(b"alice") == newer, "what is dirty comes first"
    partition.storing, partition.dirty = partition.dirty, {}
    assert partition.peek(b"alice") == newer, "then what is being stored"
    partition.storing = {}
    assert partition.peek(b"alice") == stored
    partition.expiring[b"alice"] = Forgotten(9, expired=True)
    assert partition.peek(b"alice") is None


async def test_another_workers_user_is_asked_for_there_and_never_twice(tmp_path: Path) -> None:
    group: dict[str, dict[str, list[int]]] = {}
    one, two = (ServedApi(tmp_path / name, group) for name in ("one", "two"))
    number = partition_of(b"alice", PARTITIONS)
    two.hold(number)
    two.items["a"] = "red shoes"
    two.fold(event("a"))
    group[one.url] = {TOPIC: [each for each in ALL if each != number]}
    group[two.url] = {TOPIC: [number]}
    async with serving(one, two) as (client, _):
        status, said = await client.ask("/v1/users/alice/interest")
        assert (status, said["provenance"]["worker"]) == (200, two.url)
        status, said = await client.ask("/v1/users/alice/neighbours?k=0")
        assert (status, said["error"]) == (400, "bad-request"), "the query goes along"

        group[one.url], group[two.url] = {TOPIC: []}, {TOPIC: [number]}
        two.partitions.clear()  # on its way: each takes the other for its holder
        group.update({one.url: {TOPIC: [number]}, two.url: {TOPIC: []}})
        status, said = await client.ask("/v1/users/alice/interest")
        assert (status, said["error"]) == (503, "not-ready")
        group.update({one.url: {TOPIC: []}, two.url: {TOPIC: [number]}})
        status, said = await client.ask("/v1/users/alice/interest")
        assert (status, said["error"]) == (503, "not-ready")
        again = {"X-Interest-Forwarded": "http://elsewhere"}
        status, said = await client.ask("/v1/users/alice/interest", headers=again)
        assert (status, said["error"]) == (503, "not-ready")
        assert "on its way" in said["message"]


@pytest.mark.parametrize("token", [None, "another-token-of-16"])
async def test_a_holder_that_cannot_be_asked_is_named(tmp_path: Path, token: str | None) -> None:
    group: dict[str, dict[str, list[int]]] = {}
    one = ServedApi(tmp_path / "one", group)
    two = ServedApi(tmp_path / "two", group, **({"api_token": token} if token else {}))
    group.update({one.url: {TOPIC: []}, two.url: {TOPIC: list(ALL)}})
    async with serving(one, *([two] if token else [])) as (client, *_):
        status, said = await client.ask("/v1/users/alice/interest")
        assert (status, said["error"]) == (503, "owner-unreachable")
        assert two.url in said["message"]
        _, said = await client.ask("/v1/workers")
        mine, other = said["workers"]
        assert (mine["is_this"], mine["status"]["worker"]) == (True, one.url)
        assert (other["is_this"], other["status"]) == (False, None)
        assert other["error"]


async def test_a_holder_without_the_api_and_nobody_at_all(tmp_path: Path) -> None:
    group: dict[str, dict[str, list[int]]] = {}
    one = ServedApi(tmp_path, group)
    async with serving(one) as (client,):
        status, said = await client.ask("/v1/users/alice/interest")
        assert (status, said["error"]) == (503, "not-ready")
        group["http://0123.invalid"] = {TOPIC: list(ALL)}
        status, said = await client.ask("/v1/users/alice/interest")
        assert (status, said["error"]) == (503, "owner-unreachable")
        _, said = await client.ask("/v1/status")
        assert said["workers"] == [{"url": None, "partitions": [0, 1, 2, 3], "is_this": False}]


@pytest.mark.parametrize("state", ["stopping", "failed"])
async def test_a_worker_that_ends_says_so(served: ServedApi, state: str) -> None:
    served.fold(event("a"))
    served.state = state
    async with serving(served) as (client,):
        status, said = await client.ask("/v1/users/alice/interest")
    assert (status, said["error"]) == (503, "not-ready")
    assert state in said["message"]


async def test_a_bug_is_a_500_in_json_and_in_the_log(
    served: ServedApi, caplog: pytest.LogCaptureFixture
) -> None:
    served.fold(event("a"))
    served.items.texts = None  # type: ignore[method-assign, assignment]
    async with serving(served) as (client,):
        status, said = await client.ask("/v1/users/alice/interest")
    assert (status, said["error"]) == (500, "internal")
    assert "alice" not in caplog.text


def test_the_document_tells_of_every_route(served: ServedApi) -> None:
    told = openapi.document(served.settings)["paths"]
    assert {path.removeprefix("/v1") for path in told} == routes_of(served.api.app())


async def test_a_hung_encoder_costs_the_client_ten_seconds_and_the_stream_nothing(
    served: ServedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request itself goes on: cut off, it would leave rows that hold no text."""
    monkeypatch.setattr(patience, "_ANSWER_S", 0.05)
    go_on = asyncio.Event()
    answered = []
    call = served.process.call

    async def slow(*arguments: Any) -> Any:
        await go_on.wait()
        answered.append(arguments)
        return await call(*arguments)

    monkeypatch.setattr(served.process, "call", slow)
    async with serving(served) as (client,):
        asked = client.ask("/v1/embed", "POST", json={"texts": ["a text"]})
        status, said = await asked
        assert (status, said["error"]) == (503, "encoder-failed")
        assert not answered
        go_on.set()
        status, said = await client.ask("/v1/embed", "POST", json={"texts": ["a text"]})
    assert status == 200
    assert any(said["vectors"][0])
    assert len(answered) == 2, "its text put once, and the vector asked for in time only"


@pytest.mark.parametrize("comes_back", [False, True])
async def test_who_is_forgotten_while_a_request_is_answered_is_not_told_of_and_leaves_no_text(
    served: ServedApi, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    """The request has the encoder embed the user's own texts behind the forget."""
    served.fold(event("a"), Event("s", "alice", EventType.SEARCH, text="a secret", time_ms=1))
    call, asked, held = served.process.call, [], set()
    forget = Event("f", "alice", EventType.FORGET, time_ms=2)

    async def forgotten_meanwhile(function: Any, *arguments: Any) -> Any:
        if not asked:
            served.fold(forget)
            if comes_back:
                served.fold(event("b"))
        asked.append(function.__name__)
        if function.__name__ == "request_texts":
            held.update(text for _, text in arguments[0])
        if function.__name__ == "request_forgetting":
            held.difference_update(text for _, text in arguments[0])
        return await call(function, *arguments)

    monkeypatch.setattr(served.process, "call", forgotten_meanwhile)
    async with serving(served) as (client,):
        status, said = await client.ask("/v1/users/alice/interest")
        await served.partitions[partition_of(b"alice", PARTITIONS)].texts_dropped()
    assert (status, said["error"]) == (404, "unknown-user")
    assert "request_texts" in asked, "they were embedded"
    assert held == {"red shoes"}


async def test_a_hung_encoder_is_waited_for_by_no_more_than_some(
    served: ServedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_ANSWER_S", 0.5)
    monkeypatch.setattr(patience, "_MOST_PENDING", 2)
    go_on = asyncio.Event()
    owed = 0

    async def hung(*_: Any) -> Any:
        nonlocal owed
        owed += 1
        await go_on.wait()
        raise EncoderFailed("it was hung")

    monkeypatch.setattr(served.process, "call", hung)
    async with serving(served) as (client,):
        body = {"texts": ["a"]}
        asked = [client.ask("/v1/embed", "POST", json=body) for _ in range(3)]
        answers = await asyncio.gather(*asked)
        assert owed == 1
        go_on.set()
    assert {(status, problem["error"]) for status, problem in answers} == {(503, "encoder-failed")}
    said = sorted(problem["message"] for _, problem in answers)
    assert said == ["no answer within 0.5 s"] * 2 + ["the encoder is busy"]


async def test_a_bug_of_the_api_does_not_end_the_stream(
    served: ServedApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "_BEGIN_ANEW_S", 0.0)
    times = iter([ValueError("once"), ValueError("twice")])
    lived = asyncio.Event()

    async def work() -> None:
        if error := next(times, None):
            raise error
        lived.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(service._whatever_happens(work))
    await asyncio.wait_for(lived.wait(), 5)
    task.cancel()
    served.api._users._wanted.set()
    served.rounds.on_published(None, None)
    assert caplog.text.count("not the stream's") == 3
