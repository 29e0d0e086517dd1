"""The parts of training, each against a plain way of saying the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from encoders import EncoderConfigInvalid, TrainingDataInvalid, WindowBatch
from encoders.config import SequenceConfig
from encoders.context_features import context_features
from encoders.dropout import Dropout
from encoders.evaluation.interactions import Interactions
from encoders.evaluation.splits import leave_last_out
from encoders.sequence_reader import TIME_BUCKETS, SequenceReader, time_bucket
from encoders.training.chunked_softmax import ChunkedCrossEntropy
from encoders.training.events import Stretches, TrainingEvents, training_events
from encoders.training.losses import candidates
from encoders.training.optimiser import Optimiser
from encoders.training.run import questions_of
from encoders.training.settings import TrainingSettings
from encoders.training.texts import whitening
from encoders.training.windows import (
    batch_of,
    features_at_every_event,
    masked_batch_of,
    session_starts,
)
from tests.harness.clusters import clustered

SETTINGS = TrainingSettings(window_events=5, batch_windows=7)
GAP_MS = 1_800_000


def events_of(data: Interactions, settings: TrainingSettings = SETTINGS) -> TrainingEvents:
    known = np.ones(len(data.texts), dtype=bool)
    return training_events(data, leave_last_out(data, "valid").training, known, settings)


@pytest.fixture(scope="module")
def events() -> TrainingEvents:
    return events_of(clustered(users=25, searches=True))


def test_every_next_item_is_asked_for_once_an_epoch(events: TrainingEvents) -> None:
    inner = np.append(np.diff(events.users) == 0, False)
    expected = np.flatnonzero(inner & np.append(events.is_target[1:], False))
    for epoch in range(3):
        batches = events.batches(SETTINGS, np.random.default_rng(epoch))
        asked = []
        for stretches in batches:
            assert (stretches.stops - stretches.starts <= SETTINGS.window_events).all()
            assert (events.users[stretches.starts] == events.users[stretches.stops]).all()
            for start, stop in zip(stretches.starts, stretches.stops, strict=True):
                asked += [at for at in range(start, stop) if events.is_target[at + 1]]
        assert sorted(asked) == expected.tolist()


def test_where_windows_begin_changes_with_the_epoch(events: TrainingEvents) -> None:
    cuts = [
        sorted(np.concatenate([s.starts for s in events.batches(SETTINGS, generator)]).tolist())
        for generator in (np.random.default_rng(0), np.random.default_rng(1))
    ]
    assert cuts[0] != cuts[1]


def test_nothing_from_before_a_long_gap_is_in_a_window(events: TrainingEvents) -> None:
    short = msgspec.structs.replace(SETTINGS, window_age_ms=7_000_000)
    for stretches in events.batches(short, np.random.default_rng(0)):
        for start, stop in zip(stretches.starts, stretches.stops, strict=True):
            assert (np.diff(events.times_ms[start:stop]) <= 7_000_000).all()


def test_a_batch_asks_for_what_follows(events: TrainingEvents) -> None:
    stretches = Stretches(np.array([0, 14]), np.array([4, 16]))
    batch = batch_of(events, stretches, GAP_MS, context=False)
    assert batch.windows.rows.shape == (2, 4)
    assert batch.windows.rows[0].tolist() == events.rows[:4].tolist()
    asked = [at for at in (0, 1, 2, 3, 14, 15) if events.is_target[at + 1]]
    assert batch.items.tolist() == events.items[np.array(asked) + 1].tolist()
    assert batch.windows.asked[1, 2:].tolist() == [False, False]


def test_only_events_of_one_time_change_places(events: TrainingEvents) -> None:
    tied = replace(events, times_ms=events.times_ms // 10**7)
    moved = tied.shuffled(np.random.default_rng(0))
    assert moved.rows.tolist() != tied.rows.tolist()

    def pairs(found: TrainingEvents) -> list[tuple[int, int, int]]:
        return sorted(
            zip(found.users.tolist(), found.times_ms.tolist(), found.rows.tolist(), strict=True)
        )

    assert pairs(moved) == pairs(tied)
    last = np.flatnonzero(np.diff(events.users, append=-1))
    assert np.array_equal(moved.counts[last], tied.counts[last])


def test_context_at_every_event_is_that_of_the_window_that_ends_there(
    events: TrainingEvents,
) -> None:
    index = np.arange(3, 17)[None]
    assert len(set(events.users[index[0]])) > 1  # a rectangle does not look at the user
    starts = session_starts(events.times_ms[index], GAP_MS)
    found = features_at_every_event(events, index, starts)[0]
    for place in range(14):
        held = index[0, : place + 1]
        batch = WindowBatch(
            rows=events.rows[held].astype(np.int32),
            offsets=np.array([0, len(held)]),
            times_ms=events.times_ms[held],
            types=events.types[held],
            dwell_ms=events.dwell_ms[held].astype(np.int32),
            counts=events.counts[held[-1:]],
        )
        assert np.allclose(found[place], context_features(batch, GAP_MS)[0], atol=1e-6)


@pytest.mark.parametrize("biased", [False, True])
def test_chunked_cross_entropy_is_torchs(biased: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1_300, 8, generator=generator, requires_grad=True)
    items = torch.randn(50, 8, generator=generator, requires_grad=True)
    place = torch.randint(0, 50, (1_300,), generator=generator)
    bias = torch.randn(50, generator=generator) if biased else None
    logits = x @ items.T + (0.0 if bias is None else bias)
    expected = functional.cross_entropy(logits, place, reduction="sum")
    found = ChunkedCrossEntropy.apply(x, items, bias, place)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    wanted = torch.autograd.grad(expected, (x, items))
    got = torch.autograd.grad(3 * found, (x, items))
    for ours, theirs in zip(got, wanted, strict=True):
        assert torch.allclose(ours, 3 * theirs, atol=1e-3)


def test_popular_items_of_a_batch_are_corrected_for() -> None:
    popularity = np.array([90, 9, 1, 0])
    settings = TrainingSettings(negatives="in_batch")
    drawn = candidates(
        settings, np.array([0, 2, 0]), popularity, np.random.default_rng(0), torch.device("cpu")
    )
    assert drawn.items.tolist() == [0, 2]
    assert drawn.log_share is not None
    likely = [1 - 0.1**3, 1 - 0.99**3]
    assert drawn.log_share.tolist() == pytest.approx(np.log(likely).tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (TrainingSettings(), [0, 1, 3]),
        (TrainingSettings(negatives="uniform", negative_count=3), [0, 1, 3]),
        (TrainingSettings(loss="binary"), [0, 1, 3]),
    ],
)
def test_an_item_that_nobody_has_met_is_no_negative(
    settings: TrainingSettings, expected: list[int]
) -> None:
    met = np.array([90, 9, 0, 1, 0])
    drawn = candidates(
        settings, np.array([0, 1]), met, np.random.default_rng(0), torch.device("cpu")
    )
    assert drawn.items.tolist() == expected


def test_a_hidden_event_may_ask_for_an_item_that_is_nobodys_next() -> None:
    met = np.array([90, 9, 0, 1, 0])
    asked, drawn = np.array([4, 1]), np.random.default_rng(0)
    alone = candidates(TrainingSettings(), asked, met, drawn, torch.device("cpu"))
    assert alone.items.tolist() == [0, 1, 3, 4]
    few = TrainingSettings(negatives="uniform", negative_count=2)
    for _ in range(20):
        assert 2 not in candidates(few, asked, met, drawn, torch.device("cpu")).items
    batch = TrainingSettings(negatives="in_batch")
    share = candidates(batch, asked, met, drawn, torch.device("cpu")).log_share
    assert share is not None
    assert torch.isfinite(share).all()


def test_only_matrices_decay() -> None:
    layer = nn.Linear(3, 2)
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    optimiser = Optimiser(
        dict(layer.named_parameters()), TrainingSettings(weight_decay=0.5, warm_up_steps=0)
    )
    (layer(torch.zeros(1, 3)) * 0.0).sum().backward()
    optimiser.step(0, 0.0)
    assert torch.equal(layer.bias, before["bias"])
    assert torch.allclose(layer.weight, before["weight"] * (1 - 0.5e-3))


def test_the_rate_rises_then_falls_to_nothing() -> None:
    settings = TrainingSettings(learning_rate=0.1, warm_up_steps=10)
    optimiser = Optimiser(dict(nn.Linear(1, 1).named_parameters()), settings)
    assert optimiser.rate(0, 0.0) == pytest.approx(0.01)
    assert optimiser.rate(9, 0.0) == pytest.approx(0.1)
    assert optimiser.rate(500, 0.5) == pytest.approx(0.05)
    assert optimiser.rate(999, 1.0) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("changed", "rate"),
    [
        ({"text": "full"}, 5e-5),
        ({"text": "lora"}, 5e-4),
        ({"text": "full", "text_learning_rate": 2e-3}, 2e-3),
        ({"text": "lora", "text_learning_rate": 2e-3, "learning_rate": 0.0}, 2e-3),
        ({"text": "lora", "text_learning_rate": 0.0}, 0.0),
    ],
)
def test_the_text_model_has_a_rate_of_its_own(changed: dict[str, Any], rate: float) -> None:
    settings = TrainingSettings(warm_up_steps=2, weight_decay=0.0, **changed)
    named = {"text.model.q": nn.Parameter(torch.zeros(3, 3)), "W": nn.Parameter(torch.zeros(3, 3))}
    optimiser = Optimiser(named, settings)
    for parameter in named.values():
        parameter.grad = torch.ones_like(parameter)
    assert optimiser.step(0, 0.5) == pytest.approx(settings.learning_rate * 0.25)
    # AdamW's first step has the length of the rate: here half of it warmed up, half left.
    moved = {name: -float(parameter.detach().mean()) for name, parameter in named.items()}
    assert moved["text.model.q"] == pytest.approx(rate * 0.25, rel=1e-3)
    assert moved["W"] == pytest.approx(settings.learning_rate * 0.25, rel=1e-3)


def test_whitened_texts_are_uncorrelated_and_what_never_varies_is_silent() -> None:
    generator = np.random.default_rng(0)
    spread = generator.normal(size=(500, 6)) * np.array([1.0, 0.5, 0.2, 0.1, 0.3, 0.0])
    turned = spread @ np.linalg.qr(generator.normal(size=(6, 6)))[0]
    turned -= turned.mean(axis=0)
    matrix = whitening(turned)
    covariance = np.cov(turned @ matrix.T, rowvar=False)
    deviations = np.sqrt(np.diag(covariance))
    assert np.allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-6)
    assert min(deviations.round(2)) == 0.0
    assert deviations.max() == pytest.approx(0.3, rel=0.02)
    new = generator.normal(size=6)
    assert np.abs(matrix @ new).max() < 20


def test_time_buckets_are_powers_of_two_of_seconds() -> None:
    spans_ms = torch.tensor([-5, 0, 499, 999, 1_000, 1_999, 2_000, 3_999, 4_000, 2**62])
    expected = [0, 0, 0, 0, 1, 1, 2, 2, 3, TIME_BUCKETS - 1]
    assert time_bucket(spans_ms).tolist() == expected


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = Dropout(0.2)
    x = torch.ones(100, 1_001)
    out = layer(x)
    assert float((out == 0).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.01)
    assert torch.equal(layer.eval()(x), x)


def with_(data: Interactions, **columns: np.ndarray) -> Interactions:
    return replace(data, **columns)


def test_one_user_is_too_few() -> None:
    data = clustered(users=1)
    with pytest.raises(TrainingDataInvalid, match="are of 1 users, at least 2 are needed"):
        events_of(data)


def test_nothing_bought_and_nothing_but_bought_are_refused() -> None:
    data = clustered(users=4)
    binary = msgspec.structs.replace(SETTINGS, loss="binary")
    viewed = with_(data, types=np.zeros_like(data.types))
    with pytest.raises(TrainingDataInvalid, match=r"hold no purchase among \d+: binary needs both"):
        events_of(viewed, binary)
    bought = with_(data, types=np.full_like(data.types, 2))
    with pytest.raises(TrainingDataInvalid, match="hold nothing but purchases"):
        events_of(bought, binary)


def test_what_was_looked_at_and_then_bought_is_a_purchase_to_learn() -> None:
    data = clustered(users=4)
    viewed = np.arange(len(data)) % 2 == 0  # each user's events: looked at, bought, looked at, ...
    order = np.argsort(data.users, kind="stable")
    before = np.repeat(order[::2], 2)
    items, rows, types = data.items.copy(), data.rows.copy(), data.types.copy()
    items[order], rows[order] = data.items[before], data.rows[before]
    types[order] = np.where(viewed, 0, 2)
    shop = with_(data, items=items, rows=rows, types=types)
    learned = events_of(shop, msgspec.structs.replace(SETTINGS, loss="binary"))
    assert learned.labels[learned.is_target].sum() > 0
    assert not events_of(shop, SETTINGS).is_target[learned.labels == 1].any()


def test_nothing_to_ask_for_is_refused() -> None:
    data = clustered(users=4)
    number = msgspec.structs.replace(SETTINGS, loss="squared_error")
    silent = with_(data, dwell_ms=np.full_like(data.dwell_ms, -1))
    with pytest.raises(TrainingDataInvalid, match="no user meets an item with a dwell"):
        events_of(silent, number)
    value = msgspec.structs.replace(number, target="value")
    with pytest.raises(TrainingDataInvalid, match="the events come with none"):
        events_of(data, value)


def test_an_unknown_item_is_refused() -> None:
    data = clustered(users=4)
    items, rows = data.items.copy(), data.rows.copy()
    items[3], rows[3] = -1, -1
    with pytest.raises(TrainingDataInvalid, match="1 of 56 events name an item that is not in"):
        questions_of(with_(data, items=items, rows=rows), SETTINGS)


def test_too_few_items_to_validate_with_are_refused() -> None:
    data = clustered(users=3, events_each=2)
    with pytest.raises(TrainingDataInvalid, match="no user has three different items"):
        questions_of(data, SETTINGS)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"epochs": 0}, "epochs is 0, must be at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0, must be at least 0 and below 1"),
        ({"loss": "hinge"}, "loss is hinge, must be one of cross_entropy"),
        ({"granularities": ("word", "page")}, "granularities is page, must be some of word"),
        ({"granularities": ()}, "granularities is empty"),
        ({"dimensions": 30, "heads": 4}, "dimensions is 30, must be a multiple of heads"),
        ({"learn_salience": True}, "have word among the granularities"),
        ({"layers": 0, "pretrain_epochs": 1}, "0 where there are no layers"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"text_learning_rate": 1.0}, "text_learning_rate is 1.0, must be at least 0 and below 1"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(EncoderConfigInvalid, match=said):
        TrainingSettings(**wrong)  # type: ignore[arg-type]


def test_a_share_of_every_window_is_hidden_and_searches_never(events: TrainingEvents) -> None:
    generator = np.random.default_rng(0)
    hidden = whole = 0
    for stretches in events.batches(SETTINGS, generator, unasked=True):
        batch = masked_batch_of(events, stretches, 0.3, generator)
        assert batch.windows.asked.sum() == len(batch.items)
        assert (batch.items >= 0).all()
        behind = np.arange(batch.windows.rows.shape[1]) > batch.windows.last[:, None]
        assert not (batch.windows.asked & behind).any()
        hidden += len(batch.items)
        whole += int((~behind).sum())
    assert whole == len(events)
    assert 0.25 < hidden / whole < 0.6  # 0.3 of all, and one at least of each short window


def test_a_hidden_event_is_read_from_both_sides_and_not_from_itself() -> None:
    reader = SequenceReader(SequenceConfig(layers=1, heads=2, positions=6, hidden=8), 8)
    reader.initialise(torch.Generator().manual_seed(0))
    nn.init.normal_(reader.kind, generator=torch.Generator().manual_seed(1))
    times_ms, types = torch.arange(6)[None] * 1_000, torch.zeros(1, 6, dtype=torch.int64)
    starts, last = torch.zeros(1, 6, dtype=torch.int64), torch.tensor([4])

    def read(changed: int, **how: bool) -> torch.Tensor:
        tokens = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(2))
        tokens[0, changed, 0] += 3.0
        at = last if how else None
        found: torch.Tensor = reader(tokens, times_ms, types, starts, at, **how)[0, 2]
        return found

    plain = read(5)
    assert torch.equal(read(4), plain)  # what comes later is not seen
    assert not torch.equal(read(1), plain)
    both = read(5, both_ways=True)  # behind the last event: filling
    assert not torch.equal(read(4, both_ways=True), both)
    assert not torch.equal(read(1, both_ways=True), both)
