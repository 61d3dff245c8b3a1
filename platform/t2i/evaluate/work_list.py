"""The work list of an evaluation, written before any work, so that what is missing at the end cannot go unseen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from models.errors import UserError
from models.manifest import model_hash
from models.run_layout import RunLayout
from t2i.data import Caption, read_captions
from t2i.evaluate.config import MIN_IMAGES, CaptionSet, EvaluateConfig
from t2i.storage import filesystem_for, write_file

FILE = "manifest.json"


class TooFewCaptions(UserError):
    """A set is too small for the distances that are asked for."""


class IncompleteEvaluation(UserError):
    """Captions of the manifest have no result."""


@dataclass(frozen=True)
class WorkItem:
    """One caption to draw, under the seed of its candidates' noise."""

    id: str
    caption: str
    seed: int


@dataclass(frozen=True)
class WorkList:
    """All captions of a set, and everything else that decides what their candidates look like."""

    items: tuple[WorkItem, ...]
    candidates: int
    sampling: dict[str, float]
    pruning: dict[str, float] | None
    seed: int
    dtype: str
    compiled: bool
    models: dict[str, str]

    @property
    def caption_hash(self) -> str:
        """SHA-256 of the list of ids and captions: two sets of the same name are often not the same captions."""
        return _hash([[item.id, item.caption] for item in self.items])

    @property
    def hash(self) -> str:
        """Eight hex digits that name the whole work list."""
        return _hash(asdict(self))[:8]


def make_work_list(captions: Sequence[Caption], config: EvaluateConfig, models: dict[str, str]) -> WorkList:
    """Give each caption a seed of its own, so that the noise of two captions is independent."""
    items = tuple(WorkItem(c.id, c.text, derived_seed(config.seed, c.id)) for c in captions)
    pruning = asdict(config.pruning) if config.pruning.prunes else None
    drawing = (config.candidates, asdict(config.sampling), pruning, config.seed)
    return WorkList(items, *drawing, config.dtype, config.compile, models)


def write_work_list(work_list: WorkList, parent: str | Path) -> Path:
    """Write the manifest into ``<parent>/<its hash>`` and return that directory.

    The same evaluation finds its finished captions there again, and another never does.
    """
    directory = Path(parent) / work_list.hash
    document = {"caption_hash": work_list.caption_hash} | asdict(work_list)
    write_file(*filesystem_for(directory / FILE), json.dumps(document, indent=1, ensure_ascii=False).encode())
    return directory


def require_complete(work_list: WorkList, finished: set[str], directory: Path) -> None:
    """Refuse to summarise a generation that died half-way.

    Raises:
        IncompleteEvaluation: an item has no result.
    """
    missing = [item.id for item in work_list.items if item.id not in finished]
    if missing:
        total = len(work_list.items)
        raise IncompleteEvaluation(
            f"{directory} lacks {len(missing)} of {total} captions (first: {missing[0]}): "
            "start the job again, what is finished is kept."
        )


def run_models(run: str | Path) -> dict[str, str]:
    """Model name -> hash of its weights, for the four models of a run.

    Raises:
        CheckpointError: one is missing, incomplete or damaged.
    """
    return {name: model_hash(directory) for name, directory in RunLayout(run).models.items()}


def choose_captions(caption_set: CaptionSet, config: EvaluateConfig) -> list[Caption]:
    """The captions of a set that are evaluated.

    Raises:
        DataError: the source cannot be read.
        TooFewCaptions: they are to be compared with images, and there are under 20.
    """
    captions = sample_captions(read_captions(caption_set.source), config.captions, config.seed)
    if caption_set.images and len(captions) < MIN_IMAGES:
        raise TooFewCaptions(
            f"sets: {caption_set.name} has {len(captions)} captions to compare with images: "
            f"use at least {MIN_IMAGES}, or images=false."
        )
    return captions


def sample_captions(captions: Sequence[Caption], count: int | None, seed: int) -> list[Caption]:
    """``count`` of the captions, drawn with ``seed`` and kept in their order; all where ``count`` is empty."""
    if count is None or count >= len(captions):
        return list(captions)
    chosen = np.random.default_rng(seed).choice(len(captions), count, replace=False)
    return [captions[index] for index in sorted(chosen)]


def derived_seed(seed: int, name: str) -> int:
    """A seed in [0, 2^63) that differs for every (seed, name) and is the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8]) >> 1


def _hash(document: object) -> str:
    return hashlib.sha256(json.dumps(document, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
