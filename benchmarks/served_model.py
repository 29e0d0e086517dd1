"""What a worker serves of a trained model, against what the evaluation says of it.

``python -m benchmarks.served_model --model FOLDER`` plays MovieLens-1M through a real Kafka and a
real worker (``served_stream``) and asks the questions of ``evaluate --protocol prequential`` twice:
with the vectors that were published before each event, read from the topics, and offline, with the
evaluation's own replay. It prints both, their difference, and one line of JSON.

Settings are the worker's: a model that was trained on windows of another reach than the default
needs ``INTEREST_WINDOW_MAX_AGE_MS`` here, too. The exit code is 1 if a vector was not published in
time, or a metric differs by more than its interval.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import encoders
from benchmarks.served_stream import Served, play
from encoders import model_bundle
from encoders.evaluation.bootstrap import Estimate, estimates
from encoders.evaluation.in_stream_order import TEST_SHARE
from encoders.evaluation.interactions import Interactions, in_time_order
from encoders.evaluation.interest import put_texts
from encoders.evaluation.metrics import Scores
from encoders.evaluation.prequential import replay, start_of_test
from encoders.evaluation.ranking import Result, cosine_scores
from encoders.evaluation.streams import InterestStream
from encoders.interface import Float32, InterestEncoder
from state.window import Window, WindowPolicy
from stream_app import evaluation_data
from stream_app.kafka_server import open_kafka
from stream_app.settings import Settings, load
from stream_app.training_notes import window_misfits

_METRICS = ("recall@10", "ndcg@10", "mrr@10")


class _Published:
    """A stream of what the topics said before each event. See ``prequential.Stream``."""

    def __init__(self, served: Served, start: int) -> None:
        self._served = served
        self._at = -start
        self.asked: list[Float32] = []
        """[Q, D] in parts: the vectors in the order of the questions."""

    def published(self, user: int) -> Float32:
        vector: Float32 = self._served.vectors[self._at]
        return vector

    def apply(self, position: int) -> None:
        self._at += 1

    def scores(self, snapshots: Sequence[Float32]) -> Scores:
        self.asked.append(np.stack(snapshots))
        return cosine_scores(self.asked[-1], self._served.items)


class _Offline(InterestStream):
    """The evaluation's own stream, whose vectors are kept."""

    def __init__(self, encoder: InterestEncoder, data: Interactions, policy: WindowPolicy) -> None:
        super().__init__(encoder, data, policy)
        self.asked: list[Float32] = []

    def vectors(self, snapshots: Sequence[Window]) -> Float32:
        self.asked.append(super().vectors(snapshots))
        return self.asked[-1]


@dataclass(frozen=True)
class Compared:
    """Served beside offline, question by question."""

    served: dict[str, Estimate]
    offline: dict[str, Estimate]
    difference: dict[str, Estimate]
    """Served minus offline, paired."""
    questions: int
    users: int
    same_ranks: int
    vectors_apart: float
    """The largest difference of one number of a user's vector."""
    items_apart: float


def compare(
    data: Interactions, start: int, served: Served, settings: Settings, seed: int
) -> Compared:
    """Ask every question of the test period with both."""
    published = _Published(served, start)
    online = replay(data, published, start=start)
    encoder = encoders.build(replace(settings.encoder_config(), cache_dir=""))
    try:
        for misfit in window_misfits(encoder.info, settings.window_policy()):
            _say(misfit)
        put_texts(encoder, data)
        replayed = _Offline(encoder, data, settings.window_policy())
        offline = replay(data, replayed, start=start)
        items = encoder.item_vectors(np.arange(len(data.item_ids), dtype=np.int32))
    finally:
        encoder.close()
    apart = np.abs(np.concatenate(published.asked) - np.concatenate(replayed.asked))
    gaps = {name: online.values[name] - offline.values[name] for name in _METRICS}
    return Compared(
        served=_measured(online, seed),
        offline=_measured(offline, seed),
        difference=estimates(gaps, online.users, seed=seed),
        questions=len(online.users),
        users=len(np.unique(online.users)),
        same_ranks=int((online.ranks.ranks == offline.ranks.ranks).sum()),
        vectors_apart=float(apart.max()),
        items_apart=float(np.abs(served.items - items).max()),
    )


def _measured(result: Result, seed: int) -> dict[str, Estimate]:
    chosen = {name: result.values[name] for name in _METRICS}
    return estimates(chosen, result.users, seed=seed)


def _settings(model: Path, bootstrap: str, directory: Path) -> Settings:
    name = f"served-{time.time_ns() // 1_000_000}"
    kind = "model" if model_bundle.is_bundle(model) else "interest_model"
    return load(
        overrides={
            "app_id": name,
            "bootstrap_servers": bootstrap,
            "datadir": directory / "worker",
            kind: str(model.absolute()),
            "publish_item_vectors": True,
            **{
                f"{topic.replace('-', '_')}_topic": f"{name}.{topic}"
                for topic in ("events", "items", "updates", "item-vectors", "dead-letters")
            },
        }
    )


def run(model: Path, seed: int, directory: Path) -> dict[str, object]:
    """Return the figures; the tables go to stderr as they come."""
    _say("reading MovieLens-1M")
    data = in_time_order(evaluation_data.movielens_interactions(), seed=seed)
    start = start_of_test(data, TEST_SHARE)
    with open_kafka(directory / "kafka") as bootstrap:
        settings = _settings(model, bootstrap, directory)
        served = asyncio.run(play(data, start, settings, directory, _say))
    _say(f"{served.waves:,} waves in {served.waves_s:.0f} s; ranking what was published")
    found = compare(data, start, served, settings, seed)
    for name in _METRICS:
        _say(
            f"{name:10} served {_shown(found.served[name])} offline {_shown(found.offline[name])} "
            f"difference {_shown(found.difference[name], '+')}"
        )
    return {
        "model_id": served.model_id,
        "seed": seed,
        "events": len(data),
        "test_events": len(data) - start,
        "published_in_time": served.exact,
        "questions": found.questions,
        "users": found.users,
        "same_ranks": found.same_ranks,
        "vectors_apart": found.vectors_apart,
        "items_apart": found.items_apart,
        "served": {name: _plain(value) for name, value in found.served.items()},
        "offline": {name: _plain(value) for name, value in found.offline.items()},
        "difference": {name: _plain(value) for name, value in found.difference.items()},
        "history_events_per_s": round(start / served.history_s),
        "waves": served.waves,
        "waves_s": round(served.waves_s, 1),
        "updates_read": served.updates_read,
    }


def agrees(figures: dict[str, object]) -> bool:
    """Whether what is served is what was evaluated."""
    served, offline = figures["served"], figures["offline"]
    assert isinstance(served, dict)
    assert isinstance(offline, dict)
    in_time = figures["published_in_time"] == figures["test_events"]
    within = [offline[name][1] <= served[name][0] <= offline[name][2] for name in _METRICS]
    return in_time and all(within)


def _plain(value: Estimate) -> list[float]:
    return [round(value.mean, 6), round(value.low, 6), round(value.high, 6)]


def _shown(value: Estimate, sign: str = "") -> str:
    return f"{value.mean:{sign}.4f} [{value.low:{sign}.4f}, {value.high:{sign}.4f}]"


def _say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.served_model", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="interest model or bundle")
    parser.add_argument("--seed", type=int, default=0, help="of the order of ties and intervals")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="interest-served-") as name:
        figures = run(arguments.model, arguments.seed, Path(name))
    print(json.dumps(figures))
    sys.exit(0 if agrees(figures) else 1)


if __name__ == "__main__":
    main()
