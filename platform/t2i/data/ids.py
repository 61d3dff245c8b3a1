"""The ids of pairs: made text, and found unique before any work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from t2i.data.resume import digests
from t2i.storage import DataError

PARALLEL_READS = 16


def id_text(value: Any) -> str | None:
    r"""Return an id as text that can be stored; None for null and NaN.

    Bytes are read as UTF-8; what is not valid in it, and half surrogate pairs, become escapes such as ``\xe9``. The
    number 7.0 is 7: tables turn a column of integers into one of floats where one is missing.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(value).encode(errors="backslashreplace").decode()


def file_names(files: list[str]) -> dict[str, str]:
    """Return for each path its name in ids: the path below the folder that all share, without suffix.

    It does not depend on where the folder is, so the ids of a set are the same on every machine.
    """
    paths = [PurePosixPath(file).with_suffix("") for file in files]
    levels = zip(*(path.parent.parts for path in paths), strict=False)
    shared = sum(1 for _ in takewhile(lambda level: len({*level}) == 1, levels))
    return {file: "/".join(path.parts[shared:]) for file, path in zip(files, paths, strict=True)}


def check_unique(path: str, read: Mapping[str, Callable[[], Iterable[str]]]) -> None:
    """Check that no id comes twice; ``read`` maps each file to what reads its ids. Only their hashes are held.

    Raises:
        DataError: an id comes twice; it names the id and the files.
    """
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        found = dict(zip(read, pool.map(lambda ids: digests(ids()), read.values()), strict=True))
    repeated = first_repeated([*found.values()])
    if repeated is not None:
        files = [file for file, known in found.items() if (known == repeated).any()]
        name = next(row_id for row_id in read[files[0]]() if digests([row_id])[0] == repeated)
        where = " and ".join(PurePosixPath(file).name for file in files[:2])
        raise DataError(f"path is {path!r}: id {name} comes twice (in {where}), so make ids unique.")


def first_repeated(found: list[np.ndarray]) -> np.bytes_ | None:
    """Return a digest that comes twice in arrays of digests, S16 [n] each; None if there is none."""
    known = np.sort(np.concatenate(found))
    repeated: np.ndarray = known[1:][known[1:] == known[:-1]]
    return repeated[0] if len(repeated) else None
