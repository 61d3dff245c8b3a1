from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from models.checkpoint import load_model
from models.dvae import DVAE, DVAEConfig
from models.images import to_float, to_uint8
from t2i.data import Caption
from t2i.data.tensors import column_array
from t2i.engine import PruningParams, TextToImage
from t2i.evaluate.candidates import from_png, read_candidates
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.stages import (
    ExtractFeatures,
    Generate,
    MakeControls,
    Score,
    candidate_rows,
    image_rows,
)
from t2i.evaluate.work_list import make_work_list
from t2i.metrics.blur import gaussian_blur
from t2i.metrics.features import ExtractorConfig, load_extractor
from t2i.sampling import SamplingParams

WORK = pa.table({"id": ["a", "b"], "caption": ["a red circle", "a blue square"], "seed": [7, 8]})


@pytest.fixture(scope="module")
def drawn(tiny_run: Path) -> pa.Table:
    return Generate(str(tiny_run), 3, SamplingParams(), slots=4)(WORK)


@pytest.fixture(scope="module")
def stored(tiny_run: Path, drawn: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    directory = tmp_path_factory.mktemp("stored")
    assert Score(str(tiny_run), str(directory))(drawn)["id"].to_pylist() == ["a", "b"]
    return pq.read_table(directory)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def test_the_job_draws_what_the_server_would(tiny_run: Path, stored: pa.Table) -> None:
    expected = TextToImage.load(tiny_run, slots=4).generate(WORK["caption"].to_pylist(), candidates=3, seeds=[7, 8])
    for name, generation in zip("ab", expected, strict=True):
        rows = sorted((row for row in stored.to_pylist() if row["id"] == name), key=lambda row: row["rank"])
        assert [row["candidate"] for row in rows] == generation.order.tolist()
        for row in rows:
            candidate = row["candidate"]
            assert row["image_tokens"] == generation.image_tokens[candidate].tolist()
            assert row["score"] == pytest.approx(generation.scores[candidate], abs=1e-5)
            assert np.array_equal(from_png(row["image"]), generation.images[candidate])


def test_tokens_do_not_depend_on_the_batch(tiny_run: Path, drawn: pa.Table) -> None:
    alone = Generate(str(tiny_run), 3, SamplingParams(), slots=4)(WORK.slice(1))
    assert np.array_equal(column_array(alone["image_tokens"])[0], column_array(drawn["image_tokens"])[1])


PRUNING = PruningParams(rows=3, keep=0.5, group=4)


@pytest.fixture(scope="module")
def pruned(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pruned")
    Score(str(tiny_run), str(directory))(Generate(str(tiny_run), 6, SamplingParams(), slots=8, pruning=PRUNING)(WORK))
    return directory


def test_pruned_candidates_are_stored_under_their_own_numbers(tiny_run: Path, pruned: Path) -> None:
    full = TextToImage.load(tiny_run, slots=4).generate(WORK["caption"].to_pylist(), candidates=6, seeds=[7, 8])
    left = TextToImage.load(tiny_run, slots=4).generate(
        WORK["caption"].to_pylist(), candidates=6, seeds=[7, 8], pruning=PRUNING
    )
    for name, whole, survivors in zip("ab", full, left, strict=True):
        rows = sorted((row for row in pq.read_table(pruned).to_pylist() if row["id"] == name), key=lambda r: r["rank"])
        assert [row["candidate"] for row in rows] == survivors.candidates[survivors.order].tolist()
        for row in rows:
            assert row["image_tokens"] == whole.image_tokens[row["candidate"]].tolist()
            assert np.array_equal(from_png(row["image"]), whole.images[row["candidate"]])


def test_of_pruned_candidates_none_is_shown_as_unselected(pruned: Path) -> None:
    config = EvaluateConfig(candidates=6, pruning=PRUNING)
    work_list = make_work_list([Caption("a", "a red circle", "a"), Caption("b", "a blue square", "b")], config, {})
    assert read_candidates(pruned, work_list).scores.shape == (2, PRUNING.count(6)) == (2, 3)
    images = candidate_rows(pq.read_table(pruned), pruned=True)
    assert list(zip(images["set"].to_pylist(), images["id"].to_pylist(), strict=True)) == [("best", "a"), ("best", "b")]


def test_the_reranker_is_loaded_only_to_prune(tiny_run: Path) -> None:
    kept = [Generate(str(tiny_run), 1, SamplingParams(), 4, pruning=pruning) for pruning in (PruningParams(), PRUNING)]
    assert [stage.text_to_image.reranker is None for stage in kept] == [True, False]


def test_best_is_ranks_first_and_first_is_candidate_zero(stored: pa.Table) -> None:
    images = candidate_rows(stored).to_pylist()
    assert [(row["set"], row["id"]) for row in images] == [("best", "a"), ("best", "b"), ("first", "a"), ("first", "b")]
    pixels = column_array(candidate_rows(stored)["pixels"])
    zero = next(row for row in stored.to_pylist() if row["id"] == "b" and row["candidate"] == 0)
    assert np.array_equal(pixels[3], from_png(zero["image"]))


def test_controls_are_the_image_its_reconstruction_and_noise(tiny_run: Path, pixels: np.ndarray) -> None:
    dvae = load_model(DVAE, DVAEConfig, tiny_run / "dvae" / "model")
    controls = MakeControls(str(tiny_run), seed=0)(
        pa.table({"id": list("xyz"), "pixels": image_rows("", "xyz", pixels)["pixels"]})
    )
    images = {
        name: column_array(controls.filter(pa.compute.equal(controls["set"], name))["pixels"])
        for name in ("real", "reconstruction", "random_tokens")
    }
    assert np.array_equal(images["real"], pixels)
    expected = to_uint8(dvae.decode(dvae.encode(to_float(pixels))))
    assert np.array_equal(images["reconstruction"], expected)
    assert len({image.tobytes() for image in images["random_tokens"]}) == 3


def test_random_tokens_of_an_id_do_not_depend_on_its_batch(tiny_run: Path, pixels: np.ndarray) -> None:
    controls = MakeControls(str(tiny_run), seed=0)
    rows = pa.table({"id": list("xyz"), "pixels": image_rows("", "xyz", pixels)["pixels"]})
    together, alone = (column_array(controls(part)["pixels"])[-1] for part in (rows, rows.slice(2)))
    assert np.abs(together.astype(int) - alone.astype(int)).max() <= 1


def test_features_are_the_extractors_on_blurred_pixels(tiny_run: Path, pixels: np.ndarray) -> None:
    radii = (0.0, 2.0)
    extract = ExtractFeatures(str(tiny_run), ExtractorConfig(), radii, frozenset("y"))
    table = extract(image_rows("real", list("xyz"), pixels))
    expected = load_extractor(ExtractorConfig())(gaussian_blur(pixels, 2.0))
    np.testing.assert_allclose(column_array(table["features"])[:, 1], expected.features, atol=1e-4)
    np.testing.assert_allclose(column_array(table["logits"])[:, 1], expected.logits, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(column_array(table["clip"]), axis=1), 1, atol=1e-5)
    assert [bool(png) for png in table["png"].to_pylist()] == [False, True, False]


def test_each_stage_computes_in_the_format_that_it_is_told(tiny_run: Path, tmp_path: Path) -> None:
    run, radii = str(tiny_run), (0.0,)
    generate = Generate(run, 1, SamplingParams(), slots=4, dtype="bfloat16")
    controls = MakeControls(run, seed=0, dtype="bfloat16")
    score = Score(run, str(tmp_path), dtype="bfloat16")
    extract = ExtractFeatures(run, ExtractorConfig(), radii, frozenset(), dtype="bfloat16")
    scales = [stage.reranker.clip.logit_scale for stage in (score, extract)]
    maps = [dvae.decoder.maps.weight for dvae in (generate.text_to_image.dvae, controls.dvae)]
    assert {tensor.dtype for tensor in scales + maps} == {torch.bfloat16}
