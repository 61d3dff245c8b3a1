"""Stages of the evaluation's Ray Data pipelines: actors that load their models once and map one shard after the other.

A row is a whole shard. Ray Data may cut and join blocks, but never rows, so what is computed together is always the
same, however many workers there are and whichever of them die. Every stage adds the seconds that it took.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from models.checkpoint import load_model
from models.devices import default_device
from models.dtypes import companion_dtype
from models.dvae import DVAE, DVAEConfig
from models.images import to_float, to_uint8
from models.reranker import CLIPConfig, CLIPReranker, encode_filled, rank_images
from models.run_layout import RunLayout
from models.run_sizes import run_sizes
from t2i.data.transforms import resize
from t2i.engine import TextToImage, window_of
from t2i.evaluate.candidates import (
    CaptionCandidates,
    candidates_folder,
    encode_shard,
    open_shard,
    read_caption,
    shard_record,
)
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.extractors import fetch_extractor
from t2i.evaluate.features import SUFFIX, ImageFeatures, encode_features, hash_images
from t2i.evaluate.shards import ShardFolder
from t2i.evaluate.sweep import is_blurred, set_name, sweep_sizes
from t2i.evaluate.work_list import WorkItem, derived_seed
from t2i.metrics.blur import gaussian_blur
from t2i.metrics.features import load_extractor
from t2i.storage import fetch_run

Row = dict[str, Any]
"""A shard on its way: column -> number, list, or array."""


class Generate:
    """Sample image tokens: {shard, stored, items} -> the same with those of all candidates.

    Added columns, for c captions with n candidates: ``truncated`` bool [c] (whether the caption's end was not read),
    ``numbers`` int64 [c, n] and ``image_tokens`` int32 [c, n, N]. Of a shard whose candidates are ``stored`` they are
    empty.
    """

    def __init__(self, config: EvaluateConfig) -> None:
        self.config = config
        run, rerank = fetch_run(config.run), config.pruning.prunes
        self.text_to_image = TextToImage.load(
            run,
            config.slots,
            default_device(),
            rerank,
            config.dtype,
            config.compile,
            window_of(config.parallel),
        )

    def __call__(self, row: Row) -> Row:
        """Sample for every caption of the shard, each with its own seed."""
        begun = time.perf_counter()
        items = [] if row["stored"] else row["items"]
        sampled = self.text_to_image.sample(
            [item["caption"] for item in items],
            candidates=self.config.candidates,
            seeds=[item["seed"] for item in items],
            sampling=self.config.sampling,
            pruning=self.config.pruning,
        )
        count = self.config.pruning.count(self.config.candidates)
        shape = (len(items), count, self.text_to_image.engine.layout.image_length)
        return row | {
            "truncated": np.array([caption.truncated for caption in sampled], bool),
            "numbers": np.array([caption.candidates for caption in sampled], np.int64).reshape(shape[:2]),
            "image_tokens": np.array([caption.image_tokens for caption in sampled], np.int32).reshape(shape),
            "generate_seconds": time.perf_counter() - begun,
        }


class Score:
    """Decode and rank the candidates of a shard, store them in the folder ``candidates``, and pass the chosen ones on.

    Maps the rows of :class:`Generate` to {shard, features, sets, ids, pixels, caption_features}: the best of 1, 2, 4,
    ... candidates of every caption (see :class:`ExtractFeatures`), and CLIP's features float32 [c, F] of the captions.

    A caption's candidates are decoded together and ranked by themselves. So the bytes of an image follow from its
    caption's tokens alone, and can be had again from them.
    """

    def __init__(self, config: EvaluateConfig) -> None:
        self.config = config
        self.sizes = sweep_sizes(config.candidates, pruned=config.pruning.prunes)
        run, dtype = fetch_run(config.run), companion_dtype(config.dtype)
        self.dvae = load_model(DVAE, DVAEConfig, RunLayout(run).dvae, default_device(), dtype)
        self.reranker = load_model(CLIPReranker, CLIPConfig, RunLayout(run).clip, default_device(), dtype)

    @torch.inference_mode()
    def __call__(self, row: Row) -> Row:
        """Score and store the shard; one that is stored is read instead."""
        begun = time.perf_counter()
        captions = [self.reranker.encode_captions([item["caption"]])[0] for item in row["items"]]
        found = self._read(row) if row["stored"] else self._score(row, captions)
        chosen = [image for candidates, images in found for image in self._choose(candidates, images)]
        return {
            "shard": row["shard"],
            "features": row["features"],
            "sets": [sets for sets, _, _ in chosen],
            "ids": [image_id for _, image_id, _ in chosen],
            "pixels": np.stack([pixels for _, _, pixels in chosen]),
            "caption_features": torch.stack(captions).float().cpu().numpy(),
            # Of a stored shard nothing was drawn: its seconds would be counted as those of all its candidates.
            **({} if row["stored"] else {"generate_seconds": row["generate_seconds"]}),
            **({} if row["stored"] else {"score_seconds": time.perf_counter() - begun}),
        }

    def _score(self, row: Row, captions: Sequence[torch.Tensor]) -> Iterator[tuple[CaptionCandidates, np.ndarray]]:
        """Yield each caption's candidates and images uint8 [n, H, W, 3]; store the shard after the last."""
        # Caption by caption: at 512 candidates of 256 px one caption's images take 100 MB.
        tables = []
        for index, (item, caption) in enumerate(zip(row["items"], captions, strict=True)):
            tokens = row["image_tokens"][index]
            images = self._decode(tokens)
            ranking = rank_images(self.reranker, self.reranker.prepare(to_float(images)), caption)
            candidates = CaptionCandidates(
                item=WorkItem(**item),
                truncated=bool(row["truncated"][index]),
                numbers=row["numbers"][index],
                image_tokens=tokens,
                scores=ranking.scores.cpu().numpy(),
            )
            tables.append(candidates.table(images, self.config.keep))
            yield candidates, images
        candidates_folder(row["candidates"]).write(row["shard"], encode_shard(tables), shard_record(tables))

    def _read(self, row: Row) -> Iterator[tuple[CaptionCandidates, np.ndarray]]:
        """Yield the same as :meth:`_score`, of a shard that is stored: the images are decoded again."""
        stored = open_shard(candidates_folder(row["candidates"]), row["shard"])
        for index in range(stored.num_row_groups):
            candidates = read_caption(stored, index)
            yield candidates, self._decode(candidates.image_tokens)

    def _decode(self, image_tokens: np.ndarray) -> np.ndarray:
        return to_uint8(self.dvae.decode(torch.from_numpy(image_tokens.astype(np.int64)).to(default_device())))

    def _choose(self, candidates: CaptionCandidates, images: np.ndarray) -> list[tuple[str, str, np.ndarray]]:
        """Return (image sets, id, pixels) of the images that are the best of 1, 2, 4, ... candidates, each once."""
        sets: dict[int, list[str]] = {}
        for size in self.sizes:
            sets.setdefault(candidates.best_of(size), []).append(set_name(size, self.config.candidates))
        return [(",".join(names), candidates.item.id, images[place].copy()) for place, names in sets.items()]


class MakeControls:
    """Name the images of a shard, and make the controls of real ones: {name, ids, pixels} -> {sets, ids, pixels}.

    Images named ``real`` become three image sets: ``real``, the images themselves; ``reconstruction``, encoded and
    decoded by the dVAE; and ``random_tokens``, decoded from image tokens that are drawn uniformly from the codebook, by
    the image's id. Others are passed on as they are.
    """

    def __init__(self, config: EvaluateConfig) -> None:
        self.seed = config.seed
        run, dtype = fetch_run(config.run), companion_dtype(config.dtype)
        self.side = run_sizes(run).side
        self.dvae = load_model(DVAE, DVAEConfig, RunLayout(run).dvae, default_device(), dtype)

    @torch.inference_mode()
    def __call__(self, row: Row) -> Row:
        """Name the shard's images and make their controls."""
        begun = time.perf_counter()
        sets = self._controls(row["ids"], row["pixels"]) if row["name"] == "real" else {row["name"]: row["pixels"]}
        return {
            "shard": row["shard"],
            "features": row["features"],
            "sets": [name for name in sets for _ in row["ids"]],
            "ids": list(row["ids"]) * len(sets),
            "pixels": np.concatenate([sized(pixels, row["pixels"].shape[1]) for pixels in sets.values()]),
            "controls_seconds": time.perf_counter() - begun,
        }

    def _controls(self, ids: Sequence[str], pixels: np.ndarray) -> dict[str, np.ndarray]:
        tokens = self.dvae.encode(to_float(sized(pixels, self.side)).to(default_device()))
        noise = np.stack([self._random_tokens(image_id, tokens.shape[1]) for image_id in ids])
        random_tokens = self.dvae.decode(torch.from_numpy(noise).to(default_device()))
        reconstruction = to_uint8(self.dvae.decode(tokens))
        return {"real": pixels, "reconstruction": reconstruction, "random_tokens": to_uint8(random_tokens)}

    def _random_tokens(self, image_id: str, length: int) -> np.ndarray:
        """Return random image tokens int64 [N], which depend on the image's id but not on the shard."""
        random = np.random.default_rng(derived_seed(self.seed, image_id))
        return random.integers(0, self.dvae.config.codebook_size, length)


class ExtractFeatures:
    """Store what all metrics are computed from: {shard, features, sets, ids, pixels} -> {images, seconds by stage}.

    ``features`` is the folder of the shard's family. ``sets`` names the image sets of each image, joined by commas;
    sets and ids come in the order of the work list. The images of ``first``, ``best`` and the controls are measured at
    all radii of blur, the others without blur.
    """

    def __init__(self, config: EvaluateConfig) -> None:
        self.radii, self.side = tuple(config.blur_radii), config.image_size
        self.extractor = load_extractor(fetch_extractor(config.extractor), default_device())
        clip, dtype = RunLayout(fetch_run(config.run)).clip, companion_dtype(config.dtype)
        self.reranker = load_model(CLIPReranker, CLIPConfig, clip, default_device(), dtype)

    def __call__(self, row: Row) -> Row:
        """Measure and store the images of the shard."""
        begun = time.perf_counter()
        sets = [names.split(",") for names in row["sets"]]
        names = list(dict.fromkeys(name for each in sets for name in each))
        ids = np.array(row["ids"])
        clip = self._clip(row["pixels"])
        pixels = sized(row["pixels"], self.side) if self.side else row["pixels"]
        extracted = {radius: self._extract(pixels, sets, radius) for radius in self.radii}
        images = {}
        for name in names:
            rows = np.array([name in each for each in sets])
            radii = [radius for radius in self.radii if radius == 0 or is_blurred(name)]
            images[name] = ImageFeatures(
                ids[rows].tolist(),
                hash_images(row["pixels"][rows]),
                clip[rows],
                {radius: extracted[radius][0][rows] for radius in radii},
                {radius: extracted[radius][1][rows] for radius in radii},
            )
        extra = {"captions": row["caption_features"]} if "caption_features" in row else {}
        data = encode_features(images, extra)
        seconds = {name: value for name, value in row.items() if name.endswith("_seconds")}
        seconds["extract_seconds"] = time.perf_counter() - begun
        sizes = {name: len(each.ids) for name, each in images.items()}
        record = {"images": sizes, "measured": len(ids), "seconds": seconds}
        ShardFolder(row["features"], SUFFIX).write(row["shard"], data, record)
        return {"images": len(ids), **seconds}

    @torch.inference_mode()
    def _clip(self, pixels: np.ndarray) -> np.ndarray:
        prepared = [self.reranker.prepare(to_float(part)) for part in np.array_split(pixels, -(-len(pixels) // 64))]
        features: np.ndarray = encode_filled(self.reranker, torch.cat(prepared)).float().cpu().numpy()
        return features

    def _extract(
        self, pixels: np.ndarray, sets: Sequence[Sequence[str]], radius: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return features [m, D] and logits [m, classes] at one radius, zeros for images that are not measured."""
        rows = np.array([radius == 0 or any(map(is_blurred, names)) for names in sets])
        measured = self.extractor(gaussian_blur(pixels[rows], radius))
        whole = []
        for array in (measured.features, measured.logits):
            whole.append(np.zeros((len(rows), array.shape[1]), np.float32))
            whole[-1][rows] = array
        return whole[0], whole[1]


def sized(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return square images uint8 [n, H, W, 3] resized to [n, side, side, 3], as real images are."""
    return pixels if pixels.shape[1] == side else np.stack([resize(image, side) for image in pixels])
