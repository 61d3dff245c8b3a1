"""Steps of the evaluation's Ray Data pipelines: each actor loads its models once and maps batches of rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from models.checkpoint import load_model
from models.devices import default_device
from models.dvae import DVAE, DVAEConfig
from models.images import to_float, to_uint8
from models.reranker import CLIPConfig, CLIPReranker, rank
from models.run_layout import RunLayout
from t2i.data.tensors import column_array, tensor_column
from t2i.engine import PruningParams, Request, TextToImage
from t2i.evaluate.candidates import SCHEMA, from_png, store_candidates, to_png
from t2i.evaluate.work_list import derived_seed
from t2i.metrics.blur import gaussian_blur
from t2i.metrics.features import ExtractorConfig, load_extractor
from t2i.sampling import SamplingParams


class Generate:
    """Captions {id, caption, seed} -> also ``truncated``, ``image_tokens`` [n, N], ``images`` [n, H, W, 3].

    ``candidates`` [n] says which of those asked for they are: all, unless ``pruning`` stopped some.
    """

    def __init__(
        self,
        run: str,
        candidates: int,
        sampling: SamplingParams,
        slots: int,
        dtype: str = "float32",
        pruning: PruningParams | None = None,
        compile: bool = False,
    ) -> None:
        self.candidates, self.sampling, self.pruning = candidates, sampling, pruning
        rerank = pruning is not None and pruning.prunes
        self.text_to_image = TextToImage.load(run, slots, default_device(), rerank, dtype, compile)

    def __call__(self, table: pa.Table) -> pa.Table:
        model = self.text_to_image
        captions = table["caption"].to_pylist()
        encoded = model.tokenizer.encode_batch(captions, model.engine.layout.text_length)
        requests = [
            Request(id, tuple(caption.ids), self.candidates, seed, self.sampling)
            for id, caption, seed in zip(table["id"].to_pylist(), encoded, table["seed"].to_pylist(), strict=True)
        ]
        drawn = model.sample(requests, pruning=self.pruning, captions=captions)
        image_tokens = np.stack([drawn[request.id].image_tokens for request in requests])  # [B, n, N]
        candidates = np.stack([drawn[request.id].candidates for request in requests])
        images = model.decode(np.concatenate(image_tokens))
        images = images.reshape(*image_tokens.shape[:2], *images.shape[1:])
        table = table.append_column("truncated", pa.array([caption.truncated for caption in encoded]))
        table = table.append_column("candidates", tensor_column(candidates))
        table = table.append_column("image_tokens", tensor_column(image_tokens))
        return table.append_column("images", tensor_column(images))


class Score:
    """Rank each caption's candidates by CLIP and keep them all in ``directory``: -> {id} of what is stored."""

    def __init__(self, run: str, directory: str, dtype: str = "float32") -> None:
        self.directory = directory
        self.reranker = _load_reranker(run, dtype)

    @torch.inference_mode()
    def __call__(self, table: pa.Table) -> pa.Table:
        captions = self.reranker.encode_captions(table["caption"].to_pylist())
        rows = table.select(["id", "caption", "seed", "truncated"]).to_pylist()
        drawn = [column_array(table[name]) for name in ("candidates", "image_tokens", "images")]
        stored = [
            candidate
            for row, *parts in zip(rows, *drawn, captions, strict=True)
            for candidate in self._rank(row, *parts)
        ]
        store_candidates(pa.Table.from_pylist(stored, SCHEMA), self.directory)
        return table.select(["id"])

    def _rank(
        self, row: dict, candidates: np.ndarray, tokens: np.ndarray, images: np.ndarray, caption: torch.Tensor
    ) -> list[dict]:
        ranking = rank(self.reranker.encode_images(to_float(images).to(caption.device)), caption)
        feature = caption.float().cpu().numpy()
        return [
            row
            | {"candidate": int(candidates[index]), "image_tokens": tokens[index], "image": to_png(images[index])}
            | {"score": float(ranking.scores[index]), "rank": place, "caption_feature": feature}
            for place, index in enumerate(ranking.order.tolist())
        ]


class MakeControls:
    """Real images {id, pixels} -> {set, id, pixels}: themselves, their reconstructions, and random tokens decoded."""

    def __init__(self, run: str, seed: int, dtype: str = "float32") -> None:
        self.seed = seed
        self.dvae = load_model(DVAE, DVAEConfig, RunLayout(run).dvae, default_device(), dtype)

    @torch.inference_mode()
    def __call__(self, table: pa.Table) -> pa.Table:
        pixels, ids = column_array(table["pixels"]), table["id"].to_pylist()
        image_tokens = self.dvae.encode(to_float(pixels).to(default_device()))
        random_tokens = np.stack([self._random_tokens(id, image_tokens.shape[1]) for id in ids])
        reconstructions = to_uint8(self.dvae.decode(image_tokens))
        noise = to_uint8(self.dvae.decode(torch.from_numpy(random_tokens).to(default_device())))
        sets = {"real": pixels, "reconstruction": reconstructions, "random_tokens": noise}
        return pa.concat_tables([image_rows(name, ids, images) for name, images in sets.items()])

    def _random_tokens(self, id: str, length: int) -> np.ndarray:
        random = np.random.default_rng(derived_seed(self.seed, id))
        return random.integers(0, self.dvae.config.codebook_size, length)


class ExtractFeatures:
    """Images {set, id, pixels} -> {set, id, clip [E], features [R, D], logits [R, C], png} at R radii of blur.

    ``png`` is the image itself where its id is in ``shown``, else empty.
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
        pixels, ids = column_array(table["pixels"]), table["id"].to_pylist()
        extracted = [self.extractor(gaussian_blur(pixels, radius)) for radius in self.radii]
        tensors = {
            "clip": self.reranker.encode_images(to_float(pixels).to(default_device())).float().cpu().numpy(),
            "features": np.stack([part.features for part in extracted], axis=1),
            "logits": np.stack([part.logits for part in extracted], axis=1),
        }
        columns = {name: tensor_column(array) for name, array in tensors.items()}
        pngs = [to_png(image) if id in self.shown else b"" for id, image in zip(ids, pixels, strict=True)]
        return pa.table({"set": table["set"], "id": ids, "png": pngs} | columns)


def candidate_rows(table: pa.Table, *, pruned: bool = False) -> pa.Table:
    """Stored candidates -> {set, id, pixels}: ``best`` by CLIP, and ``first``, which nothing selected.

    Where they were ``pruned``, there is no such: whatever is left CLIP has selected.
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
    """Decoded pairs -> the image set ``name``."""
    return pa.table({"set": [name] * len(table), "id": table["id"], "pixels": table["pixels"]})


def keep_ids(ids: frozenset[str], table: pa.Table) -> pa.Table:
    """The rows whose id is in ``ids``."""
    return table.filter(pc.is_in(table["id"], pa.array(sorted(ids))))


def image_rows(name: str, ids: Sequence[str], pixels: np.ndarray) -> pa.Table:
    """One image set as rows {set, id, pixels}; pixels uint8 [B, H, W, 3]."""
    names, ids = pa.array([name] * len(ids), pa.string()), pa.array(ids, pa.string())
    return pa.table({"set": names, "id": ids, "pixels": tensor_column(pixels)})


def _load_reranker(run: str, dtype: str) -> CLIPReranker:
    return load_model(CLIPReranker, CLIPConfig, RunLayout(run).clip, default_device(), dtype)
