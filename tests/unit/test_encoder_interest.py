"""The interest model against its formulas, trained weights included, and its folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import encoders
from encoders import GRANULARITIES, EncoderConfig, InterestConfig, InterestModelInvalid
from encoders.context_features import FEATURES, context_features
from encoders.event_weights import EventWeigher
from encoders.interest_folder import save
from encoders.interest_init import init, init_interest_model
from encoders.text_encoder import TextEncoder
from encoders.transformer import TransformerEncoder
from tests.conformance.models import tiny_bert
from tests.conformance.windows import chosen_users, one_window, some_texts, some_windows

T, D, HIDDEN, ROWS = 32, 24, 16, 40
EVEN = dict.fromkeys(GRANULARITIES, 1.0)
FUSIONS = ["add", "weighted_mean", "attention", "concat"]


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    folder = tiny_bert(tmp_path_factory.mktemp("models") / "bert")
    return TextEncoder(EncoderConfig(text_model=str(folder)))


def trained_tensors(active: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    tensors = {"centre": random(3, T), "attention.q": random(D)}
    tensors["concat.F"] = random(D, (active + 1) * D)
    for name in (*GRANULARITIES, "context"):
        width = T if name != "context" else len(FEATURES)
        tensors[f"{name}.U"] = random(HIDDEN, width)
        tensors[f"{name}.W"] = random(D, HIDDEN)
        tensors[f"{name}.V"] = random(D, width)
        tensors[f"{name}.b"] = random(HIDDEN)
        tensors[f"{name}.{'c' if name != 'context' else 'd'}"] = random(D)
    return tensors


def serve(
    text_encoder: TextEncoder,
    folder: Path,
    config: InterestConfig,
    tensors: dict[str, torch.Tensor],
) -> TransformerEncoder:
    save(folder, config, tensors)
    settings = EncoderConfig(interest_model=str(folder), slab_rows=64)
    encoder = TransformerEncoder(settings, text_encoder=text_encoder)
    encoder.put_texts(list(enumerate(some_texts(ROWS))))
    return encoder


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def perceptron(t: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    shift = t[f"{name}.d" if name == "context" else f"{name}.c"]
    bent = t[f"{name}.W"] @ np.tanh(t[f"{name}.U"] @ x + t[f"{name}.b"])
    return bent + t[f"{name}.V"] @ x + shift


def by_formula(
    levels: np.ndarray,
    batch: encoders.WindowBatch,
    user: int,
    rules: InterestConfig,
    tensors: dict[str, torch.Tensor],
) -> np.ndarray:
    """The vector of one user in float64, from the definitions."""
    t = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    one = chosen_users(batch, [user])
    events = EventWeigher(rules).weigh(one, np.ones(ROWS, dtype=bool), with_session=True)
    assert events.session is not None
    projected, weights = [], []
    for name in GRANULARITIES:
        level = {"word": 0, "sentence": 1}.get(name, 2)
        share = events.session if name == "paragraph" else events.window
        x = (share[:, None].astype(float) * levels[events.rows, level]).sum(0) - t["centre"][level]
        if rules.weights.get(name):
            projected.append(perceptron(t, name, x))
            weights.append(rules.weights[name])
    context = np.zeros(D)
    if rules.context:
        context = perceptron(t, "context", context_features(events.batch, rules.session_gap_ms)[0])
    if rules.fusion == "concat":
        return unit(t["concat.F"] @ np.concatenate([*projected, context]))
    share = np.array(weights)
    if rules.fusion == "attention":
        scores = np.array([p @ (t["attention.q"] + context) / D**0.5 for p in projected])
        share = share * np.exp(scores)
    if rules.fusion != "add":
        share = share / share.sum()
    return unit((share[:, None] * np.array(projected)).sum(0) + context)


@pytest.mark.parametrize("context", [True, False])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_trained_vectors_are_those_of_the_formula(
    text_encoder: TextEncoder, tmp_path: Path, fusion: str, context: bool
) -> None:
    weights = {"word": 1.0, "paragraph": 2.0, "document": 0.5}
    rules = InterestConfig(dimensions=D, weights=weights, fusion=fusion, context=context)
    tensors = trained_tensors(active=3)
    encoder = serve(text_encoder, tmp_path, rules, tensors)
    levels = text_encoder.encode(some_texts(ROWS)).vectors.astype(float)
    batch = some_windows(30, ROWS, seed=2)
    ours = encoder.encode(batch).vectors
    assert ours.shape == (30, D)
    for user in range(30):
        here = batch.rows[batch.offsets[user] : batch.offsets[user + 1]]
        if (here >= 0).any():
            expected = by_formula(levels, batch, user, rules, tensors)
            assert np.allclose(ours[user], expected, atol=1e-5)
        else:
            assert not ours[user].any()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_trained_vectors_have_the_same_bits_in_any_batch(
    text_encoder: TextEncoder, tmp_path: Path, fusion: str
) -> None:
    rules = InterestConfig(dimensions=D, weights=EVEN, fusion=fusion)
    encoder = serve(text_encoder, tmp_path, rules, trained_tensors(active=4))
    batch = some_windows(150, ROWS)
    whole = encoder.encode(batch, with_granularities=True)
    assert whole.granularities is not None
    for size in (1, 13, 100):
        for start in range(0, 150, size):
            users = list(range(start, min(start + size, 150)))
            part = encoder.encode(chosen_users(batch, users), with_granularities=True)
            assert np.array_equal(part.vectors, whole.vectors[users])
            assert np.array_equal(part.granularities, whole.granularities[users])
    items = encoder.item_vectors(np.arange(ROWS, dtype=np.int32))
    for row in range(ROWS):
        assert np.array_equal(encoder.item_vectors(np.array([row], np.int32))[0], items[row])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_written_out_untrained_weights_change_nothing(
    text_encoder: TextEncoder, tmp_path: Path, fusion: str
) -> None:
    rules = InterestConfig(weights=EVEN, fusion=fusion)
    centre = {"centre": trained_tensors(4)["centre"]}
    zeros = dict(centre)
    for name in GRANULARITIES:
        zeros |= {f"{name}.V": torch.eye(T), f"{name}.W": torch.zeros(T, HIDDEN)}
        zeros |= {f"{name}.U": torch.ones(HIDDEN, T), f"{name}.c": torch.zeros(T)}
    zeros |= {"context.V": torch.zeros(T, len(FEATURES)), "attention.q": torch.zeros(T)}
    batch = some_windows(30, ROWS)
    short = serve(text_encoder, tmp_path / "a", rules, centre).encode(batch).vectors
    long = serve(text_encoder, tmp_path / "b", rules, zeros).encode(batch).vectors
    assert np.array_equal(short, long)


def test_untrained_it_is_the_centred_decayed_mean(
    text_encoder: TextEncoder, tmp_path: Path
) -> None:
    centre = trained_tensors(1)["centre"]
    encoder = serve(
        text_encoder, tmp_path, InterestConfig(rank_half_life_events=2.0), {"centre": centre}
    )
    levels = text_encoder.encode(some_texts(ROWS)).vectors[:, 2].astype(float)
    weights = np.array([0.25, 0.5**0.5 / 2, 0.5, 0.5**0.5, 1.0])
    mean = (weights[:, None] * levels[[7, 3, 9, 3, 1]]).sum(0) / weights.sum()
    expected = unit(mean - centre[2].numpy())
    assert np.allclose(encoder.encode(one_window([7, 3, 9, 3, 1])).vectors[0], expected, atol=1e-6)


def test_a_user_at_the_centre_has_no_direction(text_encoder: TextEncoder, tmp_path: Path) -> None:
    texts = text_encoder.encode(some_texts(ROWS)).vectors
    encoder = serve(
        text_encoder, tmp_path, InterestConfig(), {"centre": torch.from_numpy(texts[4])}
    )
    assert not encoder.encode(one_window([4, 4, 4])).vectors.any()
    assert not encoder.item_vectors(np.array([4], np.int32)).any()


@pytest.mark.parametrize("trained", [True, False])
def test_silent_and_unknown_rows_stay_zero_beside_a_centre(
    text_encoder: TextEncoder, tmp_path: Path, trained: bool
) -> None:
    tensors = trained_tensors(active=1)
    if not trained:
        tensors = {"centre": tensors["centre"]}
    rules = InterestConfig(dimensions=D if trained else T)
    encoder = serve(text_encoder, tmp_path, rules, tensors)
    encoder.put_texts([(50, " ")])
    silent, unknown = 50, 60
    assert not encoder.item_vectors(np.array([silent, unknown, -1], np.int32)).any()
    interests = encoder.encode(one_window([silent, unknown]), with_granularities=True)
    assert not interests.vectors.any()
    assert interests.granularities is not None
    assert not interests.granularities.any()


def test_a_catalogue_gives_the_same_bytes_in_any_order(
    text_encoder: TextEncoder, tmp_path: Path
) -> None:
    texts = [*some_texts(30), "", "  "]
    seen: list[tuple[int, int]] = []
    init(texts, text_encoder, tmp_path / "a", lambda done, total: seen.append((done, total)))
    init(texts[::-1], text_encoder, tmp_path / "b")
    assert seen == [(30, 30)]
    for name in ("interest.json", "interest.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    tensors = load_file(tmp_path / "a" / "interest.safetensors")
    mean = text_encoder.encode(texts).vectors[:30].mean(0)
    assert np.allclose(tensors["centre"], mean, atol=1e-6)
    (in_all, *_) = text_encoder.token_ids("a")  # [CLS]
    assert tensors["salience"][in_all] == 1.0
    assert tensors["salience"].max() == pytest.approx(1 + np.log(31))


def test_a_catalogue_from_lines(text_encoder: TextEncoder, tmp_path: Path) -> None:
    folder = str(tiny_bert(tmp_path / "model"))
    lines = [
        '{"item_id": "a", "text": "an old title"}',
        "",
        '{"item_id": "a", "text": "quick fox", "price": 3}',
        b'{"item_id": "b", "text": "lazy dog"}',
    ]
    made = init_interest_model(lines, EncoderConfig(text_model=folder), tmp_path / "out")
    init(["lazy dog", "quick fox"], text_encoder, tmp_path / "same")
    assert made.dimensions == T
    assert (tmp_path / "out" / "interest.safetensors").read_bytes() == (
        tmp_path / "same" / "interest.safetensors"
    ).read_bytes()
    encoder = encoders.build(EncoderConfig(text_model=folder, interest_model=str(tmp_path / "out")))
    plain = encoders.build(EncoderConfig(text_model=folder))
    assert encoder.info.model_id != plain.info.model_id


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"item_id": "a"}'], "items line 1: .*`text`"),
        (['{"item_id": "a", "text": "x"}', "no json"], "items line 2: "),
        ([], "the catalogue has no item with text"),
        (['{"item_id": "a", "text": " "}'], "the catalogue has no item with text"),
    ],
)
def test_a_catalogue_that_will_not_do(
    text_encoder: TextEncoder, tmp_path: Path, lines: list[str], said: str
) -> None:
    folder = str(tiny_bert(tmp_path / "model"))
    with pytest.raises(InterestModelInvalid, match=said):
        init_interest_model(lines, EncoderConfig(text_model=folder), tmp_path / "out")


def folder_of(text_encoder: TextEncoder, folder: Path) -> Path:
    init(some_texts(5), text_encoder, folder)
    return folder


def rewrite(folder: Path, **changed: object) -> None:
    config = json.loads((folder / "interest.json").read_text())
    (folder / "interest.json").write_text(json.dumps(config | changed))


def retensor(folder: Path, name: str, tensor: torch.Tensor) -> None:
    path = folder / "interest.safetensors"
    save_file(load_file(path) | {name: tensor}, path)


BROKEN = {
    "has no interest.json": lambda f: (f / "interest.json").unlink(),
    "has no interest.safetensors": lambda f: (f / "interest.safetensors").unlink(),
    "has schema_version 2, this version reads 1": lambda f: rewrite(f, schema_version=2),
    "Invalid enum value 'relu'": lambda f: rewrite(f, tower_activation="relu"),
    "unknown field `colour`": lambda f: rewrite(f, colour="red"),
    "JSON is malformed": lambda f: (f / "interest.json").write_text("{]"),
    "is not safetensors": lambda f: (f / "interest.safetensors").write_bytes(b"PK pickle"),
    "was made for text model feed, .* set INTEREST_TEXT_MODEL to": lambda f: rewrite(
        f, text_model_id="feed"
    ),
    "dimensions are 24, the text model has 32": lambda f: rewrite(f, dimensions=D),
    r"centre has shape \(3, 5\), expected \(3, 32\)": lambda f: retensor(
        f, "centre", torch.zeros(3, 5)
    ),
    "'word.Q' is none this version knows": lambda f: retensor(f, "word.Q", torch.zeros(1)),
    "centre holds values that are not finite": lambda f: retensor(
        f, "centre", torch.full((3, T), float("nan"))
    ),
    "W and U must both be there": lambda f: retensor(f, "word.W", torch.zeros(T, T)),
}


@pytest.mark.parametrize("said", list(BROKEN))
def test_a_folder_that_will_not_do(text_encoder: TextEncoder, tmp_path: Path, said: str) -> None:
    folder = folder_of(text_encoder, tmp_path)
    BROKEN[said](folder)
    with pytest.raises(InterestModelInvalid, match=said) as caught:
        TransformerEncoder(EncoderConfig(interest_model=str(folder)), text_encoder=text_encoder)
    assert "\n" not in str(caught.value)


def test_the_model_id_covers_what_changes_a_vector(tmp_path: Path) -> None:
    def model_id(folder: Path, **changed: object) -> str:
        config = EncoderConfig(text_model=str(folder), **changed)  # type: ignore[arg-type]
        return encoders.build(config).info.model_id

    bert, other = tiny_bert(tmp_path / "a"), tiny_bert(tmp_path / "b", seed=1)
    same = tiny_bert(tmp_path / "c")
    assert model_id(bert) == model_id(same) == model_id(bert, threads=2, token_budget=64)
    made = {
        model_id(bert),
        model_id(other),
        model_id(bert, max_text_tokens=16),
        model_id(bert, text_pooling="cls"),
    }
    assert len(made) == 4
