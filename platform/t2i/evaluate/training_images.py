"""Which training images are measured as a control: what a model would score that only repeats what it was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.errors import UserError
from t2i.config import recorded
from t2i.data import SourceConfig, read_captions
from t2i.data.run_record import training_source
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.selection import sample_captions

POOL = 20_000
"""First rows of the training data from which the control is drawn, so that a large set is not read to its end."""


@dataclass(frozen=True)
class TrainingImages:
    """The ``ids`` of the training images to measure in ``source``; None if there are none, and ``note`` says why.

    ``given`` tells a source that the user named, which has to be usable, from one that the run records.
    """

    note: str
    source: SourceConfig | None = None
    ids: Sequence[str] = ()
    given: bool = False


def choose_training_images(config: EvaluateConfig) -> TrainingImages:
    """Return training images drawn at random: of the given source, else of that which the run records.

    A recorded source that cannot be read here is left out, with a note for the report.

    Raises:
        UserError: the given source cannot be read.
    """
    if config.training_source is None:
        return TrainingImages("none: training_source=null")
    if not any(caption_set.images for caption_set in config.sets):
        return TrainingImages("none: no set has images to compare them with")
    if config.training_source.path:
        return replace(_choose(config.training_source, config), given=True)
    try:
        source = training_source(config.run)
        return _choose(source, config) if source else TrainingImages("none: the run does not record its data")
    except UserError as error:
        return TrainingImages(f"none: {error}")


def _choose(source: SourceConfig, config: EvaluateConfig) -> TrainingImages:
    pool = replace(source, limit=min(source.limit or POOL, POOL))
    captions = read_captions(pool)
    ids = [caption.id for caption in sample_captions(captions, config.training_images, config.seed)]
    return TrainingImages(f"{len(ids)} of the first {len(captions)} of {recorded(source)['path']}", pool, ids)
