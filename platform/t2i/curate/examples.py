"""What the filters dropped, to be looked at: a few images and captions of each."""

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

DOUBTFUL_FIRST = ("alike", "near", "eval_alike", "eval_near")
"""Filters by a similarity: their examples are the least similar pairs, which their bound has to be set by."""


@dataclass(frozen=True)
class ShownImage:
    """An image as a data URI (empty: it cannot be shown) with its id and captions."""

    id: str
    uri: str
    captions: list[str]


@dataclass(frozen=True)
class Example:
    """A dropped image or a pair, and the number or reason behind it."""

    image: ShownImage
    partner: ShownImage | None
    detail: str
    dropped: bool = True


class ThumbnailLookup:
    """Thumbnails and captions by id, from the indexes of the source and of the evaluation sets (``set/id``)."""

    def __init__(self, directories: Mapping[str, str]) -> None:
        self.directories = directories

    def look_up(self, ids: Iterable[str], set: str = "") -> dict[str, ShownImage]:
        """``ids`` of one set -> what there is to show; only their rows of the index are held."""
        filesystem, files = index_files(self.directories[set])
        wanted = pc.field("id").isin(pa.array(sorted({*ids}), pa.string()))
        rows = pads.dataset(files, filesystem=filesystem).to_table(["id", "captions", "thumbnail"], filter=wanted)
        return {row["id"]: ShownImage(row["id"], _data_uri(row["thumbnail"]), row["captions"]) for row in rows.to_pylist()}

    def look_up_evaluation(self, ids: Iterable[str]) -> dict[str, ShownImage]:
        """``set/id`` of any evaluation sets -> what there is to show."""
        by_set: dict[str, list[str]] = {}
        for name, _, id in (id.partition("/") for id in ids):
            by_set.setdefault(name, []).append(id)
        return {
            f"{name}/{id}": shown for name, wanted in by_set.items() for id, shown in self.look_up(wanted, name).items()
        }


def image_examples(images: ImageMeasurements, decisions: Decisions, album: ThumbnailLookup, count: int) -> dict[str, list[Example]]:
    """At most ``count`` images of each filter that dropped any."""
    places = {reason: _choose(decisions, reason, count) for reason in IMAGE_FILTERS}
    every = [place for chosen in places.values() for place in chosen]
    to_evaluation = {place for reason, chosen in places.items() if reason.startswith("eval_") for place in chosen}
    partners = {place: decisions.partner[place] for place in every if decisions.partner[place]}
    shown = album.look_up(images.id[every].tolist() + [p for at, p in partners.items() if at not in to_evaluation])
    shown |= album.look_up_evaluation(p for at, p in partners.items() if at in to_evaluation)
    return {
        reason: [
            Example(shown[images.id[place]], shown.get(decisions.partner[place]), decisions.detail[place])
            for place in chosen
        ]
        for reason, chosen in places.items()
        if chosen
    }


def _choose(decisions: Decisions, reason: str, count: int) -> list[int]:
    places = np.flatnonzero(decisions.reason == reason)
    if reason in DOUBTFUL_FIRST:
        similarity = decisions.detail[places].astype(float)
        return places[np.argsort(similarity, kind="stable")[:count]].tolist()
    return _spread(places, count).tolist()


def _spread(places: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` of the places, evenly spaced."""
    return places[np.unique(np.linspace(0, len(places) - 1, count).astype(int))] if len(places) else places


def closest_pairs(decisions: Decisions, album: ThumbnailLookup, threshold: float | None, count: int) -> list[Example]:
    """The contact sheet that the overlap's threshold is set by: pairs on both sides of it, the most similar first."""
    pairs = [match for match in decisions.matches if match.method == "clip"]
    nearest = sorted(pairs, key=lambda match: (abs(match.similarity - (threshold or 0)), match.train_id))[:count]
    nearest.sort(key=lambda match: (-match.similarity, match.train_id))
    train = album.look_up(match.train_id for match in nearest)
    evaluation = album.look_up_evaluation(match.eval_id for match in nearest)
    return [_pair(match, train, evaluation) for match in nearest]


def _pair(match: Match, train: Mapping[str, ShownImage], evaluation: Mapping[str, ShownImage]) -> Example:
    return Example(train[match.train_id], evaluation[match.eval_id], f"{match.similarity:.4f}", match.dropped)


def caption_examples(
    images: ImageMeasurements, captions: CaptionJudgements, decisions: Decisions, rules: CaptionRules, album: ThumbnailLookup, count: int
) -> dict[str, list[str]]:
    """At most ``count`` different captions of each filter that dropped any; of the frequent ones, how many."""
    judge, frequent = CaptionJudge(rules), set(decisions.frequent.tolist())
    keys = np.isin(captions.key, decisions.frequent)
    found: dict[str, list[str]] = {}
    for code, name in enumerate(CAPTION_FILTERS):
        places = np.flatnonzero(keys if name == "frequent" else captions.code == code)
        _, first = np.unique(captions.key[places], return_index=True)
        owners = images.id[captions.image[_spread(places[np.sort(first)], count)]].tolist()
        texts = [text for shown in album.look_up(owners).values() for text in shown.captions]
        chosen = [t for t in texts if (judge.judge(t).reason or _frequent(t, frequent)) == name]
        found[name] = list(dict.fromkeys(chosen))[:count]
    return {name: texts for name, texts in found.items() if texts}


def _frequent(caption: str, frequent: set[int]) -> str:
    return "frequent" if caption_key(caption) in frequent else ""


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" if jpeg else ""
