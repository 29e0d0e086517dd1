"""Which granularities, which fusion, with or without context: the cells of the comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, get_args

import msgspec

from encoders.config import EncoderConfig, Fusion, InterestConfig
from encoders.interface import GRANULARITIES, InterestEncoder


@dataclass(frozen=True)
class Cell:
    """One configuration that is tried."""

    granularities: str
    """``word``, ``without word``, ..., ``all``."""
    fusion: str
    context: bool
    config: InterestConfig


def cells(base: InterestConfig) -> Iterator[Cell]:
    """Yield each granularity alone, each left out, and all, times fusions, times context.

    What takes part weighs the same; everything else is as in ``base``.
    """
    active = {name: (name,) for name in GRANULARITIES}
    for name in GRANULARITIES:
        active[f"without {name}"] = tuple(other for other in GRANULARITIES if other != name)
    active["all"] = GRANULARITIES
    for label, names in active.items():
        weights = {name: float(name in names) for name in GRANULARITIES}
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

    def make(self, config: InterestConfig) -> InterestEncoder:
        """Return an encoder with this configuration.

        Raises:
            EncoderError: the model's tensors do not fit it.
        """

    def plain(self) -> InterestEncoder:
        """Return one whose item vectors are the texts' own: no centre, nothing trained."""


class StubVariants:
    """The stub knows no tensors: every configuration fits."""

    def __init__(self, config: EncoderConfig) -> None:
        self._encoder_config = config
        self.config = InterestConfig()

    def make(self, config: InterestConfig) -> InterestEncoder:
        """See ``Variants``."""
        from encoders.stub import StubEncoder

        return StubEncoder(self._encoder_config, config)

    def plain(self) -> InterestEncoder:
        """See ``Variants``."""
        return self.make(self.config)


class TransformerVariants:
    """One text model, loaded once; its text vectors are computed once and come from the disk
    cache after that. Importing torch waits until this is made."""

    def __init__(self, config: EncoderConfig, texts: tuple[str, ...], work: Path) -> None:
        """``texts`` are the catalogue's, for the model of a catalogue where
        ``config.interest_model`` is empty; ``work`` is a folder to write to."""
        from encoders import interest_folder, interest_init
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
                interest_init.init(texts, self._text, folder)
        bundle = interest_folder.load(
            folder,
            text_dimensions=self._text.dimensions,
            vocabulary=self._text.vocabulary,
            text_id=self._text.content_id,
        )
        self.config = bundle.config
        self._tensors = bundle.tensors

    def make(self, config: InterestConfig) -> InterestEncoder:
        """See ``Variants``."""
        return self._made(config, tuple(self._tensors))

    def plain(self) -> InterestEncoder:
        """See ``Variants``. The salience stays: another one would be other cached vectors."""
        document = {name: float(name == "document") for name in GRANULARITIES}
        config = InterestConfig(dimensions=self._text.dimensions, weights=document)
        return self._made(config, ("salience",))

    def _made(self, config: InterestConfig, tensors: tuple[str, ...]) -> InterestEncoder:
        from encoders import interest_folder
        from encoders.transformer import TransformerEncoder

        folder = self._work / "variant"
        kept = {name: self._tensors[name] for name in tensors if name in self._tensors}
        interest_folder.save(folder, config, kept)
        return TransformerEncoder(
            replace(self._encoder_config, interest_model=str(folder)), text_encoder=self._text
        )
