"""A search for settings: trials, resumed, with a report."""

from __future__ import annotations

from pathlib import Path

import msgspec
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial

from encoders import EncoderConfig, EncoderConfigInvalid, TrainingDataInvalid
from encoders.training import search as searching
from encoders.training.run import TrainingData
from encoders.training.search import search
from encoders.training.settings import TrainingSettings
from tests.conformance.models import tiny_bert
from tests.conformance.trained import Silent
from tests.harness.clusters import clustered

BASE = TrainingSettings(
    dimensions=16, tower_hidden=16, epochs=2, batch_windows=32, warm_up_steps=2, layers=1
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> EncoderConfig:
    folder = tiny_bert(tmp_path_factory.mktemp("models") / "bert")
    return EncoderConfig(text_model=str(folder), device="cpu")


def test_a_search_goes_on_and_reports(config: EncoderConfig, tmp_path: Path) -> None:
    data = TrainingData(clustered(users=30))
    names = ("learning_rate", "heads")

    def run(trials: int) -> dict[str, object]:
        return search(data, BASE, config, tmp_path, Silent(), trials=trials, parameters=names)

    assert run(2)["trials"] == 2
    found = run(4)
    assert found["trials"] == 4
    best = msgspec.json.decode((tmp_path / "best.json").read_bytes(), type=TrainingSettings)
    assert {"learning_rate": best.learning_rate, "heads": best.heads} == found["parameters"]
    assert (Path(str(found["model"])) / "interest.json").is_file()
    report = (tmp_path / "tuning.md").read_text(encoding="utf-8")
    rows = [line for line in report.splitlines() if line.startswith("| ") and "whole" in line]
    assert len(rows) == 4
    assert rows[0].startswith(f"| {found['best_trial']} | {found['ndcg@10']:.4f} |")
    assert (tmp_path / "tuning.png").read_bytes().startswith(b"\x89PNG")
    assert len({row.split("|")[6] for row in rows}) == 4  # four different learning rates
    with pytest.raises(TrainingDataInvalid, match="a study of other settings"):
        search(data, BASE, config, tmp_path, Silent(), trials=5, parameters=("dropout",))
    other = TrainingData(clustered(users=31))
    with pytest.raises(TrainingDataInvalid, match="parameters, data or text model"):
        search(other, BASE, config, tmp_path, Silent(), trials=5, parameters=names)


def test_a_trial_that_was_cut_off_is_tried_again(config: EncoderConfig, tmp_path: Path) -> None:
    data = TrainingData(clustered(users=30))

    class CutOff(Silent):
        def step(self, number: int, loss: float, rate: float) -> None:
            raise KeyboardInterrupt

    names = ("learning_rate",)
    with pytest.raises(KeyboardInterrupt):
        search(data, BASE, config, tmp_path, CutOff(), trials=2, parameters=names)
    journal = JournalStorage(JournalFileBackend(str(tmp_path / searching.STUDY_FILE)))
    (unfinished,) = optuna.load_study(study_name="tune", storage=journal).trials
    found = search(data, BASE, config, tmp_path, Silent(), trials=1, parameters=names)
    assert found["trials"] == 1
    assert found["parameters"] == unfinished.params


def test_what_fails_twice_is_not_tried_a_third_time(config: EncoderConfig, tmp_path: Path) -> None:
    data = TrainingData(clustered(users=30))
    names = ("learning_rate",)

    class Broken(Silent):
        def step(self, number: int, loss: float, rate: float) -> None:
            raise RuntimeError("of memory there is not enough")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="not enough"):
            search(data, BASE, config, tmp_path, Broken(), trials=1, parameters=names)
    journal = JournalStorage(JournalFileBackend(str(tmp_path / searching.STUDY_FILE)))
    tried = [t.params for t in optuna.load_study(study_name="tune", storage=journal).trials]
    assert tried[0] == tried[1]
    found = search(data, BASE, config, tmp_path, Silent(), trials=1, parameters=names)
    assert found["trials"] == 1
    assert found["parameters"] != tried[0]


def test_settings_that_do_not_go_together_end_one_trial_only(
    config: EncoderConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def heads(trial: Trial) -> int:
        value = 4 if trial.number == 0 else 2
        return trial.suggest_int("heads", value, value)

    monkeypatch.setattr(searching, "SPACE", {"heads": heads})
    data = TrainingData(clustered(users=30))
    base = msgspec.structs.replace(BASE, dimensions=18)
    found = search(data, base, config, tmp_path, Silent(), trials=2, parameters=("heads",))
    assert (found["trials"], found["pruned"], found["best_trial"]) == (2, 1, 1)
    report = (tmp_path / "tuning.md").read_text(encoding="utf-8")
    assert "| training: dimensions is 18, must be a multiple of heads (4) | 4 |" in report


def test_poor_trials_are_cut_short(
    config: EncoderConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rate(trial: Trial) -> float:
        value = 5e-3 if trial.number < 5 else 1e-7
        return trial.suggest_float("learning_rate", value, value)

    monkeypatch.setattr(searching, "SPACE", {"learning_rate": rate})
    data = TrainingData(clustered(users=30))
    base = msgspec.structs.replace(BASE, epochs=4)
    names = ("learning_rate",)
    found = search(data, base, config, tmp_path, Silent(), trials=6, parameters=names)
    assert (found["trials"], found["pruned"]) == (6, 1)
    assert found["best_trial"] != 5
    assert not (tmp_path / "trial-005" / "interest.json").exists()
    report = (tmp_path / "tuning.md").read_text(encoding="utf-8")
    assert "| 2 | cut short |" in report


@pytest.mark.parametrize("names", [("epochs",), ()])
def test_what_cannot_be_searched_is_refused(
    config: EncoderConfig, tmp_path: Path, names: tuple[str, ...]
) -> None:
    data = TrainingData(clustered(users=5))
    with pytest.raises(EncoderConfigInvalid, match="choose among learning_rate"):
        search(data, BASE, config, tmp_path, Silent(), trials=1, parameters=names)
