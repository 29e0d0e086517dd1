"""Tiny models and bundles of them, as the tests of export and serving want them."""

from __future__ import annotations

import random
from pathlib import Path

from encoders.config import EncoderConfig, InterestConfig
from encoders.interest_init import init
from encoders.model_bundle import Manifest
from encoders.shipping.export import ExportPlan, export
from encoders.text_encoder import TextEncoder
from tests.conformance.models import tiny_bert

WORDS = ("quick", "brown", "fox", "lazy", "dog", "heist", "film", "toy", "story", "shoes", "winter")


def catalogue(count: int = 80, seed: int = 3) -> list[str]:
    """Return different texts of a few words each."""
    random_ = random.Random(seed)
    return [" ".join(random_.choices(WORDS, k=2 + n % 7)) + f" {n}." for n in range(count)]


def source(folder: Path, text_model: Path, interest: InterestConfig | None = None) -> EncoderConfig:
    """Return the models: ``text_model``, and an interest model made for it in ``folder``."""
    config = EncoderConfig(text_model=str(text_model), device="cpu", slab_rows=128)
    init(catalogue(), TextEncoder(config), folder, interest=interest)
    return EncoderConfig(
        text_model=str(text_model), interest_model=str(folder), device="cpu", slab_rows=128
    )


def bundle(out: Path, text_model: Path, **changed: object) -> Manifest:
    """Export a bundle of ``text_model`` and an interest model of its own."""
    models = source(out.with_name(f"{out.name}-interest"), text_model)
    plan = ExportPlan(models, **changed)  # type: ignore[arg-type]
    return export(plan, catalogue(), out)


def old_and_new(folder: Path) -> dict[str, Path]:
    """Return two bundles by model_id: a tiny random model, and the same with one layer less."""
    models = source(folder / "interest", tiny_bert(folder / "text"))
    old = export(ExportPlan(models), [], folder / "old")
    new = export(ExportPlan(models, layers="1"), catalogue(), folder / "new")
    return {old.model_id: folder / "old", new.model_id: folder / "new"}
