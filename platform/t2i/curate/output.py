"""Writing the pairs that are left, as Parquet or as a WebDataset.

Within a part they have the order of the source; parts are named by their content.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from t2i.curate.caption_filters import CaptionJudge, caption_key, tidy
from t2i.curate.config import CaptionRules
from t2i.data.part_files import SetDescription, SetManifest, parquet_bytes, write_parts
from t2i.data.readers import PAIR_SCHEMA, pairs_table, read_pairs
from t2i.data.source import SourceConfig
from t2i.data.transforms import FORMATS

PAIR_SET = SetDescription("set of pairs", "jobs/prepare_pairs.py")
SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff"}


def write_pairs(
    source: SourceConfig,
    directory: str,
    format: str,
    *,
    kept: np.ndarray,
    frequent: np.ndarray,
    rules: CaptionRules,
    rows_per_part: int,
    metadata: Mapping[str, Any],
    progress: Callable[[int], None],
    before_manifest: Callable[[int], None],
) -> SetManifest:
    """Read ``source`` again and write the rows whose :func:`id_key` is in ``kept`` (uint64, sorted).

    Their images stay the bytes they were; their captions are those that the rules and ``frequent`` leave.

    Raises:
        DataError: there is no such row.
    """
    select = partial(select_pairs, kept=kept, frequent=frequent, rules=rules)
    pairs = read_pairs(source).map_batches(select, batch_size=None, batch_format="pyarrow")
    encode, suffix = {"parquet": (parquet_bytes, ".parquet"), "webdataset": (tar_bytes, ".tar")}[format]
    return write_parts(
        pairs,
        directory,
        encode,
        suffix,
        rows_per_part=rows_per_part,
        metadata=metadata,
        progress=progress,
        before_manifest=before_manifest,
    )


def id_key(id: str) -> int:
    """64 bits for an id: with 250 million ids, the chance that any two share theirs is 1 in 600."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "little")


def id_keys(ids: np.ndarray) -> np.ndarray:
    """uint64 [n], sorted."""
    return np.sort(np.array([id_key(id) for id in ids], np.uint64))


def select_pairs(table: pa.Table, kept: np.ndarray, frequent: np.ndarray, rules: CaptionRules) -> pa.Table:
    """The kept rows of a batch of pairs, with their kept captions."""
    chosen = _contains(kept, [id_key(id) for id in table["id"].to_pylist()])
    rows = table.filter(pa.array(chosen)).to_pylist()
    judge = CaptionJudge(rules)
    captions = [kept_captions(row["captions"], judge, frequent) for row in rows]
    return pairs_table([row["id"] for row in rows], [row["image"] for row in rows], captions)


def kept_captions(captions: list[str], judge: CaptionJudge, frequent: np.ndarray) -> list[str]:
    """Tidied captions that pass alone and do not come too often, each once."""
    passed = [text for text in dict.fromkeys(map(tidy, captions)) if text and not judge.judge(text).reason]
    common = _contains(frequent, [caption_key(text) for text in passed])
    return [text for text, too_frequent in zip(passed, common, strict=True) if not too_frequent]


def _contains(known: np.ndarray, keys: list[int]) -> np.ndarray:
    """bool [len(keys)]: which are in ``known``, which is sorted."""
    asked = np.array(keys, np.uint64)
    if not len(known):
        return np.zeros(len(asked), bool)
    return known[np.searchsorted(known, asked).clip(max=len(known) - 1)] == asked


def tar_bytes(table: pa.Table) -> bytes:
    """Pairs as one WebDataset shard: for each the image, its captions as lines of .txt, and its id in .json.

    A key ends at its first dot, so dots of ids are written as ``%2E``. Times are zero: equal rows make equal files.
    """
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for row in table.select(PAIR_SCHEMA.names).to_pylist():
            key = row["id"].replace(".", "%2E")
            text = {"id": row["id"], "captions": row["captions"]}
            _add(tar, f"{key}.{image_suffix(row['image'])}", row["image"])
            _add(tar, f"{key}.txt", "\n".join(row["captions"]).encode())
            _add(tar, f"{key}.json", json.dumps(text, ensure_ascii=False).encode())
    return file.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def image_suffix(data: bytes) -> str:
    """The suffix of an encoded image's format, by its header."""
    return SUFFIXES[Image.open(io.BytesIO(data), formats=FORMATS).format or ""]
