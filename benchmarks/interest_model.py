"""A trained interest model on a CPU: users per second, and a training step against torch's own.

``python -m benchmarks.interest_model [--quick] [--threads 2]`` prints JSON. The model is the
default one (128 dimensions, two layers, context), its weights random: how fast it is does not
depend on what it has learned. Users have 50 events each and come in micro-batches of 256.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from encoders import interest_folder
from encoders.config import EncoderConfig, SequenceConfig
from encoders.interface import WindowBatch
from encoders.sequence_reader import SequenceReader
from encoders.text_encoder import TextEncoder
from encoders.training.events import training_events
from encoders.training.run import questions_of, start_model
from encoders.training.settings import TrainingSettings
from encoders.training.start import start_config
from encoders.training.texts import text_table
from encoders.transformer import TransformerEncoder
from state.event import Event, EventType

USERS, EVENTS, ITEMS = 256, 50, 2_000
_ROUNDS = {True: 3, False: 9}
_MODELS = {
    "document (default)": TrainingSettings(),
    "all four": TrainingSettings(granularities=("word", "sentence", "paragraph", "document")),
    "document, residual, 4 vectors": TrainingSettings(residual=True, interests=4),
}


def encoders_of_random_weights(threads: int) -> Iterator[tuple[str, TransformerEncoder]]:
    """Yield each model's name and an encoder of it that knows ``ITEMS`` texts."""
    from encoders.evaluation.interactions import from_events, in_time_order

    text = TextEncoder(EncoderConfig(device="cpu", threads=threads))
    catalogue = {f"item-{number}": _text(number) for number in range(ITEMS)}
    data = in_time_order(from_events(list(_events(catalogue)), catalogue))
    table = text_table(data.texts, ITEMS, text, EncoderConfig())
    for name, settings in _MODELS.items():
        config = start_config(settings, text.content_id)
        use = questions_of(data, settings).training
        events = training_events(data, use, table.known, settings)
        model = start_model(settings, config, table, data, events, text)
        with tempfile.TemporaryDirectory() as folder:
            interest_folder.save(Path(folder), config, model.model.tensors())
            encoder = TransformerEncoder(
                EncoderConfig(interest_model=folder, slab_rows=ITEMS), text_encoder=text
            )
        encoder.put_texts(list(enumerate(data.texts)))
        yield name, encoder


def run(quick: bool, threads: int) -> dict[str, object]:
    """Return users/s by model, the latency of one user, and the cost of a training step."""
    served = {}
    for name, encoder in encoders_of_random_weights(threads):
        batch, one = windows(USERS), windows(1)
        many_s = seconds_of(lambda: encoder.encode(batch), _ROUNDS[quick])  # noqa: B023
        one_s = seconds_of(lambda: encoder.encode(one), 5 * _ROUNDS[quick])  # noqa: B023
        served[name] = {"users_per_s": round(USERS / many_s), "one_user_ms": round(one_s * 1e3, 2)}
        encoder.close()
    return {
        "users_per_micro_batch": USERS,
        "events_per_user": EVENTS,
        "threads": threads,
        "served": served,
        "step": _steps(_ROUNDS[quick]),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy")},
        },
    }


def _steps(rounds: int) -> dict[str, float]:
    """Forward and backward of 128 windows of 50 events: ours, and torch's plain causal layers."""
    torch.set_float32_matmul_precision("medium")
    torch.manual_seed(0)
    ours = SequenceReader(SequenceConfig(), 128, 0.2)
    ours.initialise(torch.Generator().manual_seed(0))
    layer = nn.TransformerEncoderLayer(
        128, 2, 512, dropout=0.2, activation="gelu", batch_first=True, norm_first=True
    )
    theirs = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    tokens = torch.randn(128, EVENTS, 128)
    times_ms = torch.randint(0, 10**7, (128, EVENTS)).cumsum(1)
    nothing = torch.zeros(128, EVENTS, dtype=torch.int64)
    hides = torch.triu(torch.full((EVENTS, EVENTS), float("-inf")), 1)
    result = {
        "ours_ms": seconds_of(
            lambda: ours(tokens, times_ms, nothing, nothing).sum().backward(), rounds
        ),
        "nn_transformer_encoder_ms": seconds_of(
            lambda: theirs(tokens, mask=hides).sum().backward(), rounds
        ),
    }
    return {name: round(1e3 * seconds, 1) for name, seconds in result.items()}


def _text(number: int) -> str:
    return f"Product {number}: number {number * 7919 % 1000} of its kind."


def _events(catalogue: dict[str, str]) -> Iterable[Event]:
    generator = np.random.default_rng(0)
    for user in range(60):
        for number, item in enumerate(generator.choice(list(catalogue), 20, replace=False)):
            time_ms = 1_700_000_000_000 + number * 60_000
            yield Event(
                f"{user}-{number}", f"user-{user}", EventType.VIEW, item_id=item, time_ms=time_ms
            )


def windows(users: int) -> WindowBatch:
    """Return the same random windows of ``EVENTS`` events each time."""
    generator = np.random.default_rng(1)
    count = users * EVENTS
    return WindowBatch(
        rows=generator.integers(0, ITEMS, count).astype(np.int32),
        offsets=np.arange(users + 1) * EVENTS,
        times_ms=1_700_000_000_000 + np.cumsum(generator.integers(1_000, 4_000_000, count)),
        types=generator.integers(0, 3, count).astype(np.uint8),
        dwell_ms=np.full(count, -1, dtype=np.int32),
    )


def seconds_of(work: Callable[[], object], rounds: int) -> float:
    """Return the median time of one call."""
    work()
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.interest_model", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.quick, arguments.threads), indent=2))


if __name__ == "__main__":
    main()
