"""Which granularities, which fusion, with or without context: the cells of the comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, get_args

import msgspec

from encoders.config import EncoderConfig, Fusion, InterestConfig
from encoders.errors import EncoderConfigInvalid
from encoders.interface import GRANULARITIES, Float32, InterestEncoder

if TYPE_CHECKING:
    from encoders.evaluation.explanation import Explainer
    from encoders.interest_folder import InterestBundle

_TEXTS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Cell:
    """One configuration that is tried."""

    granularities: str
    """``word``, ``without word``, ..., ``all``."""
    fusion: str
    context: bool
    config: InterestConfig
    trained: str = ""
    """Folder of a model that was trained for this cell; empty: the model under evaluation."""

    @classmethod
    def of(cls, config: InterestConfig, folder: Path) -> Cell:
        """Return the cell that a trained model is of."""
        active = config.active
        missing = [name for name in config.granularities if name not in active]
        label = " + ".join(active)
        if len(missing) <= 1:
            label = f"without {missing[0]}" if missing else "all"
        return cls(label, config.fusion, config.context, config, str(folder))


def cells(base: InterestConfig) -> Iterator[Cell]:
    """Yield each granularity alone, each left out, and all, times fusions, times context.

    What takes part weighs the same; everything else is as in ``base``.
    """
    every = base.granularities
    active: dict[str, tuple[str, ...]] = {name: (name,) for name in every}
    for name in every:
        active[f"without {name}"] = tuple(other for other in every if other != name)
    active["all"] = every
    for label, names in active.items():
        weights = {name: float(name in names) for name in every}
        for fusion in get_args(Fusion):
            for context in (True, False):
                config = msgspec.structs.replace(
                    base, weights=weights, fusion=fusion, context=context
                )
                yield Cell(label, fusion, context, config)


class Variants(Protocol):
    """Encoders of one model under changed configurations. One is open at a time."""

    config: InterestConfig
    """Of the model as it is."""

    def also(self) -> Iterator[Cell]:
        """Yield the other models that are to be compared, each of one cell."""

    def trained(self, folder: str) -> InterestEncoder:
        """Return an encoder of one of the other models as it is."""

    def make(self, config: InterestConfig) -> InterestEncoder:
        """Return an encoder with this configuration.

        Raises:
            EncoderError: the model's tensors do not fit it.
        """

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

    def also(self) -> Iterator[Cell]:
        """See ``Variants``: nothing can be trained of a stub."""
        return iter(())

    def trained(self, folder: str) -> InterestEncoder:
        """See ``Variants``."""
        raise EncoderConfigInvalid(f"the stub encoder takes no interest model: {folder}")

    def make(self, config: InterestConfig) -> InterestEncoder:
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
        from encoders import interest_folder, interest_init
        from encoders.text_encoder import TextEncoder

        self._encoder_config = config
        self._work = work
        self._also = also
        self._text = TextEncoder(config)
        folder = Path(config.interest_model)
        if not config.interest_model:
            digest = hashlib.sha256(self._text.content_id.encode())
            digest.update("\0".join(texts).encode("utf-8", "surrogatepass"))
            folder = work / f"untrained-{digest.hexdigest()[:16]}"
            if not (folder / interest_folder.CONFIG_FILE).is_file():
                interest_init.init(texts, self._text, folder)
        bundle = self._bundle(folder)
        self.config = bundle.config
        self._tensors = bundle.tensors

    def _bundle(self, folder: Path) -> InterestBundle:
        from encoders import interest_folder

        return interest_folder.load(
            folder,
            text_dimensions=self._text.dimensions,
            vocabulary=self._text.vocabulary,
            text_id=self._text.content_id,
        )

    def also(self) -> Iterator[Cell]:
        """See ``Variants``."""
        for folder in self._also:
            yield Cell.of(self._bundle(folder).config, folder)

    def trained(self, folder: str) -> InterestEncoder:
        """See ``Variants``."""
        from encoders.transformer import TransformerEncoder

        config = replace(self._encoder_config, interest_model=folder)
        return TransformerEncoder(config, text_encoder=self._text)

    def make(self, config: InterestConfig) -> InterestEncoder:
        """See ``Variants``."""
        return self._made(config, tuple(self._tensors))

    def plain(self) -> InterestEncoder:
        """See ``Variants``. The salience stays: another one would be other cached vectors."""
        document = {name: float(name == "document") for name in GRANULARITIES}
        config = InterestConfig(dimensions=self._text.dimensions, weights=document)
        return self._made(config, ("salience",))

    def explainer(self, texts: Sequence[str], media: Float32 | None = None) -> Explainer | None:
        """See ``Variants``."""
        from encoders.evaluation.explanation import Explainer
        from encoders.text_store import TextStore

        salience = self._tensors.get("salience")
        self._text.use_salience(None if salience is None else salience.float().numpy())
        store = TextStore(self._encoder_config, self._text)
        try:
            for start in range(0, len(texts), _TEXTS_AT_ONCE):
                store.put(list(enumerate(texts[start : start + _TEXTS_AT_ONCE], start)))
            levels = store.vectors[: len(texts)].cpu().numpy().copy()
        finally:
            store.close()
        return Explainer(self.config, self._tensors, self._text, levels, texts, media)

    def _made(self, config: InterestConfig, tensors: tuple[str, ...]) -> InterestEncoder:
        from encoders import interest_folder
        from encoders.transformer import TransformerEncoder

        folder = self._work / "variant"
        kept = {name: self._tensors[name] for name in tensors if name in self._tensors}
        interest_folder.save(folder, config, kept)
        return TransformerEncoder(
            replace(self._encoder_config, interest_model=str(folder)), text_encoder=self._text
        )
