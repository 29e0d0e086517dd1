"""One bundle of each kind there is, for a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from encoders.config import EncoderConfig
from encoders.shipping.export import Bar, ExportPlan, export, no_bar

PARENT = "parent"
_HALF = "every:2"


def make_variants(
    plan: ExportPlan, texts: Sequence[str], out: Path, bar: Bar = no_bar
) -> dict[str, Path]:
    """Write bundles into ``out``, each a folder by its name, and return them, the parent first.

    ``plan`` says what they are made of, which layers the cropped ones keep (every second, if it
    does not say) and how the distilled ones are taught; the parent is their teacher.

    Raises:
        EncoderError: as :func:`encoders.shipping.export.export`.
    """
    layers = plan.layers or _HALF
    plain = ExportPlan(plan.source, distillation=plan.distillation)
    teacher = plan.distil_from or plan.source.text_model or "minilm"
    plans = {
        PARENT: plain,
        "float16": replace(plain, vectors="float16"),
        "int8": replace(plain, int8=True),
        "cropped": replace(plain, layers=layers),
        "distilled": replace(plain, layers=layers, distil_from=teacher),
    }
    bundles = {}
    for name, each in plans.items():
        bundles[name] = out / name
        export(each, texts, bundles[name], bar)
    # Not taught a second time: the same student, smaller.
    student = EncoderConfig(
        model=str(bundles["distilled"]),
        device=plan.source.device,
        threads=plan.source.threads,
    )
    all_of_it = "distilled-int8-float16"
    bundles[all_of_it] = out / all_of_it
    export(ExportPlan(student, int8=True, vectors="float16"), texts, bundles[all_of_it], bar)
    return bundles
