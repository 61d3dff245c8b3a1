"""Stages of the evaluation's Ray Data pipelines: each actor loads its models once and maps batches of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from models.checkpoint import load_model
from models.devices import default_device
from models.dvae import DVAE, DVAEConfig
from models.images import to_float, to_uint8
from models.reranker import CLIPConfig, CLIPReranker, rank_images
from models.run_layout import RunLayout
from t2i.data.tensors import column_array, tensor_column
from t2i.engine import PruningParams, TextToImage
from t2i.evaluate.candidates import SCHEMA, from_png, store_candidates, to_png
from t2i.evaluate.work_list import derived_seed
from t2i.metrics.blur import gaussian_blur
from t2i.metrics.features import ExtractorConfig, load_extractor
from t2i.sampling import SamplingParams


class Generate:
    """Sample and decode images: captions {id, caption, seed} -> the same rows with what was generated for each.

    Added columns: ``truncated`` (whether the caption's end was not read), ``candidates`` [n] (their numbers; all that
    were asked for unless ``pruning`` stopped some), ``image_tokens`` [n, N] and ``images`` uint8 [n, H, W, 3].
    """

    def __init__(
        self,
        run: str,
        candidates: int,
        sampling: SamplingParams,
        slots: int,
        dtype: str = "float32",
        pruning: PruningParams | None = None,
        compiled: bool = False,
    ) -> None:
        self.candidates, self.sampling, self.pruning = candidates, sampling, pruning
        rerank = pruning is not None and pruning.prunes
        self.text_to_image = TextToImage.load(run, slots, default_device(), rerank, dtype, compiled)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Generate for every row of the batch, with its own seed."""
        sampled = self.text_to_image.sample(
            table["caption"].to_pylist(),
            candidates=self.candidates,
            seeds=table["seed"].to_pylist(),
            sampling=self.sampling,
            pruning=self.pruning,
        )
        image_tokens = np.stack([caption.image_tokens for caption in sampled])  # [B, n, N]
        candidates = np.stack([caption.candidates for caption in sampled])
        images = self.text_to_image.decode(np.concatenate(image_tokens))
        images = images.reshape(*image_tokens.shape[:2], *images.shape[1:])
        table = table.append_column("truncated", pa.array([caption.truncated for caption in sampled]))
        table = table.append_column("candidates", tensor_column(candidates))
        table = table.append_column("image_tokens", tensor_column(image_tokens))
        return table.append_column("images", tensor_column(images))


class Score:
    """Rank the candidates of each caption by CLIP and store them all in ``directory``: -> {id} of what is stored."""

    def __init__(self, run: str, directory: str, dtype: str = "float32") -> None:
        self.directory = directory
        self.reranker = _load_reranker(run, dtype)

    @torch.inference_mode()
    def __call__(self, table: pa.Table) -> pa.Table:
        """Rank the candidates of every row of the batch and store them in one file."""
        captions = self.reranker.encode_captions(table["caption"].to_pylist())
        rows = table.select(["id", "caption", "seed", "truncated"]).to_pylist()
        columns = [column_array(table[name]) for name in ("candidates", "image_tokens", "images")]
        stored = [
            candidate
            for row, caption, *arrays in zip(rows, captions, *columns, strict=True)
            for candidate in self._rank(row, caption, *arrays)
        ]
        store_candidates(pa.Table.from_pylist(stored, SCHEMA), self.directory)
        return table.select(["id"])

    def _rank(
        self, row: dict[str, Any], caption: torch.Tensor, candidates: np.ndarray, tokens: np.ndarray, images: np.ndarray
    ) -> list[dict[str, Any]]:
        """Return one row to store for each candidate, best first; ``caption`` is CLIP's feature [F] of the caption."""
        ranking = rank_images(self.reranker, self.reranker.prepare(to_float(images)), caption)
        feature = caption.float().cpu().numpy()
        return [
            row
            | {"candidate": int(candidates[index]), "image_tokens": tokens[index], "image": to_png(images[index])}
            | {"score": float(ranking.scores[index]), "rank": place, "caption_feature": feature}
            for place, index in enumerate(ranking.order.tolist())
        ]


class MakeControls:
    """Make the controls of an evaluation: real images {id, pixels} -> three image sets {set, id, pixels}.

    The sets are ``real``, the images themselves; ``reconstruction``, encoded and decoded by the dVAE; and
    ``random_tokens``, decoded from image tokens that are drawn uniformly from the codebook.
    """

    def __init__(self, run: str, seed: int, dtype: str = "float32") -> None:
        self.seed = seed
        self.dvae = load_model(DVAE, DVAEConfig, RunLayout(run).dvae, default_device(), dtype)

    @torch.inference_mode()
    def __call__(self, table: pa.Table) -> pa.Table:
        """Make the three controls of every image of the batch."""
        pixels, ids = column_array(table["pixels"]), table["id"].to_pylist()
        image_tokens = self.dvae.encode(to_float(pixels).to(default_device()))
        random_tokens = np.stack([self._random_tokens(image_id, image_tokens.shape[1]) for image_id in ids])
        reconstructions = to_uint8(self.dvae.decode(image_tokens))
        noise = to_uint8(self.dvae.decode(torch.from_numpy(random_tokens).to(default_device())))
        sets = {"real": pixels, "reconstruction": reconstructions, "random_tokens": noise}
        return pa.concat_tables([image_rows(name, ids, images) for name, images in sets.items()])

    def _random_tokens(self, image_id: str, length: int) -> np.ndarray:
        """Return random image tokens int64 [N], which depend on the image's id but not on the batch."""
        random = np.random.default_rng(derived_seed(self.seed, image_id))
        return random.integers(0, self.dvae.config.codebook_size, length)


class ExtractFeatures:
    """Compute what metrics compare: images {set, id, pixels} -> {set, id, clip, features, logits, png}.

    ``clip`` [F] is CLIP's feature of the image. ``features`` [radii, F] and ``logits`` [radii, classes] are those of
    the ``extractor``, of the image blurred with each of ``radii``. ``png`` is the image itself if its id is in
    ``shown``, else empty.
    """

    def __init__(
        self,
        run: str,
        extractor: ExtractorConfig,
        radii: Sequence[float],
        shown: frozenset[str],
        dtype: str = "float32",
    ) -> None:
        self.radii, self.shown = radii, shown
        self.extractor = load_extractor(extractor, default_device())
        self.reranker = _load_reranker(run, dtype)

    @torch.inference_mode()
    def __call__(self, table: pa.Table) -> pa.Table:
        """Compute the features of every image of the batch."""
        pixels, ids = column_array(table["pixels"]), table["id"].to_pylist()
        extracted = [self.extractor(gaussian_blur(pixels, radius)) for radius in self.radii]
        tensors = {
            "clip": self.reranker.encode_images(to_float(pixels).to(default_device())).float().cpu().numpy(),
            "features": np.stack([part.features for part in extracted], axis=1),
            "logits": np.stack([part.logits for part in extracted], axis=1),
        }
        columns = {name: tensor_column(array) for name, array in tensors.items()}
        pngs = [to_png(image) if name in self.shown else b"" for name, image in zip(ids, pixels, strict=True)]
        return pa.table({"set": table["set"], "id": ids, "png": pngs} | columns)


def candidate_rows(table: pa.Table, *, pruned: bool = False) -> pa.Table:
    """Return two image sets of stored candidates, {set, id, pixels}: ``best`` by CLIP, and ``first``, candidate 0.

    ``first`` shows what the prior samples when nothing is selected. Of ``pruned`` candidates there is no such set, as
    CLIP has selected all that are left.
    """
    shape = from_png(table["image"][0].as_py()).shape
    table = table.filter((pc.field("rank") == 0) | (pc.field("candidate") == 0))
    pixels = np.array([from_png(png) for png in table["image"].to_pylist()], np.uint8).reshape(-1, *shape)
    chosen = {"best": np.array(table["rank"]) == 0}
    if not pruned:
        chosen["first"] = np.array(table["candidate"]) == 0
    ids = np.array(table["id"].to_pylist(), object)
    return pa.concat_tables(image_rows(name, ids[kept].tolist(), pixels[kept]) for name, kept in chosen.items())


def real_rows(name: str, table: pa.Table) -> pa.Table:
    """Return the images of decoded pairs {id, pixels, ...} as the image set ``name``: {set, id, pixels}."""
    return pa.table({"set": [name] * len(table), "id": table["id"], "pixels": table["pixels"]})


def image_rows(name: str, ids: Sequence[str], pixels: np.ndarray) -> pa.Table:
    """Return pixels uint8 [B, H, W, 3] as the image set ``name``: {set, id, pixels}."""
    names, ids = pa.array([name] * len(ids), pa.string()), pa.array(ids, pa.string())
    return pa.table({"set": names, "id": ids, "pixels": tensor_column(pixels)})


def _load_reranker(run: str, dtype: str) -> CLIPReranker:
    return load_model(CLIPReranker, CLIPConfig, RunLayout(run).clip, default_device(), dtype)
