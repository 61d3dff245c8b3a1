"""Compare two evaluations by their receipts: what makes them incomparable, else the difference of each figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.errors import UserError
from t2i.evaluate.receipts.stored import Receipt, StoredSet
from t2i.evaluate.receipts.verify import figure_name
from t2i.metrics.clip_score import clip_score, cosine
from t2i.metrics.intervals import bootstrap_mean
from t2i.storage import DataError

OF_CLIP = ("clip_", "cmmd")
"""Beginnings of the names of metrics that depend on the run's CLIP."""

PAIRED = {"clip_score": clip_score, "clip_cosine": cosine}
"""Figures that are means over captions, and what each caption contributes."""


class IncomparableReceiptsError(UserError):
    """Two receipts have nothing in common that could be compared."""


@dataclass(frozen=True)
class Difference:
    """A figure of two evaluations, and the interval of ``b`` - ``a`` (None if a figure has none) with its method."""

    name: str
    a: float
    b: float
    interval: tuple[float, float] | None
    method: str = ""

    @property
    def value(self) -> float:
        """The difference."""
        return self.b - self.a


def compare(a: Receipt, b: Receipt) -> dict[str, list[Difference]]:
    """Return caption set -> differences of the figures that both receipts have.

    Figures that depend on CLIP are left out if the runs have different ones.

    Raises:
        IncomparableReceiptsError: images, captions or the way of measuring differ; names the first field.
    """
    _check_measuring(a.document["measuring"], b.document["measuring"])
    others = {each.name: each for each in b.sets}
    pairs = [(each, others[each.name]) for each in a.sets if each.name in others]
    if not pairs:
        raise IncomparableReceiptsError("sets: the receipts have none of the same name, so compare others.")
    for each, other in pairs:
        _check_set(each.entry, other.entry)
    same_clip = a.document["measuring"]["clip"] == b.document["measuring"]["clip"]
    return {each.name: list(_differences(each, other, same_clip)) for each, other in pairs}


def _check_measuring(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Raise IncomparableReceiptsError if images were prepared or measured in other ways; blur may have other radii."""
    for name in ("image_size", "real_images", "blur"):
        _require_same(f"measuring.{name}", a[name], b[name])
    for name in a["extractor"]:
        _require_same(f"measuring.extractor.{name}", a["extractor"][name], b["extractor"].get(name))


def _check_set(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Raise IncomparableReceiptsError if captions, or the real images, are others."""
    name = f"sets.{a['name']}"
    _require_same(f"{name}.captions.sha256", a["captions"]["sha256"], b["captions"]["sha256"])
    _require_same(f"{name}.reference", _identity(a), _identity(b))


def _identity(entry: Mapping[str, Any]) -> str | None:
    """Return the hash of what a set's images were compared with; None if they were not."""
    reference = entry["reference"]
    if reference is None:
        return None
    return str(reference["sha256"] if "file" in reference else entry["images"]["real"]["merkle_root"])


def _require_same(field: str, a: Any, b: Any) -> None:
    if a != b:
        raise IncomparableReceiptsError(f"{field} is {a} in the one and {b} in the other: evaluate both in one way.")


def _differences(a: StoredSet, b: StoredSet, same_clip: bool) -> Iterator[Difference]:
    """Yield the differences of the figures of one caption set, in the order of ``a``."""
    others = {figure_name(figure): figure for figure in b.entry["figures"]}
    for figure in a.entry["figures"]:
        name = figure_name(figure)
        if name in others and (same_clip or not figure["metric"].startswith(OF_CLIP)):
            yield Difference(name, figure["value"], others[name]["value"], *_interval(a, b, figure, others[name]))


def _interval(
    a: StoredSet, b: StoredSet, said: Mapping[str, Any], other: Mapping[str, Any]
) -> tuple[tuple[float, float] | None, str]:
    """Return the interval of a figure's difference, and how it was found."""
    if said["interval"] is None or other["interval"] is None:
        return None, ""
    if paired := _paired_interval(a, b, said["metric"], said["subject"]):
        return paired, "paired bootstrap over captions"
    return difference_interval(_bounds(said), _bounds(other)), "from both intervals"


def _paired_interval(a: StoredSet, b: StoredSet, metric: str, subject: str) -> tuple[float, float] | None:
    """Return the bootstrap's interval of the mean difference caption by caption.

    None if the figure is no mean over captions, or the features of an evaluation are not at hand.
    """
    if metric not in PAIRED or subject not in a.images or subject not in b.images:
        return None
    try:
        differences = _by_caption(b, metric, subject) - _by_caption(a, metric, subject)
    except DataError:
        return None
    found = bootstrap_mean(differences)
    return found.low, found.high


def _by_caption(stored: StoredSet, metric: str, subject: str) -> np.ndarray:
    """Return what each image of a set contributes to a mean over captions, float [n]."""
    images = stored.images[subject]
    captions = stored.captions.of(images)
    values: np.ndarray = PAIRED[metric](images.clip, np.stack([captions[image_id] for image_id in images.ids]))
    return values


def _bounds(figure: Mapping[str, Any]) -> tuple[float, float, float]:
    return figure["value"], figure["interval"]["low"], figure["interval"]["high"]


def difference_interval(a: tuple[float, float, float], b: tuple[float, float, float]) -> tuple[float, float]:
    """Return the interval of b - a, where both are (value, low, high) at one level and independent.

    This is MOVER (Zou and Donner 2008, Statistics in Medicine 27): the distances to the nearer ends add up in squares.
    Evaluations of the same captions are no independent samples: where they go up and down together, it is too wide.
    """
    (value_a, low_a, high_a), (value_b, low_b, high_b) = a, b
    difference = value_b - value_a
    below = np.hypot(value_b - low_b, high_a - value_a)
    above = np.hypot(high_b - value_b, value_a - low_a)
    return float(difference - below), float(difference + above)


def other_settings(a: Receipt, b: Receipt) -> list[str]:
    """Return in words what else differs between two comparable receipts: models, drawing, code, packages."""
    said, other = _what_was_run(a), _what_was_run(b)
    return [f"{name}: {said[name]} | {other.get(name)}" for name in said if said[name] != other.get(name)]


def _what_was_run(receipt: Receipt) -> dict[str, Any]:
    document = receipt.document
    drawing = {f"{each['name']}.{name}": value for each in document["sets"] for name, value in each["drawing"].items()}
    machines = {name: document["circumstances"]["hardware"][name] for name in ("cpu", "gpus")}
    return {"commit": document["code"]["commit"], "packages": document["packages"]["sha256"], **machines, **drawing}


def comparison_text(differences: Mapping[str, list[Difference]], others: list[str]) -> str:
    """Return differences by caption set as a table, below what else differs."""
    lines = ["other in the two evaluations (first | second):", *(f"  {other}" for other in others)] if others else []
    for name, found in differences.items():
        lines += ["", f"{name}{'':<{46 - len(name)}} {'first':>12} {'second':>12} {'difference':>12}  interval"]
        lines += [_line(difference) for difference in found]
    return "\n".join(lines)


def _line(difference: Difference) -> str:
    low, high = difference.interval or (None, None)
    interval = "none" if low is None else f"{low:+.4g} to {high:+.4g}, {difference.method}"
    numbers = f"{difference.a:>12.6g} {difference.b:>12.6g} {difference.value:>+12.4g}"
    return f"  {difference.name:<44} {numbers}  {interval}"
