"""The work list of an evaluation: every caption to draw, written before the first is drawn.

It is cut into shards of consecutive captions, which are drawn, stored and measured whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.errors import UserError
from models.manifest import model_hash
from models.run_layout import RunLayout
from t2i.data import Caption
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.layout import SetLayout
from t2i.storage import as_data_error, fetch_run, file_info, filesystem_for, read_file, write_file


class OtherEvaluationError(UserError):
    """A directory holds an evaluation of another configuration."""


@dataclass(frozen=True)
class WorkItem:
    """One caption to draw, the image that it describes ("" for none), and the seed of its candidates' noise."""

    id: str
    caption: str
    image_id: str
    seed: int


@dataclass(frozen=True)
class WorkList:
    """All captions of a set, and everything else that decides what their candidates look like.

    ``models`` maps the names of the run's models to hashes of their weights; ``pruning`` is None if nothing is pruned;
    ``shard`` is the number of captions of a shard, and ``keep`` says whose pixels are stored.
    """

    items: tuple[WorkItem, ...]
    candidates: int
    sampling: dict[str, float]
    pruning: dict[str, float] | None
    seed: int
    dtype: str
    compiled: bool
    models: dict[str, str]
    shard: int
    keep: str

    @property
    def caption_hash(self) -> str:
        """SHA-256 of all ids and captions in order, by which reports distinguish caption sets of the same name."""
        return caption_hash(self.items)

    @property
    def shards(self) -> list[tuple[WorkItem, ...]]:
        """The captions of each shard, in the list's order."""
        return [self.items[start : start + self.shard] for start in range(0, len(self.items), self.shard)]


def make_work_list(captions: Sequence[Caption], config: EvaluateConfig, models: dict[str, str]) -> WorkList:
    """Return a work list of ``captions``, each with a seed of its own, so that no two captions share their noise."""
    return WorkList(
        items=tuple(WorkItem(c.id, c.text, c.image_id, derived_seed(config.seed, c.id)) for c in captions),
        candidates=config.candidates,
        sampling=asdict(config.sampling),
        pruning=asdict(config.pruning) if config.pruning.prunes else None,
        seed=config.seed,
        dtype=config.dtype,
        compiled=config.compile,
        models=models,
        shard=config.shard,
        keep=config.keep,
    )


def check_work_list(work_list: WorkList, layout: SetLayout) -> None:
    """Check that nothing else has been drawn into the folder.

    Raises:
        OtherEvaluationError: it holds another work list; the message names what differs.
    """
    filesystem, path = filesystem_for(layout.work_list)
    with as_data_error(layout.work_list):
        if not file_info(filesystem, path).is_file:
            return
    saved, wanted = json.loads(read_file(layout.work_list)), _document(work_list)
    different = [name for name in wanted if saved.get(name) != wanted[name]]
    if different:
        differences = "; ".join(dict.fromkeys(_difference(name, saved.get(name), wanted[name]) for name in different))
        raise OtherEvaluationError(
            f"out: {layout.root} holds an evaluation with {differences}: name another out=, or ask for the same."
        )


def write_work_list(work_list: WorkList, layout: SetLayout) -> None:
    """Write the work list, by which the same evaluation finds what it had finished when it is started again."""
    text = json.dumps(_document(work_list), indent=1, ensure_ascii=False)
    write_file(*filesystem_for(layout.work_list), text.encode())


def caption_hash(items: Sequence[WorkItem]) -> str:
    """Return the SHA-256 of the ids and captions in order."""
    return _hash([[item.id, item.caption] for item in items])


def _document(work_list: WorkList) -> dict[str, Any]:
    document = {"caption_hash": work_list.caption_hash} | asdict(work_list)
    return document | {"items": [asdict(item) for item in work_list.items]}


def _difference(name: str, saved: Any, wanted: Any) -> str:
    """Return in words how one field of two work lists differs; of captions only that they do."""
    if name in ("items", "caption_hash"):
        return "other captions"
    return f"{name} {json.dumps(saved)} instead of {json.dumps(wanted)}"


def run_models(run: str | Path) -> dict[str, str]:
    """Return model name -> hash of its weights, for the four models of a run.

    Raises:
        CheckpointError: one is missing, incomplete or damaged.
    """
    return {name: model_hash(directory) for name, directory in RunLayout(fetch_run(run)).models.items()}


def derived_seed(seed: int, name: str) -> int:
    """Return a seed in [0, 2^63) made of (seed, name) by SHA-256, so that it is the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8]) >> 1


def _hash(document: object) -> str:
    return hashlib.sha256(json.dumps(document, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
