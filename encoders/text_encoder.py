"""A text model and its tokenizer: texts to three vectors each (word, sentence, text).

Legend: N texts, S tokens of a forward pass, T dimensions of the text model.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import PreTrainedModel

from encoders import int8_weights, model_bundle, model_files
from encoders.config import EncoderConfig, TextPooling
from encoders.errors import EncoderConfigInvalid, ModelNotSafe, ModelNotSupported
from encoders.interface import Float32, Int64
from encoders.packed_forward import packed_or_none
from encoders.padded_forward import PaddedForward
from encoders.tokens import LEVELS, TokenisedText, weigh_tokens

logger = logging.getLogger(__name__)

Forward = Callable[[Sequence[Int64]], torch.Tensor]

_CPU_BUDGET_TOKENS = 1_024
_GPU_BUDGET_TOKENS = 32_768


@dataclass(frozen=True)
class TextVectors:
    """What one call gave. Rows of failed and empty texts are zero."""

    vectors: Float32
    """[N, 3, T] unit length: word, sentence, text."""
    empty: frozenset[int]
    """Places of texts without a token of their own."""
    failed: dict[int, str]
    """Reason by place."""
    tokens: int


class TextEncoder:
    """One forward pass per batch of tokens; the same bits for a text in any batch and order."""

    def __init__(self, config: EncoderConfig) -> None:
        config = model_bundle.opened(config)
        torch.set_num_threads(config.threads)
        folder = model_files.locate(config.text_model)
        self.device = _device(config)
        self.model = _load(folder, self.device)
        self.tokenizer = _tokenizer(folder, config.max_text_tokens, self.model)
        self.pooling = _pooling(config.text_pooling, folder, self.model)
        self.dimensions = int(self.model.config.hidden_size)
        self.vocabulary = int(self.model.config.vocab_size)
        self._salience: Float32 | None = None
        self._threads = config.threads
        by_device = _CPU_BUDGET_TOKENS if self.device.type == "cpu" else _GPU_BUDGET_TOKENS
        self._budget_tokens = config.token_budget or by_device
        packed = packed_or_none(self.model, self.device, config.precision)
        forward = packed or PaddedForward(self.model, self.device, config.precision)
        self.forward: Forward = forward
        self.backend = forward.backend
        logger.info("text model %s on %s: %s", folder.name, self.device, self.backend)
        self.folder = folder
        self._max_text_tokens, self._precision = config.max_text_tokens, config.precision
        self.content_id = self.content_id_of(folder)

    def content_id_of(self, folder: Path) -> str:
        """Return the content id that the model in ``folder`` has, read as this one is read."""
        return model_files.text_model_id(
            folder,
            max_text_tokens=self._max_text_tokens,
            text_pooling=self.pooling,
            precision=self._precision,
        )

    def cache_namespace(self) -> bytes:
        """Return 32 bytes over everything that changes a bit of a text's three vectors."""
        salience = b"" if self._salience is None else self._salience.tobytes()
        how = f"{self.content_id} {self.backend} {self.device.type} {torch.__version__}"
        return hashlib.sha256(how.encode() + salience).digest()

    @property
    def salience(self) -> Float32 | None:
        """[V] what words weigh; None: all the same."""
        return self._salience

    def use_salience(self, salience: Float32 | None) -> None:
        """Weigh words by [V] salience per token id from now on; None: uniformly."""
        self._salience = salience

    def encode(self, texts: Sequence[str]) -> TextVectors:
        """Return three vectors per text. One bad text never harms the others."""
        vectors = np.zeros((len(texts), LEVELS, self.dimensions), dtype=np.float32)
        tokenised, empty, failed = self.tokenise(texts)
        for batch in self._batches(tokenised):
            self._embed(batch, tokenised, vectors, failed)
        tokens = sum(len(text.ids) for text in tokenised.values())
        return TextVectors(vectors, frozenset(empty), failed, tokens)

    def token_ids(self, text: str) -> list[int]:
        """Return the token ids of ``text``, special ones included, cut as for encoding."""
        ids: list[int] = self.tokenizer.encode(_encodable(text)).ids
        return ids

    def token_vectors(
        self, texts: Sequence[str]
    ) -> Iterator[tuple[int, torch.Tensor, Int64, Int64]]:
        """Yield of each text that has tokens its place, its own tokens' vectors [n, T] as the model
        has them last, their ids, and the numbers of their words."""
        tokenised, _, _ = self.tokenise(texts)
        for batch in self._batches(tokenised):
            with torch.no_grad():
                hidden = self.forward([tokenised[place].ids for place in batch])
            parts = torch.split(hidden, [len(tokenised[place].ids) for place in batch])
            for place, part in zip(batch, parts, strict=True):
                text = tokenised[place]
                own = text.words >= 0
                yield place, part[torch.from_numpy(own)].clone(), text.ids[own], text.words[own]

    def tokenise(
        self, texts: Sequence[str]
    ) -> tuple[dict[int, TokenisedText], set[int], dict[int, str]]:
        """Return by place the texts with tokens; places without any; reasons of the failed."""
        tokenised: dict[int, TokenisedText] = {}
        empty: set[int] = set()
        failed: dict[int, str] = {}
        for place, text in enumerate(texts):
            clean = _encodable(text)
            if not clean.strip():
                empty.add(place)
                continue
            try:
                encoding = self.tokenizer.encode(clean)
                weighed = weigh_tokens(clean, encoding, self._salience, self.pooling)
            except Exception as error:  # noqa: BLE001 - the tokenizer raises bare Exception
                logger.warning("a text of %d characters was not tokenised", len(text))
                failed[place] = f"not tokenised: {error}"
                continue
            if weighed is None:
                empty.add(place)
            else:
                tokenised[place] = weighed
        return tokenised, empty, failed

    def _batches(self, tokenised: dict[int, TokenisedText]) -> Iterator[list[int]]:
        """Places by length, as many as the token budget allows."""
        batch: list[int] = []
        tokens = 0
        for place in sorted(tokenised, key=lambda place: len(tokenised[place].ids)):
            length = len(tokenised[place].ids)
            if batch and tokens + length > self._budget_tokens:
                yield batch
                batch, tokens = [], 0
            batch.append(place)
            tokens += length
        if batch:
            yield batch

    def _embed(
        self,
        places: list[int],
        tokenised: dict[int, TokenisedText],
        vectors: Float32,
        failed: dict[int, str],
    ) -> None:
        try:
            with torch.inference_mode():
                hidden = self.forward([tokenised[place].ids for place in places])
                pooled = pool_tokens(hidden, [tokenised[place] for place in places])
                result = pooled.cpu().numpy()
        except (RuntimeError, IndexError, ValueError) as error:
            if len(places) == 1:
                failed[places[0]] = f"text model: {str(error).splitlines()[0]}"
                return
            logger.warning("a batch of %d texts failed and is halved: %s", len(places), error)
            half = len(places) // 2
            self._embed(places[:half], tokenised, vectors, failed)
            self._embed(places[half:], tokenised, vectors, failed)
            return
        finite = np.isfinite(result).all(axis=(1, 2))
        for place, vector, is_finite in zip(places, result, finite, strict=True):
            if is_finite:
                vectors[place] = vector
            else:
                failed[place] = "text model: its vector is not finite"


def _encodable(text: str) -> str:
    """Lone surrogates can come out of JSON but not go into a tokenizer."""
    return text.encode("utf-8", "replace").decode()


def pool_tokens(hidden: torch.Tensor, texts: Sequence[TokenisedText]) -> torch.Tensor:
    """Return [N, 3, T] of unit length from the tokens' [S, T] and the texts' weights.

    embedding_bag adds one bag after the other, token by token, so a text's sums do not depend
    on its neighbours; a batched product may choose its kernel by the batch.
    """
    lengths = np.array([len(text.ids) for text in texts])
    first = np.repeat(np.cumsum(lengths) - lengths, LEVELS)
    bags = np.repeat(lengths, LEVELS)
    offsets = np.cumsum(bags) - bags
    tokens = np.arange(bags.sum()) - np.repeat(offsets - first, bags)
    weights = np.concatenate([text.weights.reshape(-1) for text in texts])
    index, starts, shares = (
        torch.from_numpy(array).to(hidden.device, non_blocking=True)
        for array in (tokens.astype(np.int32), offsets.astype(np.int32), weights)
    )
    summed = functional.embedding_bag(index, hidden, starts, mode="sum", per_sample_weights=shares)
    return functional.normalize(summed, dim=1).view(len(texts), LEVELS, -1)


def _device(config: EncoderConfig) -> torch.device:
    cuda = torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise EncoderConfigInvalid("device is cuda, but torch finds no usable GPU here")
    chosen = "cuda" if cuda and config.device != "cpu" else "cpu"
    if config.precision == "bf16" and chosen == "cpu":
        raise EncoderConfigInvalid("precision bf16 needs a GPU: use fp32 on a CPU")
    return torch.device(chosen)


def _load(folder: Path, device: torch.device) -> PreTrainedModel:
    config = model_files.read_json(folder / "config.json")
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, missing = _model(folder)
    except (ValueError, OSError, KeyError, RuntimeError, SafetensorError) as error:
        if "auto_map" in config:
            raise ModelNotSafe(f"model folder {folder} wants its own code run") from None
        raise ModelNotSupported(f"{folder}: {str(error).splitlines()[0]}") from None
    # The pooler is not used here; any other weight that is missing would be random.
    missing = sorted(name for name in missing if not name.startswith("pooler."))
    if missing:
        raise ModelNotSupported(
            f"{folder}: the weights lack {missing[0]} and {len(missing)} in all"
        )
    if not hasattr(model.config, "hidden_size") or not hasattr(model.config, "vocab_size"):
        raise ModelNotSupported(f"{folder}: {model.config.model_type} is no text model")
    loaded: PreTrainedModel = model.requires_grad_(False).to(device)
    loaded.train(False)
    return loaded


def _model(folder: Path) -> tuple[Any, Collection[str]]:
    """The model with its weights, and the names of those that the folder lacks."""
    weights = int8_weights.load_or_none(folder)
    if weights is not None:
        config = transformers.AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
        built: Any = transformers.AutoModel.from_config(  # type: ignore[no-untyped-call]
            config, trust_remote_code=False, dtype=torch.float32
        )
        return built, built.load_state_dict(weights, strict=False).missing_keys
    model, report = transformers.AutoModel.from_pretrained(
        folder,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    return model, report["missing_keys"]


def _tokenizer(folder: Path, max_text_tokens: int, model: PreTrainedModel) -> Tokenizer:
    try:
        loaded = transformers.AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
        own = Tokenizer.from_str(loaded.backend_tokenizer.to_str())
    except (ValueError, OSError, AttributeError, KeyError) as error:
        raise ModelNotSupported(
            f"model folder {folder} has no fast tokenizer: {str(error).splitlines()[0]}"
        ) from None
    positions = getattr(model.config, "max_position_embeddings", None) or max_text_tokens
    # RoBERTa-shaped models number positions from behind the padding id.
    if model.config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= int(model.config.pad_token_id) + 1
    own.enable_truncation(min(max_text_tokens, positions))
    own.no_padding()
    return own


def _pooling(wanted: TextPooling, folder: Path, model: PreTrainedModel) -> str:
    if wanted != "auto":
        return wanted
    stated = model_files.read_json(folder / "1_Pooling" / "config.json")
    if stated is not None:
        if stated.get("pooling_mode_cls_token"):
            return "cls"
        return "last" if stated.get("pooling_mode_lasttoken") else "mean"
    architectures = model.config.architectures or [type(model).__name__]
    causal = model.config.model_type in ("gpt2", "gpt_neo", "gpt_neox", "opt", "llama", "mistral")
    causal = causal or any("CausalLM" in name for name in architectures)
    return "last" if causal else "mean"
