"""The demo's data: a small folder of the same form, and the real one where it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from state.event import EventLimits, decode
from stream_app import movielens
from stream_app.item_record import Item

RATINGS = """user_id:token\titem_id:token\trating:float\ttimestamp:float\r
u1\tHeat (1995)\t5\t30\r
u2\tAlien (1979)\t3\t10\r
u1\tAlien (1979)\t4\t20\r
u3\tHeat (1995)\t1\t10\r
"""
ITEMS = """item_id:token\tmovie_title:token\trelease_year:float\tgenre:token\r
Heat (1995)\tHeat\t1995\tAction Crime\r
Alien (1979)\tAlien\t1979\tHorror\r
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "ml-1m.inter").write_text(RATINGS, encoding="utf-8", newline="")
    (tmp_path / "ml-1m.item").write_text(ITEMS, encoding="utf-8", newline="")
    return tmp_path


def test_ratings_come_in_time_order_and_ties_in_the_order_of_the_file(source: Path) -> None:
    found = movielens.ratings(10, source)
    assert [(rating.user_id, rating.time_s) for rating in found] == [
        ("u2", 10), ("u3", 10), ("u1", 20), ("u1", 30),
    ]  # fmt: skip


def test_the_first_ratings_are_the_earliest(source: Path) -> None:
    assert [rating.line for rating in movielens.ratings(2, source)] == [3, 5]


@pytest.mark.parametrize(
    ("stars", "kind"), [(5, "purchase"), (4, "click"), (3, "view"), (2, "view"), (1, "view")]
)
def test_stars_become_event_types(stars: int, kind: str) -> None:
    assert movielens.event(movielens.Rating(10, 7, "u", "Heat (1995)", stars)) == {
        "event_id": "ml-7",
        "user_id": "u",
        "type": kind,
        "item_id": "Heat (1995)",
        "time_ms": 10_000,
    }


def test_items_have_title_year_and_genres_in_their_text(source: Path) -> None:
    assert movielens.items(source)[0] == {
        "item_id": "Heat (1995)",
        "text": "Heat (1995). Genres: Action, Crime.",
        "title": "Heat",
        "year": "1995",
        "genres": "Action, Crime",
    }


def test_the_real_data_is_what_the_worker_takes() -> None:
    import msgspec

    catalogue = {item["item_id"] for item in movielens.items()}
    first = movielens.ratings(20_000)
    assert len(catalogue) == 3_883
    assert len(first) == 20_000
    assert {rating.item_id for rating in first} <= catalogue
    for rating in first[:100]:
        value = msgspec.json.encode(movielens.event(rating))
        event = decode(rating.user_id.encode(), value, 1_700_000_000_000, EventLimits())
        assert event.time_ms == rating.time_s * 1000
    msgspec.convert(movielens.items(), list[Item])
