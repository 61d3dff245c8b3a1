"""Recompute everything in a receipt from the features and statistics that are stored beside it; no model is needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import ray

from t2i.evaluate.figures import Figure
from t2i.evaluate.image_sets import ImageSet, statistics_bytes
from t2i.evaluate.joint_elb import joint_elb_figures
from t2i.evaluate.measure import measure
from t2i.evaluate.receipts.files import sha256_of
from t2i.evaluate.receipts.findings import Finding, compared
from t2i.evaluate.receipts.make import packages_hash
from t2i.evaluate.receipts.pixels import check_pixels
from t2i.evaluate.receipts.stored import Receipt, StoredSet
from t2i.evaluate.shards import READERS
from t2i.evaluate.tasks import one_thread
from t2i.evaluate.work_list import caption_hash
from t2i.storage import DataError

MEASURED = ("features", "statistics")
"""Folders from whose files the figures are recomputed."""


def verify(receipt: Receipt, reference: str | None = None) -> Iterator[Finding]:
    """Yield what was found of every file, caption list, image set and figure of a receipt.

    Figures are not recomputed from files that are not those of the receipt. ``reference`` is where the reference file
    of the evaluation lies now, None if it is where it was.

    Raises:
        DataError: a file cannot be read, other than by being missing.
    """
    packages = receipt.document["packages"]
    yield compared("packages", packages["sha256"], packages_hash(packages["list"]))
    files = check_files(receipt)
    yield from files
    damaged = {finding.name for finding in files if finding.problem}
    for each in receipt.sets:
        yield from check_captions(each)
        yield from check_reference_file(each, reference)
        if any(_is_measured(name, each) for name in damaged):
            yield Finding(f"{each.name}: figures", "not recomputed, as features or statistics are missing or changed")
            continue
        yield from check_pixels(each, receipt)
        yield from check_images(each, receipt.files)
        yield from check_figures(each, receipt, reference)


def _is_measured(file: str, stored: StoredSet) -> bool:
    """Return whether figures of a caption set are computed from a file."""
    folders = {entry["folder"] for entry in stored.entry["images"].values()}
    return any(file.startswith(f"{folder}/{part}/") for folder in folders for part in MEASURED)


def check_files(receipt: Receipt) -> list[Finding]:
    """Return for each file of the receipt whether it has the bytes that it had."""
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(lambda file: _hash_or_problem(f"{receipt.root}/{file}"), receipt.files)
        pairs = zip(receipt.files.items(), found, strict=True)
        return [Finding(file, "" if said == actual else _in_words(actual)) for (file, said), actual in pairs]


def _hash_or_problem(path: str) -> str:
    try:
        return sha256_of(path)
    except DataError as error:
        return f"cannot be read ({error})"


def _in_words(found: str) -> str:
    return found if " " in found else "has other bytes than it had"


def check_captions(stored: StoredSet) -> Iterator[Finding]:
    """Yield whether the list of captions is the one that was drawn, and in the order of the features."""
    try:
        items = stored.items
    except DataError as error:
        yield Finding(f"{stored.name}: captions", str(error))
        return
    said, ids = stored.entry["captions"]["sha256"], [item.id for item in items]
    yield compared(f"{stored.name}: captions", said, caption_hash(items))
    yield compared(f"{stored.name}: ids of captions", _hashed(stored.entry["caption_ids"]), _hashed(ids))


def _hashed(ids: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()


def check_reference_file(stored: StoredSet, reference: str | None) -> Iterator[Finding]:
    """Yield whether the reference file, if there is one, has the bytes that it had."""
    entry = stored.entry["reference"] or {}
    if "file" in entry:
        found = _hash_or_problem(reference or entry["file"])
        yield Finding(f"{stored.name}: reference", "" if found == entry["sha256"] else _in_words(found))


def check_images(stored: StoredSet, files: Mapping[str, str]) -> Iterator[Finding]:
    """Yield for each image set whether its images have the Merkle root, and its features the statistics, they had."""
    for name, images in stored.images.items():
        entry = stored.entry["images"][name]
        yield compared(f"{stored.name}: Merkle root of {name}", entry["merkle_root"], images.merkle_root)
    tasks = {
        (images, radius): _statistics_hash.remote(images, radius)
        for name, images in stored.images.items()
        for radius in stored.entry["images"][name]["radii"]
    }
    for (images, radius), task in tasks.items():
        file = images.layout.statistics(images.protocol, images.name, radius)
        said = files.get(file.removeprefix(f"{stored.root}/"))
        yield compared(f"{stored.name}: statistics of {images.name}{_at(radius)} from features", said, ray.get(task))


@one_thread
def _statistics_hash(images: ImageSet, radius: float) -> str:
    return hashlib.sha256(statistics_bytes(images.made_statistics(radius))).hexdigest()


def check_figures(stored: StoredSet, receipt: Receipt, reference: str | None) -> Iterator[Finding]:
    """Yield for each figure of a caption set whether it comes out again, and by how much it differs."""
    said = {figure_name(figure): figure for figure in stored.entry["figures"]}
    found = {figure_name(figure): figure for figure in map(_plain, recompute(stored, receipt, reference))}
    for name in dict.fromkeys([*said, *found]):
        yield Finding(f"{stored.name}: {name}", _difference(said.get(name), found.get(name)))


def recompute(stored: StoredSet, receipt: Receipt, reference: str | None) -> list[Figure]:
    """Return all figures of a caption set from what is stored, by the code that measured them."""
    settings, sets = receipt.document["settings"], list(stored.images.values())
    how = (receipt.extractor, settings["blur_radii"], settings["seed"], settings["overlap"])
    figures = measure(sets, stored.reference(reference), stored.captions, *how)
    return figures + (list(joint_elb_figures(stored.elb)) if stored.elb else [])


def figure_name(figure: Mapping[str, Any]) -> str:
    """Return what tells a figure from the others of its set: ``fid of best against real, blur 2``."""
    against = f" against {figure['reference']}" if figure["reference"] else ""
    return f"{figure['metric']} of {figure['subject']}{against}{_at(figure['blur'])}"


def _at(radius: float) -> str:
    return f", blur {radius:g}" if radius else ""


def _plain(figure: Figure) -> dict[str, Any]:
    """Return a figure as it is read from a receipt."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(figure)))
    return values


def _difference(said: Mapping[str, Any] | None, found: Mapping[str, Any] | None) -> str:
    """Return in words how two figures differ; empty if they are equal bit for bit."""
    if said is None or found is None:
        return "is not in the receipt" if said is None else "is in the receipt, and nothing stored gives it"
    other = [name for name in found if json.dumps(said.get(name)) != json.dumps(found[name])]
    if "value" in other:
        return f"the receipt says {said['value']}, found {found['value']}, {found['value'] - said['value']:+.3g}"
    return f"another {', '.join(other)}" if other else ""
