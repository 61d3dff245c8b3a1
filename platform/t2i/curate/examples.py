"""Choose a few of the images and captions that each filter dropped, as examples for the report."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from t2i.curate.caption_filters import CAPTION_FILTERS, CaptionJudge, caption_key
from t2i.curate.config import CaptionRules
from t2i.curate.decisions import IMAGE_FILTERS, Decisions
from t2i.curate.gather import CaptionJudgements, ImageMeasurements
from t2i.curate.index import index_files
from t2i.curate.overlap import Match
from t2i.storage import arrow_filesystem

BY_SIMILARITY = ("alike", "near", "eval_alike", "eval_near")
"""Filters with a similarity threshold: their examples are the least similar pairs dropped, to check the threshold."""


@dataclass(frozen=True)
class ShownImage:
    """An image of the report: its id, its thumbnail as a data URI (empty if it cannot be decoded), and its captions."""

    id: str
    uri: str
    captions: list[str]


@dataclass(frozen=True)
class Example:
    """An example of the report: an image, the image it is a copy of, if any, and a similarity or reason (``detail``).

    ``dropped`` is False for a pair of the contact sheet that is below the threshold.
    """

    image: ShownImage
    partner: ShownImage | None
    detail: str
    dropped: bool = True


class ThumbnailLookup:
    """Looks up thumbnails and captions by id in the indexes of the source and of the evaluation sets.

    ``directories`` maps the name of each evaluation set, and ``""`` for the source, to the directory of its index.
    """

    def __init__(self, directories: Mapping[str, str]) -> None:
        self.directories = directories

    def look_up(self, ids: Iterable[str], evaluation_set: str = "") -> dict[str, ShownImage]:
        """Return the images of one set (by default the source) by id; only their rows of the index are loaded."""
        filesystem, files = index_files(self.directories[evaluation_set])
        wanted = pc.field("id").isin(pa.array(sorted({*ids}), pa.string()))
        rows = pads.dataset(files, filesystem=arrow_filesystem(filesystem)).to_table(
            ["id", "captions", "thumbnail"], filter=wanted
        )
        return {
            row["id"]: ShownImage(row["id"], _data_uri(row["thumbnail"]), row["captions"]) for row in rows.to_pylist()
        }

    def look_up_evaluation(self, ids: Iterable[str]) -> dict[str, ShownImage]:
        """Return images of any evaluation sets by ``<set>/<id>``."""
        by_set: dict[str, list[str]] = {}
        for name, _, image_id in (eval_id.partition("/") for eval_id in ids):
            by_set.setdefault(name, []).append(image_id)
        return {
            f"{name}/{image_id}": shown
            for name, wanted in by_set.items()
            for image_id, shown in self.look_up(wanted, name).items()
        }


def image_examples(
    images: ImageMeasurements, decisions: Decisions, thumbnails: ThumbnailLookup, count: int
) -> dict[str, list[Example]]:
    """Return at most ``count`` examples of each image filter that dropped any."""
    chosen = {reason: _choose(decisions, reason, count) for reason in IMAGE_FILTERS}
    train_ids: list[str] = []
    eval_ids: list[str] = []
    for reason, rows in chosen.items():
        train_ids += images.id[rows].tolist()
        partners = [partner for partner in decisions.partner[rows] if partner]
        (eval_ids if reason.startswith("eval_") else train_ids).extend(partners)
    shown = thumbnails.look_up(train_ids) | thumbnails.look_up_evaluation(eval_ids)
    return {
        reason: [
            Example(shown[images.id[row]], shown.get(decisions.partner[row]), decisions.detail[row]) for row in rows
        ]
        for reason, rows in chosen.items()
        if rows
    }


def _choose(decisions: Decisions, reason: str, count: int) -> list[int]:
    """Return the rows of at most ``count`` images that a filter dropped."""
    rows = np.flatnonzero(decisions.reason == reason)
    if reason in BY_SIMILARITY:
        similarity = decisions.detail[rows].astype(float)
        chosen = rows[np.argsort(similarity, kind="stable")[:count]]
    else:
        chosen = _spread(rows, count)
    return [int(row) for row in chosen]


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    """Return at most ``count`` of the rows, evenly spaced."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, count).astype(int))] if len(rows) else rows


def closest_pairs(
    decisions: Decisions, thumbnails: ThumbnailLookup, threshold: float | None, count: int
) -> list[Example]:
    """Return the ``count`` pairs of CLIP matches whose cosine is closest to ``threshold``, the most similar first.

    They are the contact sheet by which the threshold of the overlap is set.
    """
    pairs = [match for match in decisions.matches if match.method == "clip"]
    nearest = sorted(pairs, key=lambda match: (abs(match.similarity - (threshold or 0)), match.train_id))[:count]
    nearest.sort(key=lambda match: (-match.similarity, match.train_id))
    train = thumbnails.look_up(match.train_id for match in nearest)
    evaluation = thumbnails.look_up_evaluation(match.eval_id for match in nearest)
    return [_pair(match, train, evaluation) for match in nearest]


def _pair(match: Match, train: Mapping[str, ShownImage], evaluation: Mapping[str, ShownImage]) -> Example:
    return Example(train[match.train_id], evaluation[match.eval_id], f"{match.similarity:.4f}", match.dropped)


def caption_examples(
    images: ImageMeasurements,
    captions: CaptionJudgements,
    decisions: Decisions,
    rules: CaptionRules,
    thumbnails: ThumbnailLookup,
    count: int,
) -> dict[str, list[str]]:
    """Return at most ``count`` different captions of each caption filter that dropped any."""
    judge, frequent = CaptionJudge(rules), set(decisions.frequent.tolist())
    keys = np.isin(captions.key, decisions.frequent)
    found: dict[str, list[str]] = {}
    for code, name in enumerate(CAPTION_FILTERS):
        rows = np.flatnonzero(keys if name == "frequent" else captions.code == code)
        _, first = np.unique(captions.key[rows], return_index=True)
        owners = images.id[captions.image[_spread(rows[np.sort(first)], count)]].tolist()
        # The driver has no texts, only measurements: look up all captions of these images, and judge them again.
        texts = [text for shown in thumbnails.look_up(owners).values() for text in shown.captions]
        chosen = [t for t in texts if (judge.judge(t).reason or _frequent(t, frequent)) == name]
        found[name] = list(dict.fromkeys(chosen))[:count]
    return {name: texts for name, texts in found.items() if texts}


def _frequent(caption: str, frequent: set[int]) -> str:
    return "frequent" if caption_key(caption) in frequent else ""


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" if jpeg else ""
