"""``evaluate``: data and a model to a report, and the report to files."""

from __future__ import annotations

import importlib.util
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import numpy as np

from encoders.config import EncoderConfig
from encoders.evaluation import in_stream_order, leave_last_out
from encoders.evaluation.grid import StubVariants, TransformerVariants, Variants
from encoders.evaluation.interactions import Interactions
from encoders.evaluation.pages import Picture, html_page, markdown
from encoders.evaluation.plan import Bar, Plan
from encoders.evaluation.report import blocks
from encoders.evaluation.results import Protocol, Report, last_line, to_json
from encoders.interface import Float32
from state.window import WindowPolicy
from stream_app.errors import FixData, FixSettings
from stream_app.settings import Settings

PROTOCOLS = ("leave-last-out", "prequential")
_VERSIONS = (
    "interest-stream", "numpy", "torch", "transformers", "tokenizers", "safetensors", "matplotlib",
)  # fmt: skip
_TRAINED = (
    "The model is a trained one. Leave-last-out is fair to it if its training left out every "
    "user's last two items, as `train` does; prequentially it has an advantage where its training "
    "events reach into the test period, which the baselines and the untrained model do not have."
)


@dataclass(frozen=True)
class Request:
    """What is wanted of one evaluation."""

    model: Path | None
    """Folder of an interest model; None: untrained, made of the catalogue."""
    protocols: Sequence[str]
    plan: Plan
    command: str
    dataset: str
    """What the data is called in the report."""


def evaluate(settings: Settings, data: Interactions, request: Request, bar: Bar) -> Report:
    """Return the report.

    Raises:
        FixSettings: the model cannot be used, or torch and transformers are not installed.
        FixData: there is nothing to ask of these events.
        EncoderError: the text model or the interest model cannot be used.
    """
    started = time.monotonic()
    variants = _variants(settings, data, request.model)
    policy = WindowPolicy(
        max_events=settings.window_max_events,
        max_age_ms=settings.window_max_age_ms,
        max_bytes=settings.window_max_bytes,
    )
    encoder = variants.make(variants.config)
    model = {
        "model": "untrained, of this catalogue" if request.model is None else str(request.model),
        "model_id": encoder.info.model_id,
        "dimensions": encoder.info.dimensions,
        "fusion": variants.config.fusion,
        "weights": " ".join(f"{k} {v:.2g}" for k, v in variants.config.weights.items() if v),
        "backend": encoder.info.backend,
    }
    encoder.close()
    try:
        texts = leave_last_out.text_vectors(variants, data, bar)
        found = [_protocol(name, data, variants, texts, policy, request.plan, bar)
                 for name in request.protocols]  # fmt: skip
    except ValueError as error:
        raise FixData(str(error)) from None
    return Report(
        command=request.command,
        seed=request.plan.seed,
        versions=versions(),
        model=model,
        data=_facts(data, request.dataset),
        protocols=found,
        seconds=time.monotonic() - started,
        notes=[] if request.model is None else [_TRAINED],
    )


def write(report: Report, out: Path) -> list[Path]:
    """Write the page ``out``, .json and .html beside it and its pictures; return what was made.

    Raises:
        FixSettings: the files cannot be written.
    """
    with_plots = importlib.util.find_spec("matplotlib") is not None
    page = [
        replace(block, name=f"{out.stem}-{block.name}") if isinstance(block, Picture) else block
        for block in blocks(report, with_plots=with_plots)
    ]
    assets = out.parent / "assets"
    contents = {out: markdown(page, assets.name).encode()}
    contents[out.with_suffix(".json")] = to_json(report)
    contents[out.with_suffix(".html")] = html_page(page).encode()
    for picture in (block for block in page if isinstance(block, Picture)):
        contents[assets / f"{picture.name}.png"] = picture.png
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


def _variants(settings: Settings, data: Interactions, model: Path | None) -> Variants:
    if settings.encoder == "stub":
        if model is not None:
            raise FixSettings("the stub encoder takes no --model: set encoder to transformer")
        return StubVariants(_with_rows(settings, data, None))
    try:
        work = settings.datadir / "evaluation"
        return TransformerVariants(_with_rows(settings, data, model), data.texts, work)
    except ImportError as error:
        raise FixSettings(
            f"{error.name} is not installed: install interest-stream[transformer]"
        ) from None


def _with_rows(settings: Settings, data: Interactions, model: Path | None) -> EncoderConfig:
    config = settings.encoder_config()
    # Twice the texts: a changed one must find room beside the one it came from.
    rows = max(2 * len(data.texts), 1)
    folder = str(model) if model is not None else settings.interest_model
    return replace(config, slab_rows=rows, interest_model=folder)


def _protocol(
    name: str, data: Interactions, variants: Variants, texts: Float32, policy: WindowPolicy,
    plan: Plan, bar: Bar,
) -> Protocol:  # fmt: skip
    run = leave_last_out.run if name == "leave-last-out" else in_stream_order.run
    return run(data, variants, texts, policy, plan, bar)


def _facts(data: Interactions, dataset: str) -> dict[str, str]:
    first, last = (np.datetime64(int(t), "ms").astype("datetime64[D]")
                   for t in (data.times_ms.min(), data.times_ms.max()))  # fmt: skip
    return {
        "data": dataset,
        "events": f"{len(data):,}",
        "users": f"{len(data.user_ids):,}",
        "items": f"{len(data.item_ids):,}",
        "from": str(first),
        "to": str(last),
    }


def summary(report: Report) -> str:
    """Return the last line: the main metrics as one line of JSON."""
    return msgspec.json.encode(last_line(report)).decode()
