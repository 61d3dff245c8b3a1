"""The index: what the decisions need to know of every image, made in one streaming pass and kept.

Changing a bound therefore costs no second decoding: the index is made again only for another source or CLIP.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from PIL import Image
from ray.data import ActorPoolStrategy, Dataset

from t2i.curate.caption_filters import tidy
from t2i.curate.config import CLIPSettings
from t2i.curate.hashing import colour_grid, perceptual_hash, pixel_digest, thumbnail
from t2i.data.part_files import SetDescription, is_whole, parquet_bytes, part_files, verify_parts, write_parts
from t2i.data.readers import read_pairs
from t2i.data.source import SUFFIXES, SourceConfig, resolve_format
from t2i.data.tensors import column_array, tensor_column
from t2i.data.transforms import ImageError, decode_rgb
from t2i.storage import absolute, list_files

INDEX = SetDescription("index", "jobs/prepare_pairs.py")
VERSION = 1
"""Raised when a measurement changes its meaning, so that older indexes are made again."""
ROWS_PER_BATCH = 64
ROWS_PER_PART = 16_384
VIEW_SIDE = 224
"""Side of the squares that the CLIP is handed: what most CLIPs see; others resize it."""

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "captions": pa.list_(pa.string()),
        "problem": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "digest": pa.binary(),
        "hash": pa.uint64(),
        "colours": pa.binary(),
        "thumbnail": pa.binary(),
    }
)
"""``problem`` says why an image cannot be decoded, and is empty otherwise; ``embedding`` float16 [E] comes with a CLIP.

CaptionJudgements are tidied, and each once."""


def make_index(
    source: SourceConfig, directory: str, clip: CLIPSettings, clip_hash: str | None, progress: Callable[[int], None]
) -> None:
    """Measure every image of ``source`` into ``directory``, unless that is done already."""
    metadata = {"version": VERSION, "source": asdict(source), "files": _file_state(source), "clip": clip_hash}
    if is_whole(directory, INDEX, metadata):
        return
    measure = partial(measure_images, with_view=clip.model is not None)
    dataset = read_pairs(source).map_batches(measure, batch_size=ROWS_PER_BATCH, batch_format="pyarrow")
    write_parts(
        _embed(dataset, clip.model, clip) if clip.model else dataset,
        directory,
        _encode,
        ".parquet",
        rows_per_part=ROWS_PER_PART,
        metadata=metadata,
        progress=progress,
    )


def _file_state(source: SourceConfig) -> str:
    """A hash over names, sizes and times of the source's files: changed files are measured again."""
    suffix = SUFFIXES[resolve_format(source)][0]
    filesystem, files = list_files(source.path, suffix)
    state = [(info.path, info.size, info.mtime_ns) for info in filesystem.get_file_info(files)]
    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]


def measure_images(table: pa.Table, with_view: bool) -> pa.Table:
    """Pairs -> rows of the index, with ``view`` uint8 [224, 224, 3] (not cropped) for a CLIP if wanted.

    An image that cannot be decoded gets a row that says so: errors are caught here, one by one.
    """
    rows, views = [], []
    for pair in table.to_pylist():
        row, view = _measure(pair, with_view)
        rows.append(row)
        views.append(view)
    measured = pa.Table.from_pylist(rows, SCHEMA)
    if with_view:
        measured = measured.append_column("view", tensor_column(np.stack(views)))
    return measured


def _measure(pair: dict[str, Any], with_view: bool) -> tuple[dict[str, Any], np.ndarray]:
    captions = list(dict.fromkeys(filter(None, map(tidy, pair["captions"]))))
    row: dict[str, Any] = {"id": pair["id"], "captions": captions, "problem": ""}
    view = np.zeros((VIEW_SIDE, VIEW_SIDE, 3), np.uint8)
    try:
        image = decode_rgb(pair["image"])
    except ImageError as error:
        nothing = {"width": 0, "height": 0, "digest": b"", "hash": 0, "colours": bytes(192), "thumbnail": b""}
        return row | nothing | {"problem": str(error)}, view
    row |= {"height": image.shape[0], "width": image.shape[1], "digest": pixel_digest(image)}
    row |= {"hash": perceptual_hash(image), "colours": colour_grid(image).tobytes(), "thumbnail": thumbnail(image)}
    if with_view:
        view = np.asarray(Image.fromarray(image).resize((VIEW_SIDE, VIEW_SIDE), Image.Resampling.BICUBIC))
    return row, view


def _embed(dataset: Dataset, model_dir: str, clip: CLIPSettings) -> Dataset:
    from t2i.curate.embed import EmbedImages  # imports torch, which the hashes do without

    return dataset.map_batches(
        EmbedImages,
        fn_constructor_args=(absolute(model_dir),),
        compute=ActorPoolStrategy(size=clip.actors),
        num_cpus=clip.cpus_per_actor,
        num_gpus=clip.gpus_per_actor,
        batch_size=clip.batch_size,
        batch_format="pyarrow",
    )


def _encode(table: pa.Table) -> bytes:
    """Parquet with embeddings as fixed-size lists."""
    if "embedding" in table.column_names:
        embeddings = column_array(table["embedding"])
        lists = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1)), embeddings.shape[1])
        table = table.drop_columns("embedding").append_column("embedding", lists)
    return parquet_bytes(table)


def index_files(directory: str) -> tuple[Any, list[str]]:
    """File system and Parquet files of a whole index.

    Raises:
        DataError: it is missing, incomplete or damaged.
    """
    return part_files(directory, verify_parts(directory, INDEX))


def read_index(directory: str) -> Dataset:
    """All rows of an index but their thumbnails, lazily."""
    filesystem, files = index_files(directory)
    dataset = ray.data.read_parquet(files, filesystem=filesystem, partitioning=None)
    return dataset.drop_columns(["thumbnail"])
