"""The replicas of decoder and reranker by themselves, without Ray: results do not depend on batches."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoint import load_model
from models.dvae import DVAE, DVAEConfig
from models.images import to_float
from t2i.serve.config import ReplicaConfig, ServeConfig
from t2i.serve.generation.image_codec import encode_image
from t2i.serve.replicas.decoder import DecoderReplica
from t2i.serve.replicas.reranker import RerankerReplica

pytestmark = pytest.mark.usefixtures("replica_context")
SIZES = [(32, 32), (40, 24), (96, 96), (32, 32), (8, 8)]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Replicas set the process's threads."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def to_files(images: list[np.ndarray]) -> dict[str, bytes]:
    return {f"images[{index}]": encode_image(image, "png") for index, image in enumerate(images)}


def rank(reranker: RerankerReplica, *sets: list[np.ndarray]) -> list[list[float]]:
    """The scores of each set of images; all in one event loop, which is what a replica has."""

    async def main() -> list[list[float]]:
        return [(await reranker.rank("a red taco", to_files(images))).scores for images in sets]

    return asyncio.run(main())


def test_a_score_depends_neither_on_neighbours_nor_on_the_place_in_a_batch(
    run_directory: Path, images: list[np.ndarray]
) -> None:
    reranker = RerankerReplica(ServeConfig(str(run_directory), rank_batch=4))
    together, backwards, *alone = rank(reranker, images, images[::-1], *([image] for image in images))
    assert len(together) == len(images)
    assert [score for (score,) in alone] == pytest.approx(together, abs=1e-6)
    assert backwards[::-1] == pytest.approx(together, abs=1e-6)


def test_the_best_image_comes_first(run_directory: Path, images: list[np.ndarray]) -> None:
    reranker = RerankerReplica(ServeConfig(str(run_directory)))
    ranked = asyncio.run(reranker.rank("a red taco", to_files(images)))
    assert ranked.order == sorted(range(len(images)), key=lambda index: -ranked.scores[index])


def test_a_reranker_in_bfloat16_stays_near_float32(run_directory: Path, images: list[np.ndarray]) -> None:
    (exact,) = rank(RerankerReplica(ServeConfig(str(run_directory))), images)
    config = ServeConfig(str(run_directory), reranker=ReplicaConfig(dtype="bfloat16"))
    (rounded,) = rank(RerankerReplica(config), images)
    assert rounded == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_decoder_encodes_grids_and_decodes_them(run_directory: Path, images: list[np.ndarray], dtype: str) -> None:
    replica = DecoderReplica(ServeConfig(str(run_directory), decoder=ReplicaConfig(dtype=dtype)))
    dvae = load_model(DVAE, DVAEConfig, run_directory / "dvae" / "model", dtype=dtype)

    async def main() -> tuple[np.ndarray, np.ndarray]:
        grids = (await replica.encode(to_files(images))).grids
        return grids, (await replica.decode(list(grids))).images

    grids, decoded = asyncio.run(main())
    assert grids.shape == (5, 8, 8)
    assert grids[0].flatten().tolist() == dvae.encode(to_float(images[0][None]))[0].tolist()
    expected = dvae.decode(torch.from_numpy(grids).flatten(1)).mul(255).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(decoded, expected, atol=0.6 if dtype == "float32" else 3)
