from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.checkpoint import load_model
from models.dvae import DVAE, DVAEConfig
from models.images import to_float, to_uint8
from t2i.data.tensors import column_array
from t2i.engine import Sampling, TextToImage
from t2i.evaluate.candidates import from_png
from t2i.evaluate.stages import (
    ExtractFeatures,
    Generate,
    MakeControls,
    Score,
    candidate_rows,
    image_rows,
    keep_ids,
)
from t2i.metrics.blur import gaussian_blur
from t2i.metrics.features import ExtractorConfig, load_extractor

WORK = pa.table({"id": ["a", "b"], "caption": ["a red circle", "a blue square"], "seed": [7, 7]})


@pytest.fixture(scope="module")
def drawn(tiny_run) -> pa.Table:
    return Generate(str(tiny_run), 3, Sampling(), slots=4)(WORK)


@pytest.fixture(scope="module")
def stored(tiny_run, drawn, tmp_path_factory) -> pa.Table:
    directory = tmp_path_factory.mktemp("stored")
    assert Score(str(tiny_run), str(directory))(drawn)["id"].to_pylist() == ["a", "b"]
    return pq.read_table(directory)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def test_the_job_draws_what_the_server_would(tiny_run, stored):
    expected = TextToImage.load(tiny_run, slots=4).generate(WORK["caption"].to_pylist(), candidates=3, seed=7)
    for id, generation in zip("ab", expected, strict=True):
        rows = sorted((row for row in stored.to_pylist() if row["id"] == id), key=lambda row: row["rank"])
        assert [row["candidate"] for row in rows] == generation.order.tolist()
        for row in rows:
            candidate = row["candidate"]
            assert row["image_tokens"] == generation.image_tokens[candidate].tolist()
            assert row["score"] == pytest.approx(generation.scores[candidate], abs=1e-5)
            assert np.array_equal(from_png(row["image"]), generation.images[candidate])


def test_tokens_do_not_depend_on_the_batch(tiny_run, drawn):
    alone = Generate(str(tiny_run), 3, Sampling(), slots=4)(WORK.slice(1))
    assert np.array_equal(column_array(alone["image_tokens"])[0], column_array(drawn["image_tokens"])[1])


def test_best_is_ranks_first_and_first_is_candidate_zero(stored):
    images = candidate_rows(stored).to_pylist()
    assert [(row["set"], row["id"]) for row in images] == [("best", "a"), ("best", "b"), ("first", "a"), ("first", "b")]
    pixels = column_array(candidate_rows(stored)["pixels"])
    zero = next(row for row in stored.to_pylist() if row["id"] == "b" and row["candidate"] == 0)
    assert np.array_equal(pixels[3], from_png(zero["image"]))


def test_controls_are_the_image_its_reconstruction_and_noise(tiny_run, pixels):
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


def test_random_tokens_of_an_id_do_not_depend_on_its_batch(tiny_run, pixels):
    controls = MakeControls(str(tiny_run), seed=0)
    rows = pa.table({"id": list("xyz"), "pixels": image_rows("", "xyz", pixels)["pixels"]})
    together, alone = (column_array(controls(part)["pixels"])[-1] for part in (rows, rows.slice(2)))
    assert np.abs(together.astype(int) - alone.astype(int)).max() <= 1


def test_features_are_the_extractors_on_blurred_pixels(tiny_run, pixels):
    radii = (0.0, 2.0)
    extract = ExtractFeatures(str(tiny_run), ExtractorConfig(), radii, frozenset("y"))
    table = extract(image_rows("real", list("xyz"), pixels))
    expected = load_extractor(ExtractorConfig())(gaussian_blur(pixels, 2.0))
    np.testing.assert_allclose(column_array(table["features"])[:, 1], expected.features, atol=1e-4)
    np.testing.assert_allclose(column_array(table["logits"])[:, 1], expected.logits, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(column_array(table["clip"]), axis=1), 1, atol=1e-5)
    assert [bool(png) for png in table["png"].to_pylist()] == [False, True, False]


def test_keep_ids_keeps_those_rows():
    assert keep_ids(frozenset({"b", "absent"}), WORK)["id"].to_pylist() == ["b"]
