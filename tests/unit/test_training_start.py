"""What a training starts from: how the context is scaled."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from encoders import EncoderConfig
from encoders.context_features import FEATURES
from encoders.evaluation.interactions import Interactions, from_events, in_time_order
from encoders.evaluation.splits import leave_last_out
from encoders.interface import Float32
from encoders.text_encoder import TextEncoder
from encoders.training.context_moments import context_moments
from encoders.training.events import Stretches, TrainingEvents, training_events
from encoders.training.run import start_model
from encoders.training.settings import TrainingSettings
from encoders.training.start import start_config
from encoders.training.texts import text_table
from encoders.training.windows import batch_of
from state.event import Event, EventType
from tests.conformance.models import tiny_bert

GAP_MS = 1_800_000
SETTINGS = TrainingSettings(dimensions=16, layers=1, tower_hidden=16)
ITEMS = 40
START_MS = 1_700_000_000_000


def shop(few: int = 700, many: int = 60) -> Interactions:
    """Most users come four times, some twenty or sixty times, and one of these buys, once."""
    generator = np.random.default_rng(0)
    events = []
    for user, length in enumerate([4] * few + [20] * many + [60] * many):
        gaps_ms = generator.choice([2_000, 600_000, 7_200_000], length)
        times_ms = START_MS + int(generator.integers(10**9)) + np.cumsum(gaps_ms)
        for at, item in enumerate(generator.permutation(np.arange(length) % ITEMS)):
            kind = EventType.PURCHASE if (user, at) == (few, 5) else EventType.VIEW
            number, time_ms = f"{user}-{at}", int(times_ms[at])
            events.append(Event(number, f"u{user}", kind, f"i{item}", None, time_ms))
    texts = {f"i{item}": f"heat story {item}" for item in range(ITEMS)}
    return in_time_order(from_events(events, texts))


@pytest.fixture(scope="module")
def data() -> Interactions:
    return shop()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    folder = tiny_bert(tmp_path_factory.mktemp("models") / "bert")
    return TextEncoder(EncoderConfig(text_model=str(folder), device="cpu"))


@pytest.fixture(scope="module")
def events(data: Interactions) -> TrainingEvents:
    known = np.ones(len(data.texts), dtype=bool)
    return training_events(data, leave_last_out(data, "valid").training, known, SETTINGS)


def all_features(events: TrainingEvents, settings: TrainingSettings) -> Float32:
    batches = events.batches(settings, np.random.default_rng(settings.seed))
    starts, stops = (
        np.concatenate([getattr(b, end) for b in batches]) for end in ("starts", "stops")
    )
    features = batch_of(events, Stretches(starts, stops), GAP_MS, context=True).windows.features
    assert features is not None
    return features


@pytest.mark.parametrize("batch_windows", [7, 128, 10_000])
def test_the_moments_are_those_of_all_asked_events(
    events: TrainingEvents, batch_windows: int
) -> None:
    features = all_features(events, SETTINGS)
    settings = msgspec.structs.replace(SETTINGS, batch_windows=batch_windows)
    found = context_moments(events, settings, GAP_MS)
    assert np.allclose(found.mean, features.mean(axis=0, dtype=np.float64), atol=1e-9)
    assert np.allclose(found.deviation, features.std(axis=0, dtype=np.float64), atol=1e-9)
    assert np.array_equal(found.deviation == 0, np.ptp(features, axis=0) == 0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_feature_that_varies_is_alive_whatever_the_seed(
    data: Interactions, events: TrainingEvents, text: TextEncoder, seed: int
) -> None:
    """Short windows are most of them: a batch of these alone knows neither spans nor gaps."""
    settings = msgspec.structs.replace(SETTINGS, seed=seed)
    table = text_table(data.texts, ITEMS, text, EncoderConfig())
    config = start_config(settings, text.content_id)
    tensors = start_model(settings, config, table, data, events, text).model.tensors()
    mean, scale = (tensors[f"context.{name}"].numpy() for name in ("mean", "scale"))
    features = all_features(events, settings)
    varies = np.ptp(features, axis=0) > 0
    assert varies[FEATURES.index("share_purchase")]
    assert not varies[FEATURES.index("share_search")]
    deviation = features.std(axis=0, dtype=np.float64)
    # One purchase among thousands of events would drown all else, scaled to deviation 1.
    assert np.allclose(scale, np.where(varies, 1 / np.maximum(deviation, 0.01), 0.0), rtol=1e-5)
    assert np.allclose(mean, features.mean(axis=0, dtype=np.float64), atol=1e-5)
