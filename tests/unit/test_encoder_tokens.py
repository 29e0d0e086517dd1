"""Words and sentences: what each token weighs, and the vectors against the plain padded pass."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from encoders import EncoderConfig
from encoders.linears import MIN_PRODUCT_ROWS
from encoders.padded_forward import PaddedForward, padded_hidden
from encoders.text_encoder import TextEncoder
from encoders.tokens import SENTENCE, TEXT, WORD, sentence_starts, weigh_tokens
from tests.conformance.models import tiny_bert, tiny_gpt2
from tests.conformance.windows import some_texts

SHAPES = {"bert": tiny_bert, "gpt2": tiny_gpt2}


@pytest.fixture(scope="module", params=["bert", "gpt2", "minilm"])
def text_encoder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> TextEncoder:
    name = request.param
    if name in SHAPES:
        name = str(SHAPES[name](tmp_path_factory.mktemp("models") / name))
    return TextEncoder(EncoderConfig(text_model=name, device="cpu", text_pooling="mean"))


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", [""]),
        ("One", ["One"]),
        ("One. Two! Three? Four…", ["One. ", "Two! ", "Three? ", "Four…"]),
        ('He said "No." Then he left.', ['He said "No." ', "Then he left."]),
        ("It costs e.g. five or 5.5 dollars.", ["It costs e.g. five or 5.5 dollars."]),
        ("映画。とても良い！", ["映画。", "とても良い！"]),
        ("a title\nand a line\n\n", ["a title\n", "and a line\n\n"]),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    starts = [*sentence_starts(text), len(text)]
    found = [text[start:end] for start, end in itertools.pairwise(starts)]
    assert found == sentences


def plain_levels(hidden: np.ndarray, text: str, encoder: TextEncoder) -> np.ndarray:
    """[3, T] by loops over words and sentences, from the definition."""
    encoding = encoder.tokenizer.encode(text)
    own = [t for t, special in enumerate(encoding.special_tokens_mask) if not special]
    words: dict[int, list[int]] = {}
    sentences: dict[int, list[int]] = {}
    starts = sentence_starts(text)
    for token in own:
        words.setdefault(encoding.word_ids[token], []).append(token)
        at = max(s for s in range(len(starts)) if starts[s] <= encoding.offsets[token][0])
        sentences.setdefault(at, []).append(token)
    means = [
        np.mean([hidden[tokens].mean(0) for tokens in words.values()], axis=0),
        np.mean([hidden[tokens].mean(0) for tokens in sentences.values()], axis=0),
        hidden.mean(0),
    ]
    return np.stack([mean / np.linalg.norm(mean) for mean in means])


def test_vectors_are_those_of_the_plain_padded_pass(text_encoder: TextEncoder) -> None:
    texts = some_texts(24)
    ids = [np.array(text_encoder.token_ids(text)) for text in texts]
    hidden = padded_hidden(text_encoder.model, ids, pad_id=0)
    expected = [
        plain_levels(states.double().numpy(), text, text_encoder)
        for states, text in zip(hidden, texts, strict=True)
    ]
    ours = text_encoder.encode(texts).vectors
    assert np.abs(ours - np.stack(expected)).max() < 1e-5


def test_both_passes_agree(text_encoder: TextEncoder) -> None:
    ids = sorted((np.array(text_encoder.token_ids(t)) for t in some_texts(24)), key=len)
    own_length = PaddedForward(text_encoder.model, torch.device("cpu"), "fp32")
    with torch.inference_mode():
        assert torch.allclose(text_encoder.forward(ids), own_length(ids), atol=1e-4)


def test_the_own_length_pass_is_repeatable_too(text_encoder: TextEncoder) -> None:
    # One-token texts among them: alone, their products would have one to three rows.
    texts = [*"abcdefghijklmnopqrst", *some_texts(15)]
    ids = sorted((np.array(text_encoder.token_ids(text)) for text in texts), key=len)
    own_length = PaddedForward(text_encoder.model, torch.device("cpu"), "fp32")
    with torch.inference_mode():
        whole = own_length(ids).split([len(text) for text in ids])
        for text, states in zip(ids, whole, strict=True):
            assert torch.equal(own_length([text]), states)


def test_fewer_tokens_than_a_product_wants(text_encoder: TextEncoder) -> None:
    alone = text_encoder.encode(["a"])
    assert alone.tokens < MIN_PRODUCT_ROWS
    among = text_encoder.encode([*some_texts(9), "a"])
    assert np.array_equal(alone.vectors[0], among.vectors[9])


def test_bert_shapes_are_packed_and_others_are_not(tmp_path: Path) -> None:
    bert = TextEncoder(EncoderConfig(text_model=str(tiny_bert(tmp_path / "bert"))))
    gpt2 = TextEncoder(EncoderConfig(text_model=str(tiny_gpt2(tmp_path / "gpt2"))))
    assert (bert.backend.split("-")[0], bert.pooling) == ("packed", "mean")
    assert (gpt2.backend, gpt2.pooling) == ("own-length-fp32", "last")


def test_the_last_token_of_a_causal_model_is_its_text(tmp_path: Path) -> None:
    encoder = TextEncoder(EncoderConfig(text_model=str(tiny_gpt2(tmp_path / "gpt2"))))
    text = "The quick brown fox."
    (states,) = padded_hidden(encoder.model, [np.array(encoder.token_ids(text))], pad_id=0)
    expected = states[-1] / states[-1].norm()
    assert np.allclose(encoder.encode([text]).vectors[0, TEXT], expected, atol=1e-5)


def test_salient_words_weigh_more() -> None:
    encoder = TextEncoder(EncoderConfig())
    encoding = encoder.tokenizer.encode("heat unbelievable")
    salience = np.ones(encoder.vocabulary, dtype=np.float32)
    salience[encoding.ids[1]] = 3.0
    weighed = weigh_tokens("heat unbelievable", encoding, salience, "mean")
    assert weighed is not None
    assert weighed.weights[WORD].sum() == pytest.approx(1.0)
    assert weighed.weights[WORD, 1] == pytest.approx(3 / 4)
    assert weighed.weights[SENTENCE, 1] == pytest.approx(1 / (len(encoding.ids) - 2))
    assert weighed.weights[TEXT] == pytest.approx(1 / len(encoding.ids))
