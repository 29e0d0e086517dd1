"""Smaller text models: what is cropped, how far int8 weights move, what a student learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import encoders
from encoders import BundleInvalid, EncoderConfig, EncoderConfigInvalid, InterestModelInvalid
from encoders import int8_weights as int8
from encoders.model_bundle import Manifest, check
from encoders.shipping.cropping import crop, kept_layers, layers_of
from encoders.shipping.distillation import DistillationPlan, lessons
from encoders.shipping.export import ExportPlan, catalogue_fingerprint, export
from encoders.text_encoder import TextEncoder
from tests.conformance.models import tiny_bert, tiny_gpt2
from tests.harness.bundles import catalogue, source

TEXTS = catalogue()
SHAPES: dict[str, Callable[[Path], Path]] = {"bert": tiny_bert, "gpt2": tiny_gpt2}


@pytest.fixture(scope="module", params=SHAPES)
def models(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> EncoderConfig:
    folder = tmp_path_factory.mktemp(request.param)
    return source(folder / "interest", SHAPES[request.param](folder / "text"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> EncoderConfig:
    folder = tmp_path_factory.mktemp("bert-alone")
    return source(folder / "interest", tiny_bert(folder / "text"))


def text_vectors(config: EncoderConfig) -> np.ndarray:
    return TextEncoder(config).encode(TEXTS).vectors


def of_bundle(folder: Path) -> EncoderConfig:
    return EncoderConfig(
        text_model=str(folder / "text"), text_pooling=check(folder).text_pooling, device="cpu"
    )


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(axis=-1)


def test_a_cropped_model_computes_what_the_parent_has_after_that_layer(
    models: EncoderConfig, tmp_path: Path
) -> None:
    manifest = export(ExportPlan(models, layers="1"), TEXTS, tmp_path / "out")
    assert (manifest.origin.text_layers, manifest.origin.parent_text_layers) == ((0,), 2)
    assert manifest.origin.catalogue_fingerprint == catalogue_fingerprint(TEXTS[::-1])
    parent, cropped = TextEncoder(models), TextEncoder(of_bundle(tmp_path / "out"))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        states = parent.model(input_ids=ids, output_hidden_states=True).hidden_states[1]
        norm = getattr(parent.model, "ln_f", torch.nn.Identity())
        ours = cropped.model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(ours, norm(states))


def test_a_cropped_bundle_is_centred_anew_and_served(models: EncoderConfig, tmp_path: Path) -> None:
    manifest = export(ExportPlan(models, layers="1"), TEXTS, tmp_path / "out")
    encoder = encoders.build(EncoderConfig(model=str(tmp_path / "out"), device="cpu", slab_rows=99))
    assert encoder.info.model_id == manifest.model_id != manifest.origin.parent_model_id
    centres = [
        load_file(Path(folder) / "interest.safetensors")["centre"].numpy()
        for folder in (models.interest_model, tmp_path / "out")
    ]
    text = TextEncoder(of_bundle(tmp_path / "out"))
    salience = load_file(tmp_path / "out" / "interest.safetensors")["salience"]
    text.use_salience(salience.numpy())
    wanted = text.encode(TEXTS).vectors.mean(axis=0)
    np.testing.assert_allclose(centres[1], wanted, atol=1e-6)
    assert np.abs(centres[0] - wanted).max() > 1e-3, "or the parent's would have done"


@pytest.mark.parametrize(
    ("wanted", "total", "kept"),
    [("2", 6, (0, 1)), ("6", 6, (0, 1, 2, 3, 4, 5)), ("every:2", 6, (1, 3, 5)),
     ("every:2", 5, (0, 2, 4)), ("every:4", 6, (1, 5)), ("every:6", 6, (5,))],
)  # fmt: skip
def test_kept_layers(wanted: str, total: int, kept: tuple[int, ...]) -> None:
    assert kept_layers(wanted, total) == kept


@pytest.mark.parametrize("wanted", ["0", "7", "-1", "every:0", "every:7", "every:", "half", "1.5"])
def test_layers_that_are_not_there_are_refused(wanted: str) -> None:
    with pytest.raises(EncoderConfigInvalid, match="a number from 1 to 6"):
        kept_layers(wanted, 6)


def test_cropping_keeps_the_very_layers(models: EncoderConfig) -> None:
    model = TextEncoder(models).model
    second = layers_of(model)[1]
    crop(model, (1,))
    assert list(layers_of(model)) == [second]
    assert model.config.num_hidden_layers == 1


@pytest.mark.parametrize("channel", [0, 1])
def test_no_weight_moves_by_more_than_half_a_step_of_its_channel(channel: int) -> None:
    weight = torch.randn(40, 30, generator=torch.Generator().manual_seed(1))
    weight[3] *= 100.0
    weight[:, 4] *= 1e-3
    weight.select(channel, 5).zero_()
    steps, scale = int8.quantise(weight, channel)
    assert steps.dtype == torch.int8
    assert scale.shape == ((40, 1) if channel == 0 else (1, 30))
    assert (steps.float() * scale - weight).abs().le(scale / 2 * 1.0001).all()
    assert not steps.select(channel, 5).any()
    peaks = steps.abs().amax(dim=1 - channel)
    assert sorted(set(peaks.tolist())) == [0, 127], "each channel uses the whole range"


def test_int8_is_a_quarter_of_the_size_and_nearly_the_same(
    models: EncoderConfig, tmp_path: Path
) -> None:
    manifest = export(ExportPlan(models, int8=True), TEXTS, tmp_path / "out")
    assert manifest.weights == "int8"
    stored = int8.load_or_none(tmp_path / "out" / "text")
    assert stored is not None
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    weights = {name: p for name, p in TextEncoder(models).model.named_parameters() if p.ndim == 2}
    kept = sum(p.numel() for name, p in weights.items() if not name.startswith("pooler."))
    size = (tmp_path / "out" / "text" / int8.INT8_FILE).stat().st_size
    # A scale of four bytes per channel of 32 or 64 weights, one-dimensional weights, names.
    assert kept < size < 1.6 * kept
    agreement = cosines(text_vectors(models), text_vectors(of_bundle(tmp_path / "out")))
    assert 0.999 < agreement.min() < 1.0 - 1e-7


def test_a_bundle_can_be_made_smaller_again(models: EncoderConfig, tmp_path: Path) -> None:
    first = export(ExportPlan(models, int8=True), TEXTS, tmp_path / "one")
    again = EncoderConfig(model=str(tmp_path / "one"), device="cpu")
    second = export(ExportPlan(again, vectors="float16"), [], tmp_path / "two")
    assert second.origin.parent_model_id == first.model_id != second.model_id
    assert (second.weights, second.vectors) == ("int8", "float16")
    third = export(ExportPlan(again, layers="every:2", int8=True), TEXTS, tmp_path / "three")
    assert third.origin.text_layers == (1,)


def plan_of_student(models: EncoderConfig, **changed: object) -> ExportPlan:
    taught = DistillationPlan(epochs=6, batch_texts=8, learning_rate=3e-3)
    plan = ExportPlan(models, layers="1", distil_from=models.text_model, distillation=taught)
    return replace(plan, **changed)  # type: ignore[arg-type]


def test_a_student_comes_nearer_to_its_teacher(models: EncoderConfig, tmp_path: Path) -> None:
    export(ExportPlan(models, layers="1"), TEXTS, tmp_path / "cropped")
    shown: list[tuple[int, int]] = []

    class Bar:
        def __enter__(self) -> Callable[[int, int], None]:
            return lambda done, total: shown.append((done, total))

        def __exit__(self, *_: object) -> None: ...

    manifest = export(plan_of_student(models), TEXTS, tmp_path / "taught", lambda _: Bar())  # type: ignore[arg-type,return-value]
    teacher = text_vectors(models)
    before = cosines(teacher, text_vectors(of_bundle(tmp_path / "cropped"))).mean()
    after = cosines(teacher, text_vectors(of_bundle(tmp_path / "taught"))).mean()
    assert 1.0 - after < 0.5 * (1.0 - before)
    said = manifest.origin.distillation
    assert said is not None
    assert said.teacher_text_id == TextEncoder(models).content_id
    assert said.cosine == pytest.approx(after, abs=0.05)
    assert (60, 60) in shown, "6 epochs of 10 batches: 76 texts taught, 4 held out"


def test_the_same_seed_teaches_the_same_and_another_does_not(
    bert: EncoderConfig, tmp_path: Path
) -> None:
    def taught(name: str, seed: int) -> Manifest:
        plan = replace(plan_of_student(bert).distillation, seed=seed, epochs=1)
        return export(plan_of_student(bert, distillation=plan), TEXTS, tmp_path / name)

    one, same, other = taught("one", 1), taught("same", 1), taught("other", 2)
    assert one.model_id == same.model_id != other.model_id


def test_word_embeddings_stay_as_they_are(bert: EncoderConfig, tmp_path: Path) -> None:
    export(plan_of_student(bert), TEXTS, tmp_path / "out")
    before, after = (
        TextEncoder(config).model.get_input_embeddings().weight
        for config in (bert, of_bundle(tmp_path / "out"))
    )
    assert torch.equal(before, after)


def test_what_is_held_out_is_not_taught(bert: EncoderConfig) -> None:
    encoder = TextEncoder(bert)
    taught, held_out = lessons(encoder, encoder, [*TEXTS, *TEXTS, " "], seed=0)
    assert (len(taught.texts), len(held_out.texts)) == (76, 4)
    seen = {text.ids.tobytes() for text in taught.texts}
    assert not seen & {text.ids.tobytes() for text in held_out.texts}


def wide(folder: Path) -> Path:
    import transformers

    model = tiny_bert(folder)
    config = transformers.BertConfig.from_pretrained(model)
    config.hidden_size = 64
    transformers.BertModel(config).save_pretrained(model)
    return model


def test_what_does_not_fit_is_refused_with_one_line(bert: EncoderConfig, tmp_path: Path) -> None:
    def says(error: type[Exception], words: str, plan: ExportPlan, texts: list[str]) -> None:
        with pytest.raises(error, match=words) as caught:
            export(plan, texts, tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()
        assert not list(tmp_path.glob(".out.*")), "nothing half made is left"

    says(EncoderConfigInvalid, "name the items", ExportPlan(bert, layers="1"), [])
    says(EncoderConfigInvalid, "a number from 1 to 2", ExportPlan(bert, layers="3"), TEXTS)
    says(EncoderConfigInvalid, "at least 40 different", plan_of_student(bert), TEXTS[:30])
    nothing = replace(bert, interest_model="")
    says(EncoderConfigInvalid, "needs an interest model", ExportPlan(nothing), [])
    says(EncoderConfigInvalid, "stub", ExportPlan(replace(bert, kind="stub")), [])
    other = replace(bert, text_model=str(tiny_gpt2(tmp_path / "other")))
    says(InterestModelInvalid, "was made for text model", ExportPlan(other), [])
    wider = replace(
        plan_of_student(bert), source=replace(bert, text_model=str(wide(tmp_path / "w")))
    )
    says(EncoderConfigInvalid, "64 dimensions, its teacher 32", wider, TEXTS)
    quick = DistillationPlan(epochs=1, learning_rate=0.9, weight_decay=1e30)
    says(EncoderConfigInvalid, "not a number", plan_of_student(bert, distillation=quick), TEXTS)
    (tmp_path / "there").mkdir()
    with pytest.raises(BundleInvalid, match="export into a new folder"):
        export(ExportPlan(bert), [], tmp_path / "there")


@pytest.mark.parametrize(("changed", "says"), [
    ({"epochs": 0}, "epochs must be at least 1"), ({"batch_texts": 0}, "batch_texts"),
    ({"learning_rate": 0.0}, "learning_rate must be above 0"),
])  # fmt: skip
def test_a_plan_that_makes_no_sense_is_refused(changed: dict[str, float], says: str) -> None:
    with pytest.raises(EncoderConfigInvalid, match=says):
        DistillationPlan(**changed)  # type: ignore[arg-type]
