"""Whether a trained model may be asked these questions, and of these windows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from encoders.config import InterestConfig
from encoders.evaluation.plan import Plan
from encoders.evaluation.results import Protocol
from encoders.interface import EncoderInfo
from state.window import WindowPolicy

_RECORD = "training.json"


def window_misfits(trained: InterestConfig | EncoderInfo, policy: WindowPolicy) -> list[str]:
    """Return a sentence for each cap of the windows that differs from those of the training."""
    caps = {
        "window_max_events": (trained.window_max_events, policy.max_events),
        "window_max_age_ms": (trained.window_max_age_ms, policy.max_age_ms),
    }
    return [
        f"The model was trained on windows of {name} {wanted}, these have {found}, so its vectors "
        f"are not what its training measured: set INTEREST_{name.upper()}={wanted}, or train anew."
        for name, (wanted, found) in caps.items()
        if wanted and wanted != found
    ]


class _Record(msgspec.Struct):
    hold_out: str = ""
    until_ms: int = 0
    split_seed: int = -1


def training_notes(
    model: Path, plan: Plan, protocols: Sequence[Protocol], *, in_one_order: bool = False
) -> list[str]:
    """Return a sentence for each way in which training may have seen what is asked here.

    ``in_one_order``: nothing is asked in the other order of events of the same time.
    """
    try:
        record = msgspec.json.decode((model / _RECORD).read_bytes(), type=_Record)
    except (OSError, msgspec.MsgspecError):
        return [
            f"The model's folder has no readable {_RECORD}: whether its training saw what is "
            "asked here cannot be told."
        ]
    return [note for protocol in protocols for note in _notes(record, plan, protocol, in_one_order)]


def _notes(record: _Record, plan: Plan, protocol: Protocol, in_one_order: bool) -> list[str]:
    if protocol.name == "prequential":
        if 0 < record.until_ms <= protocol.from_ms:
            return []
        return [
            "Prequential: the model's training reached into the test period, so it knows some of "
            "what it is asked; `train --until-ms "
            f"{protocol.from_ms}` makes one that does not."
        ]
    notes = []
    if record.hold_out != "two" or record.split_seed != plan.seed or plan.order != "random":
        notes.append(
            f"Leave-last-out: the model was trained with hold_out {record.hold_out!r} and split "
            f"seed {record.split_seed}, the questions are drawn with seed {plan.seed} in "
            f"{plan.order} order: where the two differ, training has seen the answers."
        )
    if not in_one_order:
        notes.append(
            "The trained model's figures in the other order of events are too good: among events "
            "of the same second, some that are asked for there were trained on here."
        )
    return notes
