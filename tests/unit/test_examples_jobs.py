"""The parts of the job scripts, against plain loops and planted signals; two scripts as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from encoders import Interests, WindowBatch
from encoders.config import EncoderConfig
from encoders.evaluation.interactions import Interactions
from encoders.evaluation.plan import Plan, Setting
from encoders.stub import StubEncoder
from state.event import Event, EventType
from state.window import Window, WindowPolicy, fold
from stream_app.cli.commands import app as interest_stream
from stream_app.settings import Settings
from stream_app.user_view import UserView
from tests.conformance.models import tiny_bert
from tests.harness.clusters import clustered
from tests.harness.scripts import load_script, run_script

recommend = load_script("recommend")
purchase = load_script("purchase")
cross_domain = load_script("cross_domain")
customer_care = load_script("customer_care")


def unit(rows: list[list[float]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    found = np.array(rows, dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_without_diversity_the_nearest_are_recommended() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(50, 4)).tolist())
    relevance = vectors @ vectors[7]
    chosen = recommend.marginal_relevance(relevance, vectors, 6, 1.0)
    assert chosen == np.argsort(-relevance)[:6].tolist()


def test_marginal_relevance_is_the_papers_formula() -> None:
    vectors = unit(np.random.default_rng(1).normal(size=(30, 3)).tolist())
    relevance = vectors @ unit([[1.0, 0.5, 0.0]])[0]
    chosen = [int(np.argmax(relevance))]
    while len(chosen) < 5:
        left = [at for at in range(30) if at not in chosen]
        gains = [
            0.6 * relevance[at] - 0.4 * max(float(vectors[at] @ vectors[c]) for c in chosen)
            for at in left
        ]
        chosen.append(left[int(np.argmax(gains))])
    assert recommend.marginal_relevance(relevance, vectors, 5, 0.6) == chosen


def test_a_near_copy_gives_way_to_something_else() -> None:
    vectors = unit([[1.0, 0.0], [0.999, 0.01], [0.6, -0.8]])
    relevance = vectors @ np.array([1.0, 0.0], dtype=np.float32)
    assert recommend.marginal_relevance(relevance, vectors, 2, 1.0) == [0, 1]
    assert recommend.marginal_relevance(relevance, vectors, 2, 0.4) == [0, 2]
    assert recommend.likeness(vectors[[0, 1]]) > 0.99
    assert recommend.likeness(vectors[[0, 2]]) == pytest.approx(0.6, abs=1e-6)
    assert recommend.likeness(vectors[:1]) == 0.0


@pytest.mark.parametrize(
    ("wanted", "least", "expected"),
    [
        ({"genres": "comedy"}, {}, True),
        ({"genres": "Com"}, {}, False),
        ({"genres": "Drama"}, {"year": 1995.0}, True),
        ({}, {"year": 1996.0}, False),
        ({}, {"price": 1.0}, False),  # a field that is not there reaches nothing
        ({"shelf": "a"}, {}, False),
    ],
)
def test_filters(wanted: dict[str, str], least: dict[str, float], expected: bool) -> None:
    for genres in ("Comedy, Drama", ["Comedy", "Drama"]):
        record = {"item_id": "x", "genres": genres, "year": "1995"}
        assert recommend.fits(record, wanted, least) is expected


def test_words_that_say_something() -> None:
    texts = {
        "a": "The Big Heist (1995). Genres: Crime.",
        "b": "A heist of the century. Genres: Crime, Drama.",
        "c": "Genres: Drama. Casablanca!",
    }
    words = customer_care.salient_words(texts, 2, 0.9)
    assert words == {"heist": ["a", "b"], "crime": ["a", "b"], "drama": ["b", "c"]}
    assert "genres" in customer_care.salient_words(texts, 2, 1.0)
    assert "casablanca" in customer_care.salient_words(texts, 1, 1.0)
    assert not {"the", "of"} & customer_care.salient_words(texts, 1, 1.0).keys()


class Listening:
    """An encoder that keeps what it is told of texts and knows one direction."""

    def __init__(self) -> None:
        self.media: dict[int, list[float]] = {}

    def put_texts(self, texts: object, media: Mapping[int, np.ndarray[Any, Any]]) -> None:
        self.media = {row: vector.tolist() for row, vector in media.items()}

    def encode(self, batch: WindowBatch) -> Interests:
        return Interests(np.tile(np.float32([1.0, 0.0]), (len(batch.offsets) - 1, 1)))


def test_what_items_bring_beside_their_text_takes_part() -> None:
    told = {"pictured": [0.5, 2.0], "plain": None, "damaged": [0.0, 0.0]}
    catalogue = {
        item: {"item_id": item, "text": f"A {item} one.", "media_vector": vector}
        for item, vector in told.items()
    }
    window: Window | None = None
    acts = [(item, None) for item in told] + [("pictured", "in words of its own")]
    for at, (item, text) in enumerate(acts):
        event = Event(f"e{at}", "alice", EventType.VIEW, item, text, 1_000 + at)
        window, _ = fold(window, event, at, WindowPolicy())
    encoder = Listening()
    view = UserView("alice", 0, window, None)
    vector, turns = customer_care.event_turns(encoder, view, catalogue)
    assert encoder.media == {0: [0.5, 2.0]}
    assert vector.tolist() == [1.0, 0.0]
    assert [event.item_id for _, event in turns] == [item for item, _ in acts]


def events(count: int, users: int, items: int, bought: float = 0.3) -> Interactions:
    rng = np.random.default_rng(5)
    of_items = rng.integers(0, items, count)
    return Interactions(
        users=rng.integers(0, users, count),
        items=of_items,
        rows=of_items.astype(np.int32),
        times_ms=np.sort(rng.integers(0, 10**9, count)),
        types=np.where(rng.random(count) < bought, purchase.PURCHASE, 0).astype(np.uint8),
        dwell_ms=np.full(count, -1, dtype=np.int32),
        user_ids=tuple(f"u{n}" for n in range(users)),
        item_ids=tuple(f"i{n}" for n in range(items)),
        texts=tuple(f"text {n}" for n in range(items)),
    )


def test_features_and_pasts_know_only_what_was_before() -> None:
    data = events(300, 12, 20)
    amounts = data.types == purchase.PURCHASE
    sums = purchase.before(data.users, amounts)
    gaps = purchase.since_last(data.items, data.times_ms)
    positions = np.arange(300)
    pasts = purchase.pasts_of(data, positions)
    for at in positions:
        past = [k for k in range(at) if data.users[k] == data.users[at]]
        assert pasts[at].tolist() == past
        assert sums[at] == sum(amounts[k] for k in past)
        same = [k for k in range(at) if data.items[k] == data.items[at]]
        if same:
            assert gaps[at] == data.times_ms[at] - data.times_ms[same[-1]]


def test_the_last_part_of_the_time_line_is_only_tested() -> None:
    data = events(1_000, 10, 20)
    asked = purchase.draw(data, 400, 0.25, seed=3)
    assert np.all(np.diff(asked.positions) > 0)
    assert asked.positions[asked.first_test - 1] < 750 <= asked.positions[asked.first_test]
    assert np.array_equal(asked.bought, data.types[asked.positions] == purchase.PURCHASE)
    rng = np.random.default_rng(0)
    told = np.where(asked.bought, 1.0, 0.0)[:, None] + rng.normal(size=(len(asked.bought), 3))
    scores = purchase.head_scores(told, asked)
    truth = asked.bought[asked.first_test :]
    assert len(scores) == len(truth)
    assert roc_auc_score(truth, scores) > 0.75
    told[: asked.first_test] *= -1.0  # a head that saw the test part would not fall for this
    assert roc_auc_score(truth, purchase.head_scores(told, asked)) < 0.25


def test_a_thousand_empty_columns_do_not_drown_the_features() -> None:
    asked = purchase.draw(events(4_000, 30, 50), 2_000, 0.25, seed=1)
    truth = asked.bought[asked.first_test :]
    rng = np.random.default_rng(4)
    told = np.where(asked.bought, 1.0, 0.0)[:, None] + rng.normal(size=(len(asked.bought), 2))
    noise = rng.normal(size=(len(told), 1_000))
    alone = roc_auc_score(truth, purchase.head_scores(told, asked))
    assert roc_auc_score(truth, purchase.stacked_scores(told, noise, asked)) > alone - 0.01
    assert roc_auc_score(truth, purchase.stacked_scores(noise[:, :2], told, asked)) > alone - 0.01


def test_both_sides_need_both_answers() -> None:
    with pytest.raises(purchase.FixData, match="each side"):
        purchase.draw(events(200, 5, 5, bought=0.0), 100, 0.3, seed=0)


@pytest.mark.parametrize("of_one_kind", [slice(0, 40), slice(40, 50), slice(50, 90)])
def test_a_head_needs_both_answers_wherever_it_learns(of_one_kind: slice) -> None:
    """Its first 80 % teach, the rest chooses; the stack has a head for either half."""
    asked = purchase.draw(events(1_000, 10, 20), 400, 0.75, seed=3)
    bought = np.arange(len(asked.bought)) % 2 == 0
    told = np.random.default_rng(0).normal(size=(len(bought), 2))
    purchase.stacked_scores(told, told, replace(asked, bought=bought, first_test=100))
    bought[of_one_kind] = False
    with pytest.raises(purchase.FixData, match=r"hold 0 purchases, .* --questions") as said:
        purchase.stacked_scores(told, told, replace(asked, bought=bought, first_test=100))
    assert "\n" not in str(said.value)


def test_the_resampled_auc_is_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    bought = rng.random(200) < 0.3
    scores = np.round(rng.normal(size=200) + bought, 1)  # with ties
    weights = rng.integers(0, 4, 200).astype(np.float64)
    _, rank = np.unique(scores, return_inverse=True)
    expected = roc_auc_score(bought, scores, sample_weight=weights)
    assert purchase.weighted_auc(bought, rank, weights) == pytest.approx(expected)
    drawn = purchase.resampled_auc(bought, scores, np.arange(200) // 4, seed=0)
    assert np.quantile(drawn, 0.025) < roc_auc_score(bought, scores) < np.quantile(drawn, 0.975)


def test_a_purchase_report_of_the_stub(tmp_path: Path) -> None:
    """Hashes say nothing: the features must win, and the script must say so."""
    settings: dict[str, object] = {"encoder": "stub", "datadir": tmp_path}
    outcome = run_script("purchase", "--events", "20000", "--questions", "3000", settings=settings)
    assert outcome.code == 0
    found = {line.split()[0]: float(line.split()[2]) for line in outcome.lines[2:]}
    assert list(found) == ["features", "vectors", "both"]
    assert found["features"] > 0.65
    assert found["vectors"] < found["features"] - 0.05


@pytest.mark.parametrize("by", ["item", "genre"])
def test_two_shops_share_nothing_and_are_ranked_in(by: str, tmp_path: Path) -> None:
    settings: dict[str, object] = {"encoder": "stub", "datadir": tmp_path}
    made = run_script(
        "cross_domain", "split", "--out", str(tmp_path), "--by", by, "--events", "20000",
        settings=settings,
    )  # fmt: skip
    assert made.code == 0
    sold, buyers, acts = {}, {}, {}
    for shop in "ab":
        items = records(tmp_path / f"{shop}-items.jsonl")
        acts[shop] = records(tmp_path / f"{shop}-events.jsonl")
        sold[shop] = {item["item_id"]: item["genres"].partition(",")[0] for item in items}
        buyers[shop] = {act["user_id"] for act in acts[shop]}
        assert {act["item_id"] for act in acts[shop]} <= sold[shop].keys()
    assert not sold["a"].keys() & sold["b"].keys()
    assert not buyers["a"] & buyers["b"]
    assert 0.8 < len(sold["a"]) / len(sold["b"]) < 1.25
    shared = set(sold["a"].values()) & set(sold["b"].values())
    assert bool(shared) == (by == "item")
    files = [f"--{what}={tmp_path / f'b-{what}.jsonl'}" for what in ("events", "items")]
    ranked = run_script("cross_domain", "rank", *files, "--users", "40", settings=settings)
    assert ranked.code == 0
    assert ranked.lines[0] == f"40 users, {len(sold['b'])} items"
    recall = {line[:34].strip(): float(line[34:39]) for line in ranked.lines[2:]}
    assert recall["popularity in this shop"] > recall["untrained, nothing known"]


def test_a_model_of_one_shop_ranks_the_other_and_predicts_purchases(tmp_path: Path) -> None:
    """How well, docs/training.md says: here a random text model learns for a moment."""
    settings: dict[str, object] = {
        "text_model": tiny_bert(tmp_path / "bert"), "datadir": tmp_path / "data",
    }  # fmt: skip
    made = run_script(
        "cross_domain", "split", "--out", str(tmp_path), "--events", "20000", settings=settings
    )
    assert made.code == 0
    model = tmp_path / "model-a"
    files = [f"--{what}={tmp_path / f'a-{what}.jsonl'}" for what in ("events", "items")]
    own = {f"INTEREST_{name.upper()}": str(value) for name, value in settings.items()}
    trained = CliRunner().invoke(
        interest_stream,
        ["train", *files, "--out", str(model), "--dimensions", "16", "--layers", "1", "--epochs",
         "1", "--no-context", "--json"],
        env=own,
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    files = [f"--{what}={tmp_path / f'b-{what}.jsonl'}" for what in ("events", "items")]
    ranked = run_script(
        "cross_domain", "rank", *files, "--users", "40", "--model", str(model), settings=settings
    )
    assert ranked.code == 0
    recall = {line[:34].strip(): float(line[34:39]) for line in ranked.lines[2:]}
    assert list(recall)[-1] == "model-a"
    bought = run_script(
        "purchase", "--events", "20000", "--questions", "2000",
        settings=settings | {"interest_model": model},
    )  # fmt: skip
    assert bought.code == 0
    found = {line.split()[0]: float(line.split()[2]) for line in bought.lines[2:]}
    assert list(found) == ["features", "vectors", "both"]
    assert all(0.4 < value < 1.0 for value in found.values())


def test_only_the_models_that_are_named_are_ranked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the settings name, a bundle, too."""
    asked: list[EncoderConfig] = []

    def build(config: EncoderConfig) -> StubEncoder:
        asked.append(config)
        return StubEncoder(EncoderConfig(kind="stub"))

    monkeypatch.setattr(cross_domain.encoders, "build", build)
    (tmp_path / "model" / "text-model").mkdir(parents=True)
    setting = Setting.of(clustered(users=9), Plan(), "random")
    for folder in (None, tmp_path / "model"):
        cross_domain.open_encoder(Settings(model="bundle"), setting, folder)
    untrained, named = asked
    assert (untrained.model, untrained.text_model, untrained.interest_model) == ("", "", "")
    assert (named.model, named.interest_model) == ("", str(tmp_path / "model"))
    assert named.text_model == str(tmp_path / "model" / "text-model")


def records(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
