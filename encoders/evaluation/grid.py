"""Which granularities, which fusion, with or without context: the cells of the comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

import msgspec

from encoders.config import EncoderConfig, InterestConfig
from encoders.interface import GRANULARITIES, Float32, InterestEncoder

if TYPE_CHECKING:
    import torch

    from encoders.evaluation.explanation import Explainer
    from encoders.interest_folder import InterestBundle

_TEXTS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Cell:
    """One configuration that is tried."""

    granularities: str
    """``word``, ``without word``, ..., ``all``."""
    config: InterestConfig
    model: str = ""
    """Folder of the model that is asked; empty: the one under evaluation."""

    @property
    def fusion(self) -> str:
        """How they become one."""
        return self.config.fusion

    @property
    def context(self) -> bool:
        """Whether the context takes part."""
        return self.config.context

    @classmethod
    def of(cls, config: InterestConfig, model: str = "") -> Cell:
        """Return the cell of a configuration, named after what takes part."""
        active = config.active
        missing = [name for name in config.granularities if name not in active]
        label = " + ".join(active)
        if len(active) > 1 and len(missing) <= 1:
            label = f"without {missing[0]}" if missing else "all"
        return cls(label, config, model)


def cells(base: InterestConfig, *, trained: bool, model: str = "") -> Iterator[Cell]:
    """Yield what a model may be asked for: each granularity alone, each left out, and all, with the
    context and without. Other fusions are other models.

    What takes part weighs the same; everything else is as in ``base``. Of a trained model these are
    only those that it was trained for. Before training a context is zero, and all fusions are the
    same.
    """
    if trained and base.every_subset is not True:
        yield Cell.of(base, model)
        return
    among = base.active if trained else base.granularities
    subsets: list[tuple[str, ...]] = [(name,) for name in among]
    subsets += [tuple(other for other in among if other != name) for name in among]
    subsets.append(among)
    contexts = (True, False) if trained and base.context else (False,)
    for names in dict.fromkeys(subset for subset in subsets if subset):
        weights = {name: float(name in names) for name in base.granularities}
        for context in contexts:
            config = msgspec.structs.replace(base, weights=weights, context=context)
            yield Cell.of(config, model)


class Variants(Protocol):
    """Encoders of one model under changed configurations. One is open at a time."""

    config: InterestConfig
    """Of the model as it is."""
    configs: dict[str, InterestConfig]
    """``config``, under an empty name, and those of the models beside it by their folders."""
    text_model: str
    """Folder or hub id of what reads the texts."""

    def cells(self) -> Iterator[Cell]:
        """Yield what is to be compared: the cells of the model, and of those named beside it."""

    def make(self, config: InterestConfig, model: str = "") -> InterestEncoder:
        """Return an encoder of a model, with one of the configurations of its ``cells``;
        ``model`` is the folder of one of the others."""

    def plain(self) -> InterestEncoder:
        """Return one whose item vectors are the texts' own: no centre, nothing trained."""

    def explainer(self, texts: Sequence[str], media: Float32 | None = None) -> Explainer | None:
        """Return what takes the scores of the model as it is apart, over ``texts`` by row, the
        first of which bring ``media`` [N, M]; None where there is nothing to say."""


class StubVariants:
    """The stub knows no tensors: every configuration fits."""

    def __init__(self, config: EncoderConfig) -> None:
        self._encoder_config = config
        self.config = InterestConfig()
        self.configs = {"": self.config}
        self.text_model = "stub"

    def cells(self) -> Iterator[Cell]:
        """See ``Variants``: nothing can be trained of a stub."""
        return cells(self.config, trained=False)

    def make(self, config: InterestConfig, model: str = "") -> InterestEncoder:
        """See ``Variants``."""
        from encoders.stub import StubEncoder

        return StubEncoder(self._encoder_config, config)

    def plain(self) -> InterestEncoder:
        """See ``Variants``."""
        return self.make(self.config)

    def explainer(self, texts: Sequence[str], media: Float32 | None = None) -> Explainer | None:
        """See ``Variants``: a hash has no reasons."""
        return None


class TransformerVariants:
    """One text model, loaded once; its text vectors are computed once and come from the disk
    cache after that. Importing torch waits until this is made."""

    def __init__(
        self, config: EncoderConfig, texts: tuple[str, ...], work: Path, also: Sequence[Path] = ()
    ) -> None:
        """``texts`` are the catalogue's, for the model of a catalogue where
        ``config.interest_model`` is empty; ``work`` is a folder to write to; ``also`` are folders
        of other models."""
        from encoders import interest_folder
        from encoders.text_encoder import TextEncoder

        self._encoder_config = config
        self._work = work
        self._text = TextEncoder(config)
        folder = Path(config.interest_model)
        if not config.interest_model:
            digest = hashlib.sha256(self._text.content_id.encode())
            digest.update("\0".join(texts).encode("utf-8", "surrogatepass"))
            folder = work / f"untrained-{digest.hexdigest()[:16]}"
            if not (folder / interest_folder.CONFIG_FILE).is_file():
                self._init(texts, folder)
        self._folders = {"": folder} | {str(other): other for other in also}
        self._models = {model: self._bundle(each) for model, each in self._folders.items()}
        self.configs = {model: bundle.config for model, bundle in self._models.items()}
        self.config = self.configs[""]
        self.text_model = config.text_model or "minilm"

    def _init(self, texts: tuple[str, ...], folder: Path) -> None:
        """Make the untrained model, file by file as a whole: another evaluation may be reading."""
        from encoders import interest_folder, interest_init

        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._work) as draft:
            interest_init.init(texts, self._text, Path(draft))
            for name in (interest_folder.TENSORS_FILE, interest_folder.CONFIG_FILE):
                Path(draft, name).replace(folder / name)

    def _bundle(self, folder: Path) -> InterestBundle:
        from encoders import interest_folder

        return interest_folder.load(
            folder,
            text_dimensions=self._text.dimensions,
            vocabulary=self._text.vocabulary,
            text_id=self._text.content_id,
        )

    def cells(self) -> Iterator[Cell]:
        """See ``Variants``."""
        for model, bundle in self._models.items():
            trained = "tower.gain" in bundle.tensors
            yield from cells(bundle.config, trained=trained, model=model)

    def make(self, config: InterestConfig, model: str = "") -> InterestEncoder:
        """See ``Variants``."""
        from encoders.interest_model import joint_of

        of = self._models[model]
        if config == of.config:  # the very files, for their bytes are part of the model_id
            return self._opened(self._folders[model])
        tensors = dict(of.tensors)
        if "concat.F" in tensors:
            tensors["concat.F"] = joint_of(tensors["concat.F"], of.config.active, config.active)
        return self._made(config, tensors)

    def plain(self) -> InterestEncoder:
        """See ``Variants``. The salience stays: another one would be other cached vectors."""
        document = {name: float(name == "document") for name in GRANULARITIES}
        config = InterestConfig(dimensions=self._text.dimensions, weights=document)
        tensors = self._models[""].tensors
        return self._made(config, {k: v for k, v in tensors.items() if k == "salience"})

    def explainer(self, texts: Sequence[str], media: Float32 | None = None) -> Explainer | None:
        """See ``Variants``."""
        from encoders.evaluation.explanation import Explainer
        from encoders.text_store import TextStore

        tensors = self._models[""].tensors
        salience = tensors.get("salience")
        self._text.use_salience(None if salience is None else salience.float().numpy())
        store = TextStore(self._encoder_config, self._text)
        try:
            for start in range(0, len(texts), _TEXTS_AT_ONCE):
                store.put(list(enumerate(texts[start : start + _TEXTS_AT_ONCE], start)))
            levels = store.vectors[: len(texts)].cpu().numpy().copy()
        finally:
            store.close()
        return Explainer(self.config, tensors, self._text, levels, texts, media)

    def _made(self, config: InterestConfig, tensors: dict[str, torch.Tensor]) -> InterestEncoder:
        from encoders import interest_folder

        self._work.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._work) as folder:
            interest_folder.save(Path(folder), config, tensors)
            return self._opened(Path(folder))

    def _opened(self, folder: Path) -> InterestEncoder:
        from encoders.transformer import TransformerEncoder

        return TransformerEncoder(
            replace(self._encoder_config, interest_model=str(folder)), text_encoder=self._text
        )
