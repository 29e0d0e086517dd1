"""Write a bundle: the models as they are, or with a smaller text model. See ``model_bundle``."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import msgspec
import torch
import transformers

from encoders import int8_weights, interest_folder, model_bundle, model_files
from encoders.config import EncoderConfig, VectorFormat
from encoders.errors import BundleInvalid, EncoderConfigInvalid
from encoders.interest_folder import InterestBundle
from encoders.interest_init import catalogue_centre, catalogue_salience
from encoders.interface import Float32
from encoders.model_bundle import Distillation, Manifest, Origin
from encoders.shipping.cropping import crop, kept_layers
from encoders.shipping.distillation import DistillationPlan, distil
from encoders.text_encoder import TextEncoder

Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Given what is being done, a context with a function of how much is done and in all."""

_NO_TOKENIZER = ("config.json", "model.safetensors.index.json")
_VERSIONS = ("interest-stream", "torch", "transformers", "tokenizers")


def no_bar(_: str) -> AbstractContextManager[Callable[[int, int], None]]:
    """Show nothing."""
    return nullcontext(lambda done, total: None)


@dataclass(frozen=True)
class ExportPlan:
    """What to make a bundle of, and how small."""

    source: EncoderConfig
    """The models: a text and an interest model, or a bundle."""
    layers: str = ""
    """Which layers of the text model stay, see ``cropping.kept_layers``; empty: all."""
    int8: bool = False
    vectors: VectorFormat = "float32"
    distil_from: str = ""
    """Text model that teaches the cropped one, a folder or hub id; empty: it is not taught."""
    distillation: DistillationPlan = field(default_factory=DistillationPlan)


def export(plan: ExportPlan, texts: Sequence[str], out: Path, bar: Bar = no_bar) -> Manifest:
    """Write the bundle ``out``, whole or not at all, and return its manifest.

    ``texts`` are the catalogue's: a text model that says things otherwise has another mean text,
    which must be subtracted, and a student learns from them. Without cropping none are needed.

    Raises:
        BundleInvalid: ``out`` exists already.
        EncoderConfigInvalid: the plan does not fit together.
        EncoderError: a model cannot be used, or does not fit the other.
    """
    _check(plan, texts, out)
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        manifest = _Export(plan, texts, bar, draft).run()
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def catalogue_fingerprint(texts: Sequence[str]) -> str:
    """Return 64 hex digits over the different texts, whatever their order; empty for none."""
    if not texts:
        return ""
    encoded = [text.encode("utf-8", "surrogatepass") for text in sorted(set(texts))]
    return hashlib.sha256(msgspec.msgpack.encode(encoded)).hexdigest()


def _check(plan: ExportPlan, texts: Sequence[str], out: Path) -> None:
    if out.exists():
        raise BundleInvalid(
            f"{out} exists, and a worker may be reading it: export into a new folder"
        )
    if plan.source.kind == "stub":
        raise EncoderConfigInvalid(
            "the stub encoder cannot be exported: set encoder to transformer"
        )
    if not plan.source.model and not plan.source.interest_model:
        raise EncoderConfigInvalid("an export needs an interest model: name its folder or a bundle")
    if (plan.layers or plan.distil_from) and not texts:
        raise EncoderConfigInvalid(
            "a cropped or distilled text model needs the catalogue's texts, for its mean text is "
            "another one: name the items"
        )


class _Export:
    """One export under way: everything lies in ``draft`` until it is complete."""

    def __init__(self, plan: ExportPlan, texts: Sequence[str], bar: Bar, draft: Path) -> None:
        self._plan, self._texts, self._bar, self._draft = plan, texts, bar, draft
        self._source = model_bundle.opened(plan.source)
        self._text_folder = draft / model_bundle.TEXT_FOLDER

    def run(self) -> Manifest:
        text = TextEncoder(self._source)
        teacher = self._teacher()
        parent = self._parent(teacher or text)
        salience = parent.tensors.get("salience")
        weighed = None if salience is None else salience.float().numpy()
        (teacher or text).use_salience(weighed)
        if teacher is not None:
            text.use_salience(self._salience(text, teacher, weighed))
        total = int(text.model.config.num_hidden_layers)
        kept = kept_layers(self._plan.layers or str(total), total)
        taught = self._make_text_model(text, teacher, kept)
        served = self._served(text)
        self._save_interest(parent, served)
        trained = Path(self._source.interest_model)
        for name in model_bundle.TRAINING_FILES:
            if (trained / name).is_file():
                shutil.copyfile(trained / name, self._draft / name)
        origin = Origin(
            parent_model_id=model_files.model_id(
                (teacher or text).content_id, parent.content_id, self._source.vectors
            ),
            text_layers=kept,
            parent_text_layers=total,
            catalogue_fingerprint=catalogue_fingerprint(self._texts if self._is_changed else ()),
            distillation=taught,
            versions={name: version(name) for name in _VERSIONS},
        )
        dimensions = parent.config.dimensions or text.dimensions
        data_fingerprint = _data_fingerprint(trained / model_bundle.METRICS_FILE)
        manifest = self._manifest(text, dimensions, origin, data_fingerprint)
        model_bundle.write_manifest(self._draft, manifest)
        return model_bundle.check(self._draft)

    def _manifest(
        self, text: TextEncoder, dimensions: int, origin: Origin, data_fingerprint: str
    ) -> Manifest:
        """All but the hashes and the model_id, which ``write_manifest`` works out."""
        stored_as_int8 = (self._text_folder / int8_weights.INT8_FILE).is_file()
        return Manifest(
            model_id="",
            dimensions=dimensions,
            text_pooling=text.pooling,  # type: ignore[arg-type]
            max_text_tokens=self._source.max_text_tokens,
            weights="int8" if stored_as_int8 else "fp32",
            vectors=self._plan.vectors,
            origin=origin,
            files={},
            data_fingerprint=data_fingerprint,
        )

    @property
    def _is_changed(self) -> bool:
        return bool(self._plan.layers or self._plan.distil_from or self._plan.int8)

    def _teacher(self) -> TextEncoder | None:
        if not self._plan.distil_from:
            return None
        return TextEncoder(replace(self._source, text_model=self._plan.distil_from))

    def _parent(self, text: TextEncoder) -> InterestBundle:
        """The interest model, which must have been made for ``text``."""
        return interest_folder.load(
            Path(self._source.interest_model),
            text_dimensions=text.dimensions,
            vocabulary=text.vocabulary,
            text_id=text.content_id,
        )

    def _salience(
        self, student: TextEncoder, teacher: TextEncoder, salience: Float32 | None
    ) -> Float32 | None:
        """Salience by the student's tokens, which may be others than its teacher's."""
        if salience is None or student.tokenizer.get_vocab() == teacher.tokenizer.get_vocab():
            return salience
        return catalogue_salience(sorted(set(self._texts)), student)

    def _make_text_model(
        self, text: TextEncoder, teacher: TextEncoder | None, kept: tuple[int, ...]
    ) -> Distillation | None:
        """Write the text model's folder; return how it was taught, if it was."""
        self._text_folder.mkdir(parents=True)
        source = model_files.locate(self._source.text_model)
        if not self._is_changed:
            for path in model_files.hashed_files(source):
                shutil.copyfile(path, self._text_folder / path.name)
            return None
        for path in model_files.hashed_files(source):
            if path.suffix != ".safetensors" and path.name not in _NO_TOKENIZER:
                shutil.copyfile(path, self._text_folder / path.name)
        if self._plan.layers:
            crop(text.model, kept)
        taught = None if teacher is None else self._taught(text, teacher)
        if self._plan.int8:
            text.model.config.save_pretrained(self._text_folder)
            int8_weights.save(text.model, self._text_folder)
        else:
            transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
            text.model.save_pretrained(self._text_folder)
        return taught

    def _taught(self, student: TextEncoder, teacher: TextEncoder) -> Distillation:
        plan = self._plan.distillation
        with self._bar("distilling") as show:
            cosine = distil(student, teacher, self._texts, plan, show)
        texts = len({text for text in self._texts if text.strip()})
        return Distillation(teacher.content_id, plan.epochs, texts, plan.seed, round(cosine, 6))

    def _served(self, text: TextEncoder) -> TextEncoder:
        """The text model as the bundle's reader will have it."""
        if not self._is_changed:
            return text
        served = TextEncoder(
            replace(self._source, text_model=str(self._text_folder), text_pooling=text.pooling)  # type: ignore[arg-type]
        )
        served.use_salience(text.salience)
        return served

    def _save_interest(self, parent: InterestBundle, served: TextEncoder) -> None:
        folder = Path(self._source.interest_model)
        if not self._is_changed:
            for name in model_bundle.INTEREST_FILES:
                shutil.copyfile(folder / name, self._draft / name)
            return
        tensors = dict(parent.tensors)
        if "salience" in tensors and served.salience is not None:
            tensors["salience"] = torch.from_numpy(served.salience)
        if "centre" in tensors and self._texts:
            texts = sorted({text for text in self._texts if text.strip()})
            with self._bar("centring") as show:
                tensors["centre"] = torch.from_numpy(catalogue_centre(texts, served, show))
        config = msgspec.structs.replace(parent.config, text_model_id=served.content_id)
        interest_folder.save(self._draft, config, tensors)


def _data_fingerprint(metrics: Path) -> str:
    """What training said of its data; empty where nothing was trained."""
    found = model_files.read_json(metrics)
    data = found.get("data", {}) if isinstance(found, dict) else {}
    return str(data.get("fingerprint", "")) if isinstance(data, dict) else ""
