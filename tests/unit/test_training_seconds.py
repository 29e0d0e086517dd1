"""How long a run took, whoever cut it off and how often."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from encoders import EncoderConfig
from encoders.text_encoder import TextEncoder
from tests.conformance.models import tiny_bert
from tests.harness.clusters import clustered
from tests.unit.test_training import SHORT, Quiet, trained


class Clock:
    """Time that passes in steps of the training alone, 10 s in each."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_seconds_are_those_of_all_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)

    class Watched(Quiet):
        def step(self, number: int, loss: float, rate: float) -> None:
            super().step(number, loss, rate)
            clock.now_s += 10

    data = clustered(users=30)
    text = TextEncoder(EncoderConfig(text_model=str(tiny_bert(tmp_path / "bert")), device="cpu"))
    through = trained(data, SHORT, tmp_path / "through", text, Watched())
    assert through["seconds"] == 10 * int(str(through["steps"])) > 0
    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        trained(data, SHORT, cut, text, Watched(stop_after=2))
    for _ in range(2):  # resumed, then the command of a finished run repeated
        assert trained(data, SHORT, cut, text, Watched())["seconds"] == through["seconds"]
        assert json.loads((cut / "metrics.json").read_bytes())["seconds"] == through["seconds"]
