"""The index: measurements of every image that the decisions are based on, made in one streaming pass and kept.

Changing a threshold needs no second pass over the images: the index is made anew only for another source or CLIP.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from fsspec import AbstractFileSystem
from PIL import Image
from ray.data import ActorPoolStrategy, Dataset

from t2i.config import recorded
from t2i.curate.config import CLIPSettings
from t2i.curate.hashing import colour_grid, perceptual_hash, pixel_digest, thumbnail
from t2i.data.part_files import SetDescription, is_whole, parquet_bytes, part_files, verify_parts, write_parts
from t2i.data.readers import read_pairs
from t2i.data.source import SUFFIXES, SourceConfig, file_state, resolve_format
from t2i.data.tensors import column_array, tensor_column
from t2i.image_files import ImageError, decode_rgb
from t2i.storage import arrow_filesystem, list_files

INDEX_SET = SetDescription("index", "jobs/prepare_pairs.py")
VERSION = 2
"""Version of the measurements: raise it when one is computed differently, so that existing indexes are made anew."""
ROWS_PER_BATCH = 64
ROWS_PER_PART = 16_384
VIEW_SIDE = 224
"""Side in pixels of the squares that the CLIP is given: the input size of most CLIPs; others resize it."""

INDEX_SCHEMA = pa.schema(
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
"""Columns of the index; with a CLIP there is also ``embedding``, float16 [F].

``captions`` are without repetitions. ``problem`` says why an image cannot be decoded, and is empty if it
can. ``digest``, ``hash``, ``colours`` and ``thumbnail`` are those of :mod:`.hashing`."""


def make_index(
    source: SourceConfig, directory: str, clip: CLIPSettings, clip_hash: str | None, progress: Callable[[int], None]
) -> None:
    """Write the index of ``source`` to ``directory``, unless it is there already.

    ``clip_hash`` identifies the weights of ``clip.model``; ``progress`` is called with the number of images done.
    """
    metadata = {"version": VERSION, "source": recorded(source), "files": _source_state(source), "clip": clip_hash}
    if is_whole(directory, INDEX_SET, metadata):
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


def _source_state(source: SourceConfig) -> str:
    """Return a hash that shows whether the source's files have changed; of COCO's, the JSON alone."""
    return file_state(*list_files(source.path, SUFFIXES[resolve_format(source)][0]))


def measure_images(table: pa.Table, with_view: bool) -> pa.Table:
    """Return the rows of the index for pairs; ``with_view`` adds ``view``, the CLIP's input, uint8 [224, 224, 3].

    A view is the whole image, resized to a square. An image that cannot be decoded gets a row with its ``problem``.
    """
    rows, views = [], []
    for pair in table.to_pylist():
        row, view = _measure(pair, with_view)
        rows.append(row)
        views.append(view)
    measured = pa.Table.from_pylist(rows, INDEX_SCHEMA)
    if with_view:
        measured = measured.append_column("view", tensor_column(np.stack(views)))
    return measured


def _measure(pair: dict[str, Any], with_view: bool) -> tuple[dict[str, Any], np.ndarray]:
    """Return the row of one pair and its view, which is black if it is not wanted or the image cannot be decoded."""
    row: dict[str, Any] = {"id": pair["id"], "captions": list(dict.fromkeys(pair["captions"])), "problem": ""}
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
    from t2i.curate.embed import EmbedImages  # it imports torch, which a curation without a CLIP does not need

    return dataset.map_batches(
        EmbedImages,
        fn_constructor_args=(model_dir,),
        compute=ActorPoolStrategy(size=clip.actors),
        num_cpus=clip.cpus_per_actor,
        num_gpus=clip.gpus_per_actor,
        batch_size=clip.batch_size,
        batch_format="pyarrow",
    )


def _encode(table: pa.Table) -> bytes:
    """Return rows of the index as Parquet, embeddings as fixed-size lists."""
    if "embedding" in table.column_names:
        embeddings = column_array(table["embedding"])
        lists = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1)), embeddings.shape[1])
        table = table.drop_columns("embedding").append_column("embedding", lists)
    return parquet_bytes(table)


def index_files(directory: str) -> tuple[AbstractFileSystem, list[str]]:
    """Return the file system and the Parquet files of an index.

    Raises:
        DataError: the index is missing, incomplete or damaged.
    """
    return part_files(directory, verify_parts(directory, INDEX_SET))


def read_index(directory: str) -> Dataset:
    """Return the rows of an index, without thumbnails, as a lazy dataset."""
    filesystem, files = index_files(directory)
    dataset = ray.data.read_parquet(
        files, filesystem=arrow_filesystem(filesystem), partitioning=None, file_extensions=None
    )
    return dataset.drop_columns(["thumbnail"])
