"""Search for the settings of a run: trials, the poor ones cut short, and a report of them.

A study lives in its folder and goes on where it stopped (``study.log``, optuna's journal)::

    folder/study.log     every trial, as it goes
    folder/best.json     settings of the best trial, for ``interest-stream train --settings``
    folder/tuning.md     the report, with tuning.png
    folder/trial-007/    the model of a trial that ran to its end
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from encoders.config import EncoderConfig
from encoders.errors import EncoderConfigInvalid, TrainingDataInvalid, TrainingDiverged
from encoders.text_encoder import TextEncoder
from encoders.training.checkpoints import EpochReport
from encoders.training.fingerprint import data_fingerprint
from encoders.training.run import WORK_FOLDER, TrainingData, train
from encoders.training.search_report import write_report
from encoders.training.settings import TrainingSettings
from encoders.training.trainer import Journal

STUDY_FILE = "study.log"
BEST_FILE = "best.json"

SPACE: dict[str, Callable[[Trial], Any]] = {
    "learning_rate": lambda trial: trial.suggest_float("learning_rate", 2e-4, 5e-3, log=True),
    "weight_decay": lambda trial: trial.suggest_float("weight_decay", 1e-3, 0.2, log=True),
    "dropout": lambda trial: trial.suggest_float("dropout", 0.0, 0.5, step=0.05),
    "tower_dropout": lambda trial: trial.suggest_float("tower_dropout", 0.0, 0.5, step=0.05),
    "residual_dropout": lambda trial: trial.suggest_float("residual_dropout", 0.0, 0.5, step=0.05),
    "layers": lambda trial: trial.suggest_int("layers", 1, 4),
    "heads": lambda trial: trial.suggest_categorical("heads", [1, 2, 4]),
    "dimensions": lambda trial: trial.suggest_categorical("dimensions", [64, 128, 256]),
    "tower_hidden": lambda trial: trial.suggest_categorical("tower_hidden", [128, 256, 512, 1024]),
    "batch_windows": lambda trial: trial.suggest_categorical("batch_windows", [64, 128, 256]),
    "fusion": lambda trial: trial.suggest_categorical(
        "fusion", ["add", "weighted_mean", "attention", "concat"]
    ),
    "averaging": lambda trial: trial.suggest_categorical("averaging", [0.0, 0.99, 0.999]),
}
"""What can be searched, by the names of ``TrainingSettings``."""

DEFAULT_PARAMETERS = ("learning_rate", "weight_decay", "dropout", "tower_dropout")

_FREE_TRIALS = 5
"""Trials at random before the sampler and the pruner rely on what was seen; optuna's own is 10, of
studies with hundreds."""
_FREE_EVALUATIONS = 1
"""Evaluations of a trial before it may be cut short."""


def search(
    data: TrainingData,
    base: TrainingSettings,
    encoder_config: EncoderConfig,
    folder: Path,
    journal: Journal,
    *,
    trials: int,
    parameters: Sequence[str] = DEFAULT_PARAMETERS,
) -> dict[str, Any]:
    """Bring the study in ``folder`` to ``trials`` trials, write its report, return the best.

    The rest of a run's settings are ``base``'s; what is compared is its validation's NDCG@10.

    Raises:
        EncoderConfigInvalid: a parameter that cannot be searched.
        TrainingDataInvalid: the study in the folder is another one, or no trial came to an end.
    """
    unknown = [name for name in parameters if name not in SPACE]
    if unknown or not parameters:
        found = unknown[0] if unknown else "nothing"
        raise EncoderConfigInvalid(f"cannot search {found}: choose among {', '.join(SPACE)}")
    text = TextEncoder(encoder_config)
    data_id = data_fingerprint(data.interactions, data.values)
    study = _study(folder, base, parameters, [data_id, text.content_id])
    _clear_away_unfinished(study)

    def run_one(trial: Trial) -> float:
        settings = _settings(base, trial, parameters)
        out = folder / f"trial-{trial.number:03d}"
        watched = _Watched(journal, trial)
        try:
            train(data, settings, encoder_config, out, watched, resume=False, text_encoder=text)
        except TrainingDiverged as error:
            trial.set_user_attr("ended", str(error))
            raise optuna.TrialPruned from None
        finally:
            shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)
        return watched.best

    missing = trials - len(_ended(study))
    if missing > 0:
        study.optimize(run_one, n_trials=missing, gc_after_trial=True)
    return _result(study, base, folder)


def _settings(base: TrainingSettings, trial: Trial, parameters: Sequence[str]) -> TrainingSettings:
    """What the trial tries. What does not go together, as 4 heads and 30 dimensions, ends this
    trial and not the search."""
    drawn = {name: SPACE[name](trial) for name in parameters}
    try:
        return msgspec.structs.replace(base, **drawn)
    except EncoderConfigInvalid as error:
        trial.set_user_attr("ended", str(error))
        raise optuna.TrialPruned from None


class _Watched:
    """A journal that tells optuna each evaluation, which may end the trial."""

    def __init__(self, journal: Journal, trial: Trial) -> None:
        self.bar = journal.bar
        self.step = journal.step
        self._journal = journal
        self._trial = trial
        self.best = 0.0

    def epoch(self, report: EpochReport) -> None:
        self._journal.epoch(report)
        if report.metrics is None:
            return
        self.best = max(self.best, report.metrics["ndcg@10"])
        self._trial.report(self.best, report.epoch)
        if self._trial.should_prune():
            raise optuna.TrialPruned


def _study(
    folder: Path, base: TrainingSettings, parameters: Sequence[str], made_of: list[str]
) -> optuna.Study:
    """The study of the folder, which goes on only with what it was begun with: ``made_of`` are the
    hashes of data and text model."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # our own lines say it
    folder.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / STUDY_FILE)))
    names = optuna.get_all_study_names(storage)
    held = len(optuna.load_study(study_name=names[0], storage=storage).trials) if names else 0
    study = optuna.create_study(
        study_name="tune",
        storage=storage,
        direction="maximize",
        load_if_exists=True,
        # A study that goes on must not draw again what it has drawn.
        sampler=optuna.samplers.TPESampler(seed=base.seed + held, n_startup_trials=_FREE_TRIALS),
        pruner=optuna.pruners.MedianPruner(_FREE_TRIALS, _FREE_EVALUATIONS),
    )
    identity = {
        "base": msgspec.to_builtins(base),
        "parameters": sorted(parameters),
        "made of": made_of,
    }
    identity = msgspec.json.decode(msgspec.json.encode(identity))
    if study.user_attrs.get("identity", identity) != identity:
        raise TrainingDataInvalid(
            f"{folder / STUDY_FILE} is a study of other settings, parameters, data or text "
            "model: search in another folder"
        )
    study.set_user_attr("identity", identity)
    return study


def _clear_away_unfinished(study: optuna.Study) -> None:
    """Trials that were cut off, by a kill or by Ctrl-C: their values are tried again, once. What
    fails twice would fail a third time, and no other trial would ever begin."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    held = study.get_trials(deepcopy=False)
    settled = [t.params or t.system_attrs.get("fixed_params") for t in held if not _failed(t)]
    failed = [trial.params for trial in held if _failed(trial)]
    for params in failed:
        if params and params not in settled and failed.count(params) == 1:
            study.enqueue_trial(params)


def _failed(trial: FrozenTrial) -> bool:
    return trial.state is TrialState.FAIL


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _result(study: optuna.Study, base: TrainingSettings, folder: Path) -> dict[str, Any]:
    ended = _ended(study)
    complete = [trial for trial in ended if trial.state is TrialState.COMPLETE]
    if not complete:
        raise TrainingDataInvalid(f"none of the {len(ended)} trials came to its end: allow more")
    best = study.best_trial
    settings = msgspec.structs.replace(base, **best.params)
    said = msgspec.json.encode(settings, order="deterministic")
    (folder / BEST_FILE).write_bytes(msgspec.json.format(said, indent=2) + b"\n")
    write_report(folder, ended, best.number)
    return {
        "trials": len(ended),
        "pruned": len(ended) - len(complete),
        "best_trial": best.number,
        "ndcg@10": best.value,
        "parameters": best.params,
        "model": str(folder / f"trial-{best.number:03d}"),
    }
