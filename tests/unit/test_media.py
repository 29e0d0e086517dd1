"""What items bring beside their text: it must teach, be served, be explained, and never harm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from encoders import EncoderConfig, InterestModelInvalid, TrainingDataInvalid
from encoders.evaluation.grid import TransformerVariants
from encoders.evaluation.interactions import Interactions, in_time_order
from encoders.evaluation.interest import InterestScorer, held, put_texts, window_batch
from encoders.evaluation.ranking import ask
from encoders.evaluation.splits import leave_last_out
from encoders.shipping import comparison
from encoders.shipping.export import ExportPlan, export
from encoders.text_encoder import TextEncoder
from encoders.training.run import TrainingData, train
from encoders.training.settings import TrainingSettings
from encoders.transformer import TransformerEncoder
from state.window import WindowPolicy
from stream_app.errors import FixData
from stream_app.item_record import MAX_MEDIA_NUMBERS, Item
from stream_app.settings import load
from stream_app.training_data import Wanted, file_data
from tests.conformance.models import tiny_bert
from tests.harness.clusters import clustered, images, world, write_files

SETTINGS = TrainingSettings(
    dimensions=32, tower_hidden=32, epochs=6, batch_windows=32, learning_rate=5e-3,
    warm_up_steps=5, dropout=0.1, patience=0,
)  # fmt: skip
BOTH = ("document", "media")


class Quiet:
    """A journal that tells nobody."""

    def bar(self, what: str) -> object:
        return lambda done, total: None

    def step(self, number: int, loss: float, rate: float) -> None: ...

    def epoch(self, report: object) -> None: ...


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def text_encoder(text_model: Path) -> TextEncoder:
    return TextEncoder(EncoderConfig(text_model=str(text_model)))


@pytest.fixture(scope="module")
def nameless() -> Interactions:
    """A world whose texts say nothing of what belongs together: only the images do."""
    data = clustered(with_images=True)
    # One text of many, a word of no cluster and a number, so that no two items are the same.
    texts = tuple(f"item {place * 7919 % 997}" for place in range(len(data.item_ids)))
    return replace(data, texts=texts)


@pytest.fixture(scope="module")
def folder(
    nameless: Interactions, text_encoder: TextEncoder, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("seeing")
    return made(nameless, folder, text_encoder, granularities=BOTH)


def made(data: Interactions, folder: Path, text_encoder: TextEncoder, **changed: object) -> Path:
    settings = msgspec.structs.replace(SETTINGS, **changed)
    train(
        TrainingData(data), settings, EncoderConfig(), folder, Quiet(),  # type: ignore[arg-type]
        text_encoder=text_encoder,
    )  # fmt: skip
    return folder


def opened(folder: Path, text_encoder: TextEncoder, rows: int = 256) -> TransformerEncoder:
    config = EncoderConfig(interest_model=str(folder), slab_rows=rows)
    return TransformerEncoder(config, text_encoder=text_encoder)


def ndcg(folder: Path, data: Interactions, text_encoder: TextEncoder) -> float:
    encoder = opened(folder, text_encoder)
    put_texts(encoder, data)
    questions = leave_last_out(data, "test")
    found = ask(InterestScorer(encoder, data, WindowPolicy()), questions)
    return float(found.values["ndcg@10"].mean())


def test_images_tell_what_texts_do_not(
    nameless: Interactions, folder: Path, text_encoder: TextEncoder, tmp_path: Path
) -> None:
    alike = replace(nameless, texts=("a thing",) * len(nameless.texts))
    blind = made(alike, tmp_path / "blind", text_encoder, granularities=("document",))
    seeing = made(alike, tmp_path / "seeing", text_encoder, granularities=BOTH)
    assert ndcg(blind, alike, text_encoder) == 0.0, "all items score the same, which counts against"
    assert ndcg(seeing, alike, text_encoder) > 0.3
    assert ndcg(folder, nameless, text_encoder) > 1.1 * ndcg(
        folder, replace(nameless, media=None), text_encoder
    )


def test_an_item_without_media_goes_by_its_text_alone(
    nameless: Interactions, folder: Path, text_encoder: TextEncoder
) -> None:
    assert nameless.media is not None
    encoder = opened(folder, text_encoder)
    vector = nameless.media[1]
    text = nameless.texts[1]
    encoder.put_texts([(0, text), (1, text)], {1: vector})
    without, with_media = encoder.item_vectors(np.array([0, 1], np.int32))
    assert not np.allclose(without, with_media, atol=1e-2)
    encoder.put_texts([(1, text)])
    assert np.array_equal(encoder.item_vectors(np.array([1], np.int32))[0], without)
    tower = encoder._model.tower
    assert tower is not None
    assert tower.media is not None
    assert not tower.media(torch.zeros(3, nameless.media.shape[1] + 1)).any()


def test_length_does_not_matter_and_company_neither(
    nameless: Interactions, folder: Path, text_encoder: TextEncoder
) -> None:
    assert nameless.media is not None
    together, alone = opened(folder, text_encoder), opened(folder, text_encoder)
    put_texts(together, nameless)
    windows = [np.flatnonzero(nameless.users == user) for user in range(9)]
    of_all = together.encode(window_batch(nameless, windows), with_granularities=True)
    assert of_all.granularities is not None
    assert of_all.granularities.shape == (9, 5, 32)
    for user in range(0, 9, 4):
        rows = np.unique(nameless.rows[windows[user]]).tolist()
        media = nameless.media_of(range(len(nameless.texts)))
        for row in rows:
            scaled = {row: 8 * media[row]} if row in media else {}
            alone.put_texts([(row, nameless.texts[row])], scaled)
        found = alone.encode(window_batch(nameless, [windows[user]]))
        assert np.array_equal(found.vectors[0], of_all.vectors[user])
    at = together.info.granularities.index("media")
    assert np.allclose(np.linalg.norm(of_all.granularities[:, at], axis=1), 1, atol=1e-5)


def test_a_vector_of_another_length_is_refused_and_the_text_counts(
    folder: Path, text_encoder: TextEncoder
) -> None:
    encoder = opened(folder, text_encoder)
    report = encoder.put_texts([(0, "tent"), (1, "boots")], {1: np.ones(3, np.float32)})
    assert report.failed == []
    assert report.media_refused == [(1, "media_vector has 3 numbers, the model takes 10")]
    assert np.allclose(
        np.linalg.norm(encoder.item_vectors(np.arange(2, dtype=np.int32)), axis=1), 1
    )


def test_a_model_without_media_pays_no_heed(
    nameless: Interactions, text_encoder: TextEncoder, tmp_path: Path
) -> None:
    encoder = opened(
        made(nameless, tmp_path, text_encoder, granularities=("document",), epochs=1), text_encoder
    )
    assert encoder.info.media_dimensions == 0
    assert encoder.info.granularities == ("word", "sentence", "paragraph", "document")
    report = encoder.put_texts([(0, "tent"), (1, "tent")], {1: np.ones(3, np.float32)})
    assert report.media_refused == []
    first, second = encoder.item_vectors(np.array([0, 1], np.int32))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("granularities", [("media",), BOTH, ("word", "media")])
def test_the_parts_of_a_score_add_up(
    nameless: Interactions,
    text_model: Path,
    text_encoder: TextEncoder,
    tmp_path: Path,
    granularities: tuple[str, ...],
) -> None:
    trained = made(nameless, tmp_path / "m", text_encoder, granularities=granularities, epochs=2)
    config = EncoderConfig(
        text_model=str(text_model), interest_model=str(trained), slab_rows=len(nameless.texts)
    )
    variants = TransformerVariants(config, nameless.texts, tmp_path / "work")
    explainer = variants.explainer(nameless.texts, nameless.media)
    assert explainer is not None
    encoder = variants.make(variants.config)
    put_texts(encoder, nameless)
    for user, item in enumerate(encoder.item_vectors(np.arange(4, dtype=np.int32))):
        past = held(np.flatnonzero(nameless.users == user), nameless.times_ms, WindowPolicy())
        window = window_batch(nameless, [past])
        found = explainer.explain(window, item)
        assert found.granularities == granularities
        assert found.score == pytest.approx(
            float(encoder.encode(window).vectors[0] @ item), abs=2e-5
        )
        assert abs(found.gap) < 2e-3
        at = granularities.index("media")
        assert np.abs(found.events[at]).max() > 1e-4, "what is seen has its share"


def test_the_comparison_has_media_among_its_cells(
    nameless: Interactions, text_encoder: TextEncoder, text_model: Path, tmp_path: Path
) -> None:
    folder = made(
        nameless, tmp_path / "m", text_encoder, granularities=BOTH, epochs=1, every_subset=True
    )
    config = EncoderConfig(text_model=str(text_model), interest_model=str(folder), slab_rows=256)
    variants = TransformerVariants(config, nameless.texts, tmp_path / "work")
    labels = [cell.granularities for cell in variants.cells() if not cell.context]
    assert labels == ["document", "media", "document + media"]


def test_bundles_are_compared_with_what_their_items_bring(
    nameless: Interactions, folder: Path, text_model: Path, text_encoder: TextEncoder,
    tmp_path: Path,
) -> None:  # fmt: skip
    config = EncoderConfig(text_model=str(text_model), interest_model=str(folder))
    export(ExportPlan(config), [], tmp_path / "bundle")
    request = comparison.Request(nameless, rounds=1)
    (line,) = comparison.compare({"parent": tmp_path / "bundle"}, request)
    asked = in_time_order(nameless)
    assert line.metrics["ndcg@10"] == pytest.approx(ndcg(folder, asked, text_encoder))
    assert line.metrics["ndcg@10"] != pytest.approx(
        ndcg(folder, replace(asked, media=None), text_encoder), rel=1e-2
    )
    shown = comparison._different_items(nameless)
    loaded = comparison._Loaded(tmp_path / "bundle", request, len(nameless.texts))
    _, items = comparison._vectors(loaded, shown)
    encoder = opened(folder, text_encoder)
    put_texts(encoder, nameless)
    rows = np.array([nameless.item_ids.index(item) for item in shown.item_ids], np.int32)
    assert len(rows) == len(nameless.item_ids)
    assert np.array_equal(items, encoder.item_vectors(rows))


def test_items_that_look_different_are_different(nameless: Interactions) -> None:
    assert nameless.media is not None
    alike = replace(nameless, texts=("a thing",) * len(nameless.texts))
    shown = comparison._different_items(alike)
    assert len(shown.texts) == len(np.unique(nameless.media, axis=0)) < len(alike.texts)
    assert comparison._different_items(replace(alike, media=None)).texts == ("a thing",)


def test_training_asks_for_media_only_where_there_are_some(
    text_encoder: TextEncoder, tmp_path: Path
) -> None:
    with pytest.raises(TrainingDataInvalid, match="no item of the catalogue brings a media_vector"):
        made(clustered(users=20), tmp_path, text_encoder, granularities=BOTH)


@pytest.mark.parametrize("missing", ["media.V", "media.centre", "media.whiten", "tower.media.V"])
def test_a_folder_without_one_of_its_tensors_is_refused(
    folder: Path, text_encoder: TextEncoder, tmp_path: Path, missing: str
) -> None:
    tensors = load_file(folder / "interest.safetensors")
    del tensors[missing]
    save_file(tensors, tmp_path / "interest.safetensors")
    (tmp_path / "interest.json").write_bytes((folder / "interest.json").read_bytes())
    with pytest.raises(InterestModelInvalid, match=f"tensor {missing} is missing"):
        opened(tmp_path, text_encoder)


def test_weights_name_media_only_where_the_model_takes_them(
    folder: Path, text_encoder: TextEncoder, tmp_path: Path
) -> None:
    config = json.loads((folder / "interest.json").read_text()) | {"media_dimensions": 0}
    (tmp_path / "interest.json").write_text(json.dumps(config))
    (tmp_path / "interest.safetensors").write_bytes((folder / "interest.safetensors").read_bytes())
    with pytest.raises(InterestModelInvalid, match="weights: 'media' is none of"):
        opened(tmp_path, text_encoder)


BAD: Mapping[str, tuple[object, str]] = {
    "empty": ([], "has 0 numbers"),
    "long": ([1.0] * (MAX_MEDIA_NUMBERS + 1), f"1 to {MAX_MEDIA_NUMBERS} are allowed"),
    "zero": ([0.0, 0.0], "not all zero"),
    "huge": ([1e300, 0.0], "finite"),
    "words": (["red"], "Expected `float`"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_files_bad_vector_is_told_with_its_line(tmp_path: Path, kind: str) -> None:
    found, told = BAD[kind]
    events, items = write_files(tmp_path, *world(users=3))
    line = json.dumps({"item_id": "odd", "text": "odd", "media_vector": found})
    items.write_text(items.read_text() + line + "\n")
    with pytest.raises(FixData, match=f"items.jsonl, line 73: .*{told}"):
        file_data(events, items, load(environ={}), Wanted())


def test_vectors_of_two_lengths_are_refused(tmp_path: Path) -> None:
    events, catalogue = world(users=3)
    media = images(catalogue)
    media["item-0-1"] = np.ones(3, np.float32)
    files = write_files(tmp_path, events, catalogue, media)
    with pytest.raises(FixData, match="media vectors of 3 and of 10 numbers"):
        file_data(*files, load(environ={}), Wanted())


def test_a_vector_is_taken_as_float32() -> None:
    vector = Item("a", "tent", [0.5, 2.0]).media()
    assert vector is not None
    assert vector.dtype == np.float32
    assert vector.tolist() == [0.5, 2.0]
    assert Item("a", "tent").media() is None
