"""Vectors by key, those of this worker's users, and the group's places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from encoders.interface import EncoderInfo
from state.table import PartitionTable
from state.window import Window
from stream_app.api.places import Place, Places
from stream_app.api.projection import plane_of
from stream_app.api.status import Sampler, latencies
from stream_app.api.user_vectors import UserVectors, _PartitionVectors
from stream_app.api.vector_table import VectorTable
from stream_app.change import Change
from stream_app.encoded import Encoded
from stream_app.meters import Histogram
from stream_app.partition import Forgotten, Partition
from stream_app.rounds import Share
from stream_app.serving.address import advertised_url, leads_somewhere
from stream_app.settings import Settings
from stream_app.status import Counts
from stream_app.updates import Update

MODEL = "0123456789abcdef"
INFO = EncoderInfo(MODEL, 2, ("document",), (1.0,), "cpu", "test")


def vectors(*numbers: tuple[float, float]) -> np.ndarray:
    return np.array(numbers, np.float32)


async def test_the_nearest_are_those_of_a_full_sort() -> None:
    random = np.random.default_rng(3)
    made = random.normal(size=(500, 6)).astype(np.float32)
    table = VectorTable(6, 1000)
    table.put([f"k{n}" for n in range(500)], made, list(range(500)))
    for gone in range(0, 500, 7):
        table.remove(f"k{gone}")
    question = random.normal(size=6).astype(np.float32)
    scores = {n: float(made[n] @ question) for n in range(500) if n % 7}
    best = sorted(scores, key=lambda n: -scores[n])
    unwanted = {f"k{best[1]}", f"k{best[4]}"}
    wanted = [n for n in best if f"k{n}" not in unwanted][:20]
    near = await table.nearest(question, 20, unwanted)
    assert [(each.key, each.offset) for each in near] == [(f"k{n}", n) for n in wanted]
    assert [each.score for each in near] == pytest.approx([scores[n] for n in wanted], abs=1e-5)


async def test_at_the_cap_the_oldest_vector_goes() -> None:
    table = VectorTable(2, 3)
    table.put(["a", "b", "c"], vectors((1, 0), (2, 0), (3, 0)))
    table.put(["a"], vectors((4, 0)))
    table.put(["d"], vectors((5, 0)))
    assert (len(table), table.evicted, "b" in table) == (3, 1, False)
    near = await table.nearest(np.float32([1, 0]), 9)
    assert [(each.key, each.score) for each in near] == [("d", 5.0), ("a", 4.0), ("c", 3.0)]
    table.put([f"n{n}" for n in range(7)], np.arange(14, dtype=np.float32).reshape(7, 2))
    assert len(table) == 3
    assert [each.key for each in await table.nearest(np.float32([1, 0]), 9)] == ["n6", "n5", "n4"]


def change(user: str, offset: int, x: float | None, model: str = MODEL) -> Change:
    update = None if x is None else Update(user, [x, 0.0], model, 0, "t", 0, offset, 1)
    return Change(user, update, offset)


def test_what_was_published_before_never_replaces_what_is_newer() -> None:
    held = _PartitionVectors(0, VectorTable(2, 10))
    held.take(["new", "again"], vectors((1, 0), (1, 0)), [10, 10])
    held.drop("gone")
    held.take_older(
        [
            change("new", 9, 9.0),
            change("gone", 5, 9.0),
            change("old", 3, 3.0),
            change("old", 2, 9.0),
            change("left", 3, 9.0),
            change("left", 4, None),
            change("other", 3, 9.0, "another-model"),
            change("again", 10, 2.0),
        ],
        MODEL,
    )
    held.completed()
    found = {name: float(held.table.vector(name)[0]) for name in ("new", "old", "again")}
    assert found == {"new": 1.0, "old": 3.0, "again": 2.0}
    assert len(held.table) == 3


async def test_rounds_hand_over_vectors_and_failures_and_the_forgotten(tmp_path: Path) -> None:
    partitions = [
        Partition(number, PartitionTable(tmp_path / str(number), 1 << 20)) for number in (0, 1)
    ]
    users = UserVectors(Settings(), lambda: partitions)
    users.begin(INFO)
    shares = [
        Share(partitions[0], {b"a": Window(3), b"x": Forgotten(4), b"bad": Window(5)}, 1, []),
        Share(partitions[1], {b"b": Window(6), b"c": Window(7)}, 1, []),
    ]
    encoded = [
        Encoded(vectors((1, 0), (0, 0)), None, None, {1: "a reason"}),
        Encoded(vectors((2, 0), (3, 0)), None, None, {}),
    ]
    users.on_published(shares, encoded)
    assert users.held == 0, "nobody has asked yet"
    users._wanted.set()
    users._filled.set()
    assert len(users._to_be_read()) == 2
    users.on_published([Share(partitions[0], {b"x": Window(1)}, 1, [])],
                       [Encoded(vectors((9, 0)), None, None, {})])  # fmt: skip
    users.on_published(shares, encoded)
    near = await users.nearest(np.float32([1, 0]), 9)
    assert [tuple(each) for each in near] == [("c", 3.0, 7), ("b", 2.0, 6), ("a", 1.0, 3)]

    left = partitions.pop()
    assert users.held == 1, "whoever may still hold on to it, its users are another worker's now"
    near = await users.nearest(np.float32([1, 0]), 9)
    assert [each.key for each in near] == ["a"]
    partitions.clear()
    del left, shares
    assert not users._by_partition, "and we do not hold on to it, nor to its database"


def test_points_on_a_line_need_one_axis_and_one_point_none() -> None:
    line = plane_of(vectors((0, 0), (1, 2), (2, 4)))
    assert line.explained == pytest.approx((1.0, 0.0))
    assert line.lay(vectors((3, 6)))[0] == pytest.approx([np.sqrt(20), 0.0])
    for lonely in (vectors((1, 2)), vectors((1, 2), (1, 2)), np.zeros((0, 2), np.float32)):
        assert plane_of(lonely).explained == (0.0, 0.0)
        assert not plane_of(lonely).lay(lonely).any()


def test_rates_are_by_the_time_that_really_passed() -> None:
    counts = Counts()
    sampler = Sampler(counts)
    for at_s, records in ((0.0, 0), (1.0, 100), (3.0, 500)):
        counts.records = records
        counts.updates_published = records // 10
        sampler.sample(at_s)
    assert sampler.rates().events_per_s == [100.0, 200.0]
    assert sampler.rates().updates_per_s == [10.0, 20.0]


def test_the_holder_is_who_has_the_changelogs_partition() -> None:
    group = {"http://b": {"log": [3, 1], "other": [0]}, "http://a": {}}
    places = Places("http://a", "log", lambda: group)
    assert places.everybody() == [Place("http://a", ()), Place("http://b", (1, 3))]
    assert places.holder(3) == Place("http://b", (1, 3))
    assert places.holder(0) is None


@pytest.mark.parametrize(
    ("host", "url", "told"),
    [
        ("127.0.0.1", "", "http://127.0.0.1:81"),
        ("::1", "", "http://[::1]:81"),
        ("127.0.0.1", "https://w-0.example:8443", "https://w-0.example:8443"),
    ],
)
def test_the_group_is_told_where_the_api_is(host: str, url: str, told: str) -> None:
    settings = Settings(http_host=host, http_port=81, http_url=url, api_token="t" * 16)
    assert advertised_url(settings) == told
    assert leads_somewhere(told)


def test_workers_without_the_api_are_told_apart_and_lead_nowhere() -> None:
    one, other = (advertised_url(Settings(http_port=81)) for _ in range(2))
    assert one != other
    assert not leads_somewhere(one)
    everywhere = Settings(http_host="0.0.0.0", http_port=81, api_token="t" * 16)
    assert "0.0.0.0" not in advertised_url(everywhere)


def test_latencies_are_read_off_the_histogram_of_each_stage_that_was_timed() -> None:
    timed = Histogram((0.001, 0.01, 0.1))
    timed.observe(0.0005, 60)
    timed.observe(0.05, 39)
    timed.observe(7.0, 1)
    (only,) = latencies({"queue": timed, "text": Histogram((1.0,))})
    assert (only.stage, only.count) == ("queue", 100)
    assert only.p50_ms == pytest.approx(1.0 * 50 / 60, abs=1e-3)
    assert only.p99_ms == pytest.approx(100.0), "the bound of the bucket, all of it"
    assert timed.quantile(1.0) == 0.1, "beyond the last bound nothing is known"
