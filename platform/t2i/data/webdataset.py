"""Read WebDataset shards: tars in which the files of a sample have the same key and are neighbours.

Ray's ``read_webdataset`` cuts keys at the first dot only, takes upper-case suffixes for unknown ones and does not tell
apart the equal keys of two shards, all of which lose samples in silence.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
from fsspec import AbstractFileSystem

from models.captions import Captions, decode_text, first_good, split_lines
from t2i.data.ids import PARALLEL_READS, file_names, first_repeated
from t2i.data.pairs import ROWS_PER_BATCH, PairBatch, Piece
from t2i.data.resume import digests
from t2i.data.source import SourceConfig, file_state
from t2i.data.tar_members import TarMember, list_members, read_members
from t2i.image_files import suffixes
from t2i.storage import DataError, filesystem_for, list_files

FIRST_DOT, LAST_DOT = "first", "last"
"""Where a member's name is cut into key and suffix: WebDataset's rule, and that of names like ``img.0001.jpg``."""


@dataclass
class Sample:
    """The images, .txt and .json of one key, each with its suffix in lower case."""

    key: str
    members: list[tuple[str, TarMember]] = field(default_factory=list)

    def of_kind(self, *kinds: str) -> list[TarMember]:
        """Return the members whose last suffix is one of ``kinds``, those with no other suffix first."""
        found = [(suffix.count("."), member) for suffix, member in self.members if last_suffix(suffix) in kinds]
        return [member for _, member in sorted(found, key=lambda pair: pair[0])]

    @property
    def images(self) -> list[TarMember]:
        """The images of which one is meant: those with no other suffix if there are any, else all."""
        plain = [member for suffix, member in self.members if suffix in suffixes()]
        return plain or self.of_kind(*suffixes())

    @property
    def is_complete(self) -> bool:
        """Whether there is one image, and captions."""
        return len(self.images) == 1 and bool(self.of_kind("txt", "json"))


def last_suffix(suffix: str) -> str:
    """Return ``jpg`` for ``input.jpg``."""
    return suffix.rpartition(".")[2]


def cut(name: str, dot: str) -> tuple[str, str]:
    """Return the key and the suffix, in lower case, of a member's name: its folders belong to the key."""
    folder, base = posixpath.split(name)
    stem, found, suffix = base.partition(".") if dot == FIRST_DOT else base.rpartition(".")
    return posixpath.join(folder, stem), suffix.lower() if found else ""


def group(members: Sequence[TarMember], dot: str) -> list[Sample]:
    """Return the samples of a tar, in the order of its members; those of equal keys that are not neighbours apart."""
    samples: list[Sample] = []
    known = suffixes() | {"txt", "json"}
    for member in members:
        key, suffix = cut(member.name, dot)
        if last_suffix(suffix) in known:
            if not samples or samples[-1].key != key:
                samples.append(Sample(key))
            samples[-1].members.append((suffix, member))
    return samples


@dataclass(frozen=True)
class ShardSummary:
    """The samples of a shard as cut at one dot: digests of the keys, S16 [n]; how many are complete; their bytes.

    Those whose members are not neighbours count as complete, too. ``problem`` says why the shard cannot be read, and is
    empty if it can.
    """

    keys: np.ndarray
    complete: int
    size: int
    problem: str


def summarize(members: Sequence[TarMember], dot: str) -> ShardSummary:
    """Return the summary of a shard."""
    samples = group(members, dot)
    sorted_samples = group(sorted(members, key=lambda member: cut(member.name, dot)[0]), dot)
    name, count = Counter(sample.key for sample in samples).most_common(1)[0] if samples else ("", 0)
    several = next((sample for sample in samples if len(sample.images) > 1), None)
    problem = ""
    if count > 1:
        problem = f"the members of sample {name} are not neighbours, so sort them by name (tar --sort=name)"
    elif several is not None:
        names = " and ".join(posixpath.basename(member.name) for member in several.images[:3])
        problem = (
            f"sample {several.key} has the images {names}, so keep one (a key ends at the {dot} dot of a name, "
            "and files of the same key are one sample)"
        )
    size = sum(member.size for sample in samples for _, member in sample.members)
    keys = digests(sample.key for sample in samples)
    return ShardSummary(keys, sum(sample.is_complete for sample in sorted_samples), size, problem)


@dataclass(frozen=True)
class Layout:
    """How the shards of a set are read: at which ``dot`` names are cut, and what comes before each key in an id.

    ``prefixes``, ``rows`` and ``sizes`` have an entry for each shard.
    """

    dot: str
    prefixes: list[str]
    rows: list[int]
    sizes: list[int]


def open_webdataset(source: SourceConfig) -> list[Piece]:
    """Return each shard of a source as a piece; the headers of all tars are read for it.

    Raises:
        DataError: there is no tar or no sample; a tar is truncated; the members of a sample are not neighbours, or it
            has several images.
    """
    filesystem, files = list_files(source.path, ".tar")
    layout = _scan(source.path, tuple(files), file_state(filesystem, files))
    shards = zip(files, layout.prefixes, layout.rows, layout.sizes, strict=True)
    return [
        Piece(partial(_read_shard, filesystem, file, layout.dot, prefix), rows, size)
        for file, prefix, rows, size in shards
    ]


def webdataset_ids(source: SourceConfig) -> Iterator[str]:
    """Yield the ids of all samples of a source, in its order, by the headers of its tars.

    Raises:
        DataError: see :func:`open_webdataset`.
    """
    filesystem, files = list_files(source.path, ".tar")
    layout = _scan(source.path, tuple(files), file_state(filesystem, files))
    for file, prefix in zip(files, layout.prefixes, strict=True):
        yield from (prefix + sample.key for sample in group(list_members(filesystem, file), layout.dot))


@lru_cache(maxsize=16)
def _scan(path: str, files: tuple[str, ...], state: str) -> Layout:  # noqa: ARG001  changed files are scanned again
    """Return the layout of a set; kept, as a job checks its sources and then reads them.

    Names are cut at the first dot, unless more samples are complete when they are cut at the last. Ids are the keys,
    if no key comes twice in the set, else ``<shard>/<key>``. Both depend on the names in the tars alone.
    """
    filesystem, _ = filesystem_for(path)
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        found = list(pool.map(partial(_summarize_file, filesystem), files))
    dot = max((FIRST_DOT, LAST_DOT), key=lambda dot: sum(summaries[dot].complete for summaries in found))
    chosen = [summaries[dot] for summaries in found]
    for file, summary in zip(files, chosen, strict=True):
        if summary.problem:
            raise DataError(f"path is {file!r}: {summary.problem}.")
    keys = [summary.keys for summary in chosen]
    if not sum(map(len, keys)):
        raise DataError(f"path is {path!r}: its tars hold no image, .txt or .json.")
    names = file_names([*files])
    are_unique = first_repeated(keys) is None
    prefixes = ["" if are_unique else f"{names[file]}/" for file in files]
    return Layout(dot, prefixes, [*map(len, keys)], [summary.size for summary in chosen])


def _summarize_file(filesystem: AbstractFileSystem, file: str) -> dict[str, ShardSummary]:
    members = list_members(filesystem, file)
    return {dot: summarize(members, dot) for dot in (FIRST_DOT, LAST_DOT)}


def _read_shard(filesystem: AbstractFileSystem, file: str, dot: str, prefix: str) -> Iterator[PairBatch]:
    """Yield the pairs of a shard."""
    samples = group(list_members(filesystem, file), dot)
    for start in range(0, len(samples), ROWS_PER_BATCH):
        yield _read_samples(filesystem, file, samples[start : start + ROWS_PER_BATCH], prefix)


def _read_samples(filesystem: AbstractFileSystem, file: str, samples: Sequence[Sample], prefix: str) -> PairBatch:
    members = [member for sample in samples for member in sample.images + sample.of_kind("txt", "json")]
    contents = dict(zip(members, read_members(filesystem, file, members), strict=True))
    images = [contents[sample.images[0]] if sample.images else None for sample in samples]
    captions = [_captions(sample, contents) for sample in samples]
    return PairBatch([prefix + sample.key for sample in samples], images, captions)


def _captions(sample: Sample, contents: dict[TarMember, bytes]) -> Captions:
    """Return the captions of a sample: the first good of a list in its .json, its .txt, and other fields of its .json.

    A list comes first because it says where a caption ends, which the lines of a .txt may not.
    """
    texts = [_text_captions(contents[member]) for member in sample.of_kind("txt")]
    objects = [_parse_json(contents[member]) for member in sample.of_kind("json")]
    fields = [value.get("captions") for value in objects if isinstance(value, dict)]
    return first_good([*(value for value in fields if isinstance(value, list)), *texts, *objects])


def _text_captions(data: bytes) -> Any:
    """Return the captions in a .txt, or the bytes if they are no text."""
    text = decode_text(data)
    return data if text is None else split_lines(text)


def _parse_json(data: bytes) -> Any:
    """Return the value of a .json, or None if it is not JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
