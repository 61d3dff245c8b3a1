"""Write the pairs that are kept, as Parquet or as a WebDataset.

The rows of a part file have the order of the source; the part files are named by their content.
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

from t2i.curate.caption_filters import CaptionJudge, caption_key
from t2i.curate.config import CaptionRules
from t2i.data.pairs import PAIR_SCHEMA, pairs_table
from t2i.data.part_files import SetDescription, SetManifest, parquet_bytes, write_parts
from t2i.data.readers import read_pairs
from t2i.data.source import SourceConfig
from t2i.image_files import image_suffix

PAIR_SET = SetDescription("set of pairs", "jobs/prepare_pairs.py")


def write_pairs(
    source: SourceConfig,
    directory: str,
    output_format: str,
    *,
    kept: np.ndarray,
    frequent: np.ndarray,
    rules: CaptionRules,
    rows_per_part: int,
    metadata: Mapping[str, Any],
    progress: Callable[[int], None],
    before_manifest: Callable[[int], None],
) -> SetManifest:
    """Read ``source`` again and write the pairs that are kept to ``directory``.

    A pair is kept if the :func:`id_key` of its id is in ``kept`` (uint64, sorted). Its image is copied byte for byte;
    its captions are those that pass ``rules`` and whose key is not in ``frequent`` (uint64, sorted). For
    ``rows_per_part`` and what follows see :func:`t2i.data.part_files.write_parts`.

    Raises:
        DataError: there is no such pair, or the directory cannot be written.
    """
    select = partial(select_pairs, kept=kept, frequent=frequent, rules=rules)
    pairs = read_pairs(source).map_batches(select, batch_size=None, batch_format="pyarrow")
    encode, suffix = {"parquet": (parquet_bytes, ".parquet"), "webdataset": (tar_bytes, ".tar")}[output_format]
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


def id_key(image_id: str) -> int:
    """Return a 64-bit hash of an id; among 250 million ids, the chance of any collision is 1 in 600."""
    return int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=8).digest(), "little")


def id_keys(ids: np.ndarray) -> np.ndarray:
    """Return the sorted hashes of n ids, uint64 [n]."""
    return np.sort(np.array([id_key(image_id) for image_id in ids], np.uint64))


def select_pairs(table: pa.Table, kept: np.ndarray, frequent: np.ndarray, rules: CaptionRules) -> pa.Table:
    """Return the pairs of a batch that are kept, with the captions that are kept: see :func:`write_pairs`."""
    chosen = _contains(kept, [id_key(image_id) for image_id in table["id"].to_pylist()])
    rows = table.filter(pa.array(chosen)).to_pylist()
    judge = CaptionJudge(rules)
    captions = [kept_captions(row["captions"], judge, frequent) for row in rows]
    return pairs_table([row["id"] for row in rows], [row["image"] for row in rows], captions)


def kept_captions(captions: list[str], judge: CaptionJudge, frequent: np.ndarray) -> list[str]:
    """Return the captions of one image that are kept: passing ``judge``, not ``frequent``, each once."""
    passed = [text for text in dict.fromkeys(captions) if not judge.judge(text).reason]
    common = _contains(frequent, [caption_key(text) for text in passed])
    return [text for text, too_frequent in zip(passed, common, strict=True) if not too_frequent]


def _contains(known: np.ndarray, keys: list[int]) -> np.ndarray:
    """Return which of ``keys`` are in the sorted array ``known``, as bool [len(keys)]."""
    wanted = np.array(keys, np.uint64)
    if not len(known):
        return np.zeros(len(wanted), bool)
    found: np.ndarray = known[np.searchsorted(known, wanted).clip(max=len(known) - 1)] == wanted
    return found


def tar_bytes(table: pa.Table) -> bytes:
    """Return pairs as a WebDataset shard: for each pair the image, its captions (.txt) and id with captions (.json).

    The key of a sample ends at its first dot, so dots in ids are written as ``%2E``. Modification times are zero, so
    that equal rows make equal files.
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
