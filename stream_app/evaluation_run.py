"""``evaluate``: data and a model to a report, and the report to files."""

from __future__ import annotations

import importlib.util
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from encoders import model_bundle
from encoders.config import EncoderConfig, InterestConfig
from encoders.evaluation import counterfactual, deletion, in_stream_order, leave_last_out
from encoders.evaluation.grid import StubVariants, TransformerVariants, Variants
from encoders.evaluation.interactions import Interactions
from encoders.evaluation.interest import put_texts
from encoders.evaluation.pages import Picture, html_page, markdown
from encoders.evaluation.plan import Bar, Plan, Setting
from encoders.evaluation.report import blocks
from encoders.evaluation.results import (
    Counterfactual,
    Explained,
    Protocol,
    Report,
    last_line,
    to_json,
)
from encoders.interface import Float32
from state.window import WindowPolicy
from stream_app.errors import FixData, FixSettings
from stream_app.named_model import with_model
from stream_app.settings import Settings
from stream_app.training_notes import training_notes, window_misfits

PROTOCOLS = ("leave-last-out", "prequential")
_VERSIONS = (
    "interest-stream", "numpy", "torch", "transformers", "tokenizers", "safetensors", "matplotlib",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What is wanted of one evaluation."""

    model: Path | None
    """Folder of an interest model or a bundle; None: untrained, made of the catalogue, whatever
    the settings name."""
    protocols: Sequence[str]
    plan: Plan
    command: str
    dataset: str
    """What the data is called in the report."""
    also: Sequence[Path] = ()
    """Folders of other models, each trained for one cell of the comparison of configurations."""


def evaluate(settings: Settings, data: Interactions, request: Request, bar: Bar) -> Report:
    """Return the report.

    Raises:
        FixSettings: the model cannot be used, or torch and transformers are not installed.
        FixData: there is nothing to ask of these events.
        EncoderError: the text model or the interest model cannot be used.
    """
    started = time.monotonic()
    variants = _variants(settings, data, request)
    policy = settings.window_policy()
    texts = leave_last_out.text_vectors(variants, data, bar)
    work = _Work(data, variants, texts, policy, request.plan, bar)
    try:
        found = [work.protocol(name) for name in request.protocols]
        counterfactual, explanation = work.safety()
    except ValueError as error:
        raise FixData(str(error)) from None
    return Report(
        command=request.command,
        seed=request.plan.seed,
        versions=versions(),
        model=_model_facts(variants, request.model),
        data=_facts(data, request.dataset, policy),
        protocols=found,
        seconds=time.monotonic() - started,
        counterfactual=counterfactual,
        explanation=explanation,
        notes=list(_notes(request, variants, policy, found)),
    )


def _notes(
    request: Request, variants: Variants, policy: WindowPolicy, found: Sequence[Protocol]
) -> Iterator[str]:
    """What does not fit, of each model by its folder."""
    if request.model is not None:
        yield from misfits(request.model, variants.config, policy, request.plan, found)
    asked = [protocol for protocol in found if protocol.name == "leave_last_out"]
    for folder in request.also:
        config = variants.configs[str(folder)]
        yield from misfits(folder, config, policy, request.plan, asked, in_one_order=True)


def misfits(
    folder: Path,
    trained: InterestConfig,
    policy: WindowPolicy,
    plan: Plan,
    protocols: Sequence[Protocol],
    *,
    in_one_order: bool = False,
) -> list[str]:
    """Return a sentence for each way in which the training of the model in ``folder`` does not
    fit these windows and questions; ``in_one_order``: nothing is asked in the other order of
    events of the same time."""
    notes = [
        *window_misfits(trained, policy),
        *training_notes(folder, plan, protocols, in_one_order=in_one_order),
    ]
    return [f"{folder}: {note}" for note in notes]


@dataclass(frozen=True)
class _Work:
    data: Interactions
    variants: Variants
    texts: Float32
    policy: WindowPolicy
    plan: Plan
    bar: Bar

    def protocol(self, name: str) -> Protocol:
        """Return all that one protocol gives."""
        run = leave_last_out.run if name == "leave-last-out" else in_stream_order.run
        return run(self.data, self.variants, self.texts, self.policy, self.plan, self.bar)

    def safety(self) -> tuple[Counterfactual | None, Explained | None]:
        """Return what swapped words do, and scores taken apart, on leave-last-out questions."""
        setting = Setting.of(self.data, self.plan, self.plan.order)
        explainer = self.variants.explainer(self.data.texts, self.data.media)
        encoder = self.variants.make(self.variants.config)
        try:
            put_texts(encoder, self.data)
            explained = None
            if explainer is not None:
                explained = deletion.run(setting, encoder, explainer, self.policy, self.bar)
            return counterfactual.run(setting, encoder, self.policy, self.bar), explained
        finally:
            encoder.close()


def _model_facts(variants: Variants, folder: Path | None) -> dict[str, Any]:
    encoder = variants.make(variants.config)
    encoder.close()
    return {
        "model": "untrained, of this catalogue" if folder is None else str(folder),
        "text_model": variants.text_model,
        "model_id": encoder.info.model_id,
        "dimensions": encoder.info.dimensions,
        "fusion": variants.config.fusion,
        "weights": " ".join(f"{k} {v:.2g}" for k, v in variants.config.weights.items() if v),
        "backend": encoder.info.backend,
    }


def files(report: Report, out: Path) -> dict[Path, bytes]:
    """Return what the page ``out``, .json and .html beside it and its pictures hold."""
    with_plots = importlib.util.find_spec("matplotlib") is not None
    page = [
        replace(block, name=f"{out.stem}-{block.name}") if isinstance(block, Picture) else block
        for block in blocks(report, with_plots=with_plots)
    ]
    assets = out.parent / "assets"
    contents = {
        out: markdown(page, assets.name).encode(),
        out.with_suffix(".json"): to_json(report),
        out.with_suffix(".html"): html_page(page).encode(),
    }
    pictures = [block for block in page if isinstance(block, Picture)]
    return contents | {assets / f"{picture.name}.png": picture.png for picture in pictures}


def write(report: Report, out: Path) -> list[Path]:
    """Write the page with all that goes with it; return what was made.

    Raises:
        FixSettings: the files cannot be written.
    """
    contents = files(report, out)
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        raise FixSettings(f"{error.filename} cannot be written: {error.strerror}") from None
    return list(contents)


def versions() -> dict[str, str]:
    """Return the version of Python and of every package that can change a figure."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _variants(settings: Settings, data: Interactions, request: Request) -> Variants:
    if settings.encoder == "stub":
        if request.model is not None or request.also:
            raise FixSettings("the stub encoder takes no models: set encoder to transformer")
        return StubVariants(_with_rows(settings, data, None))
    try:
        work = settings.datadir / "evaluation"
        config = _with_rows(settings, data, request.model)
        catalogue = data.texts[: len(data.item_ids)]
        return TransformerVariants(config, catalogue, work, request.also)
    except ImportError as error:
        raise FixSettings(
            f"{error.name} is not installed: install interest-stream[transformer]"
        ) from None


def _with_rows(settings: Settings, data: Interactions, model: Path | None) -> EncoderConfig:
    config = with_model(settings.encoder_config(), model)
    # Three times the texts: those that are changed find room behind the texts.
    rows = max(3 * len(data.texts), 1)
    # A folder of its own, for a running worker holds the other one's lock.
    cache = str(settings.datadir / "evaluation" / "text-cache")
    return replace(model_bundle.opened(config), slab_rows=rows, cache_dir=cache)


def _facts(data: Interactions, dataset: str, policy: WindowPolicy) -> dict[str, str]:
    first, last = (np.datetime64(int(t), "ms").astype("datetime64[D]")
                   for t in (data.times_ms.min(), data.times_ms.max()))  # fmt: skip
    return {
        "data": dataset,
        "events": f"{len(data):,}",
        "users": f"{len(data.user_ids):,}",
        "items": f"{len(data.item_ids):,}",
        "from": str(first),
        "to": str(last),
        "window_max_events": f"{policy.max_events:,}",
        "window_max_age_ms": f"{policy.max_age_ms:,}",
    }


def summary(report: Report) -> str:
    """Return the last line: the main metrics as one line of JSON."""
    return msgspec.json.encode(last_line(report)).decode()
