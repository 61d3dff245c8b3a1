from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from models.checkpoint import load_model
from models.dvae import DVAE, DVAEConfig
from models.images import to_float, to_uint8
from t2i.engine import PruningParams, TextToImage
from t2i.evaluate.candidates import CaptionCandidates, read_caption, read_images
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.features import SUFFIX, FeatureFolder, hash_images
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.shards import ShardFolder
from t2i.evaluate.stages import ExtractFeatures, Generate, MakeControls, Score
from t2i.evaluate.work_list import WorkItem
from t2i.metrics.blur import gaussian_blur
from t2i.metrics.features import ExtractorConfig, load_extractor

ITEMS = [WorkItem("a", "a red circle", "1", 7), WorkItem("b", "a blue square", "2", 8)]
CANDIDATES = 5
PRUNING = PruningParams(rows=3, keep=0.5, group=4)


def shard(root: Path | str, *, stored: bool = False) -> dict[str, Any]:
    layout = SetLayout(str(root))
    folders = {"candidates": layout.candidates, "features": layout.features("p", "drawn")}
    return {"shard": 0, "stored": stored, "items": [asdict(item) for item in ITEMS]} | folders


def config(run: Path, **settings: Any) -> EvaluateConfig:
    return EvaluateConfig(run=str(run), candidates=CANDIDATES, slots=4, keep="all", **settings)


def read(layout: SetLayout) -> list[tuple[CaptionCandidates, dict[int, np.ndarray]]]:
    file = pq.ParquetFile(io.BytesIO(ShardFolder(layout.candidates, ".parquet").read(0)))
    return [(read_caption(file, index), read_images(file, index)) for index in range(len(ITEMS))]


@pytest.fixture(scope="module")
def sampled(tiny_run: Path, layout: SetLayout) -> dict[str, Any]:
    return Generate(config(tiny_run))(shard(layout.root))


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> SetLayout:
    return SetLayout(str(tmp_path_factory.mktemp("set")))


@pytest.fixture(scope="module")
def scored(tiny_run: Path, sampled: dict[str, Any]) -> dict[str, Any]:
    return Score(config(tiny_run))(sampled)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


@pytest.mark.usefixtures("scored")
def test_the_job_draws_what_the_server_would(tiny_run: Path, layout: SetLayout) -> None:
    captions, seeds = [item.caption for item in ITEMS], [item.seed for item in ITEMS]
    expected = TextToImage.load(tiny_run, slots=4).generate(captions, candidates=CANDIDATES, seeds=seeds)
    for (found, images), generation in zip(read(layout), expected, strict=True):
        assert np.array_equal(found.image_tokens, generation.image_tokens)
        assert np.array_equal(found.scores, generation.scores)
        assert np.array_equal(found.order, generation.order)
        assert np.array_equal(np.stack([images[n] for n in range(CANDIDATES)]), generation.images)


def test_the_best_of_1_2_4_and_all_are_passed_on_each_image_once(scored: dict[str, Any], layout: SetLayout) -> None:
    passed = list(zip(scored["ids"], scored["sets"], scored["pixels"], strict=True))
    for item, (found, images) in zip(ITEMS, read(layout), strict=True):
        of_caption = [(sets.split(","), image) for caption_id, sets, image in passed if caption_id == item.id]
        by_set = {name: image for sets, image in of_caption for name in sets}
        assert list(by_set) == [name for sets, _ in of_caption for name in sets]  # none comes twice
        for name, size in {"first": 1, "best_of_2": 2, "best_of_4": 4, "best": 5}.items():
            assert np.array_equal(by_set[name], images[int(found.scores[:size].argmax())])
    assert len({image.tobytes() for _, _, image in passed}) == len(passed)


def test_a_stored_shard_gives_the_same_images_again(tiny_run: Path, scored: dict[str, Any], layout: SetLayout) -> None:
    nothing = Generate(config(tiny_run))(shard(layout.root, stored=True))
    assert nothing["image_tokens"].size == 0
    again = Score(config(tiny_run))(nothing)
    for name in ("sets", "ids", "pixels", "caption_features"):
        assert np.array_equal(again[name], scored[name])


def test_a_caption_does_not_depend_on_its_shard(
    tiny_run: Path, sampled: dict[str, Any], scored: dict[str, Any], layout: SetLayout, tmp_path: Path
) -> None:
    whole = shard(tmp_path)
    alone = whole | {"items": whole["items"][1:]}
    tokens = Generate(config(tiny_run))(alone)
    assert np.array_equal(tokens["image_tokens"][0], sampled["image_tokens"][1])
    own = SetLayout(str(tmp_path))
    passed = Score(config(tiny_run))(tokens)
    places = [place for place, caption_id in enumerate(scored["ids"]) if caption_id == "b"]
    assert np.array_equal(passed["pixels"], scored["pixels"][places])
    file = pq.ParquetFile(io.BytesIO(ShardFolder(own.candidates, ".parquet").read(0)))
    assert np.array_equal(read_caption(file, 0).scores, read(layout)[1][0].scores)


def test_pruned_candidates_are_stored_under_their_own_numbers(tiny_run: Path, tmp_path: Path) -> None:
    settings = config(tiny_run, pruning=PRUNING)
    passed = Score(settings)(Generate(settings)(shard(tmp_path)))
    assert passed["sets"] == ["best", "best"]  # the survivors are no random candidates: none is the first
    captions, seeds = [item.caption for item in ITEMS], [item.seed for item in ITEMS]
    whole = TextToImage.load(tiny_run, slots=4).generate(captions, candidates=CANDIDATES, seeds=seeds)
    for (found, images), full in zip(read(SetLayout(str(tmp_path))), whole, strict=True):
        assert len(found.numbers) == PRUNING.count(CANDIDATES) < CANDIDATES
        assert np.array_equal(found.image_tokens, full.image_tokens[found.numbers])
        assert sorted(images) == found.numbers.tolist()


def test_the_reranker_is_loaded_only_to_prune(tiny_run: Path) -> None:
    stages = [Generate(config(tiny_run, pruning=pruning)) for pruning in (PruningParams(), PRUNING)]
    assert [stage.text_to_image.reranker is None for stage in stages] == [True, False]


def test_controls_are_the_image_its_reconstruction_and_noise(tiny_run: Path, pixels: np.ndarray) -> None:
    dvae = load_model(DVAE, DVAEConfig, tiny_run / "dvae" / "model")
    row = {"shard": 0, "features": "", "name": "real", "ids": list("xyz"), "pixels": pixels}
    made = MakeControls(config(tiny_run))(row)
    names = np.array(made["sets"])
    images = {name: made["pixels"][names == name] for name in ("real", "reconstruction", "random_tokens")}
    assert np.array_equal(images["real"], pixels)
    assert np.array_equal(images["reconstruction"], to_uint8(dvae.decode(dvae.encode(to_float(pixels)))))
    assert len({image.tobytes() for image in images["random_tokens"]}) == 3
    assert made["ids"] == list("xyz") * 3


def test_other_images_have_no_controls(tiny_run: Path, pixels: np.ndarray) -> None:
    row = {"shard": 0, "features": "", "name": "train", "ids": ["x"], "pixels": pixels[:1]}
    made = MakeControls(config(tiny_run))(row)
    assert (made["sets"], made["ids"]) == (["train"], ["x"])
    assert np.array_equal(made["pixels"], pixels[:1])


def test_features_are_the_extractors_on_blurred_pixels(tiny_run: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    settings = config(tiny_run, blur_radii=[0.0, 2.0])
    row: dict[str, Any] = {
        "shard": 0,
        "sets": ["best", "first,best_of_2", "best"],
        "ids": list("xyz"),
        "pixels": pixels,
    }
    measured = ExtractFeatures(settings)(row | {"features": str(tmp_path)})
    assert measured["images"] == 3
    folder = FeatureFolder(str(tmp_path), 1)
    blurred = load_extractor(ExtractorConfig())(gaussian_blur(pixels, 2.0))
    sharp = load_extractor(ExtractorConfig())(pixels)
    for name, rows in {"best": [0, 2], "first": [1]}.items():
        np.testing.assert_array_equal(folder.column(f"{name}/features-r0"), sharp.features[rows])
        np.testing.assert_allclose(folder.column(f"{name}/features-r2"), blurred.features[rows], atol=1e-5)
        np.testing.assert_allclose(folder.column(f"{name}/logits-r2"), blurred.logits[rows], atol=1e-5)
        assert folder.column(f"{name}/ids").tolist() == [row["ids"][place] for place in rows]
        assert np.array_equal(folder.column(f"{name}/hashes"), hash_images(pixels[rows]))
        np.testing.assert_allclose(np.linalg.norm(folder.column(f"{name}/clip"), axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(folder.column("best_of_2/features-r0"), sharp.features[[1]])
    assert ShardFolder(str(tmp_path), SUFFIX).record(0)["images"] == {"best": 2, "first": 1, "best_of_2": 1}


def test_features_of_an_image_do_not_depend_on_its_shard(tiny_run: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    extract = ExtractFeatures(config(tiny_run))
    extract({"shard": 0, "features": str(tmp_path), "sets": ["real"] * 3, "ids": list("xyz"), "pixels": pixels})
    extract({"shard": 1, "features": str(tmp_path), "sets": ["real"], "ids": ["z"], "pixels": pixels[2:]})
    folder = FeatureFolder(str(tmp_path), 2)
    for column in ("features-r0", "logits-r0", "clip", "hashes"):
        values = folder.column(f"real/{column}")
        assert np.array_equal(values[2], values[3]), column


def test_each_stage_computes_in_the_format_that_it_is_told(tiny_run: Path) -> None:
    settings = config(tiny_run, dtype="bfloat16")
    generate, score = Generate(settings), Score(settings)
    controls, extract = MakeControls(settings), ExtractFeatures(settings)
    scales = [stage.reranker.clip.logit_scale for stage in (score, extract)]
    maps = [dvae.decoder.maps.weight for dvae in (generate.text_to_image.dvae, score.dvae, controls.dvae)]
    assert {tensor.dtype for tensor in scales + maps} == {torch.bfloat16}
