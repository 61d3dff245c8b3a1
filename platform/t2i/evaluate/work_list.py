"""The work list of an evaluation: every caption to draw, written to disk before the first is drawn.

What is missing at the end is found by comparing with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from models.errors import UserError
from models.manifest import model_hash
from models.run_layout import RunLayout
from t2i.data import Caption
from t2i.evaluate.config import EvaluateConfig
from t2i.storage import filesystem_for, write_file

FILE = "manifest.json"
"""Name of a work list's file; do not change it, as evaluations on disk use it."""


class IncompleteEvaluationError(UserError):
    """Captions of the work list have no candidates."""


@dataclass(frozen=True)
class WorkItem:
    """One caption to draw, and the seed from which its candidates' noise is made."""

    id: str
    caption: str
    seed: int


@dataclass(frozen=True)
class WorkList:
    """All captions of a set, and everything else that decides what their candidates look like.

    ``models`` maps the names of the run's models to hashes of their weights; ``pruning`` is None if nothing is pruned.
    """

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
        """SHA-256 of all ids and captions in order, by which reports distinguish caption sets of the same name."""
        return _hash([[item.id, item.caption] for item in self.items])

    @property
    def hash(self) -> str:
        """Eight hex digits of the SHA-256 of the whole work list; they name its directory."""
        return _hash(asdict(self))[:8]


def make_work_list(captions: Sequence[Caption], config: EvaluateConfig, models: dict[str, str]) -> WorkList:
    """Return a work list of ``captions``, each with a seed of its own, so that no two captions share their noise."""
    return WorkList(
        items=tuple(WorkItem(c.id, c.text, derived_seed(config.seed, c.id)) for c in captions),
        candidates=config.candidates,
        sampling=asdict(config.sampling),
        pruning=asdict(config.pruning) if config.pruning.prunes else None,
        seed=config.seed,
        dtype=config.dtype,
        compiled=config.compile,
        models=models,
    )


def write_work_list(work_list: WorkList, parent: str | Path) -> Path:
    """Write the work list into ``<parent>/<its hash>`` and return that directory.

    The same evaluation, started again, comes to the same directory and finds the captions that it had finished; an
    evaluation that differs in anything never does.
    """
    directory = Path(parent) / work_list.hash
    document = {"caption_hash": work_list.caption_hash} | asdict(work_list)
    write_file(*filesystem_for(directory / FILE), json.dumps(document, indent=1, ensure_ascii=False).encode())
    return directory


def require_complete(work_list: WorkList, finished: set[str], directory: Path) -> None:
    """Raise IncompleteEvaluationError if any caption of the work list has no candidates.

    Raises:
        IncompleteEvaluationError: an item of the work list is not in ``finished``.
    """
    # A pipeline that ended is no proof that every caption was drawn: an earlier run may have been killed, files may be
    # lost, and metrics of a part of the set would look like those of the whole. ``finished`` was read from the stored
    # files themselves. It may hold more than the work list; that is no error.
    missing = [item.id for item in work_list.items if item.id not in finished]
    if missing:
        total = len(work_list.items)
        raise IncompleteEvaluationError(
            f"{directory} lacks {len(missing)} of {total} captions (first: {missing[0]}): "
            "start the job again, what is finished is kept."
        )


def run_models(run: str | Path) -> dict[str, str]:
    """Return model name -> hash of its weights, for the four models of a run.

    Raises:
        CheckpointError: one is missing, incomplete or damaged.
    """
    return {name: model_hash(directory) for name, directory in RunLayout(run).models.items()}


def derived_seed(seed: int, name: str) -> int:
    """Return a seed in [0, 2^63) made of (seed, name) by SHA-256, so that it is the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8]) >> 1


def _hash(document: object) -> str:
    return hashlib.sha256(json.dumps(document, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
