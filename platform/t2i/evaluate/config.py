"""Settings of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from models.dtypes import COMPILE_MEANING, PRIOR_DTYPE_MEANING, PRIOR_DTYPES, check_dtype
from models.settings import AUTO, setting
from t2i.data import SourceConfig
from t2i.data.transforms import CROPS
from t2i.engine import PARALLEL_MEANING, PruningParams, window_of
from t2i.evaluate.caption_sets import CaptionSet as CaptionSet
from t2i.evaluate.protocols import list_protocols, protocol_names
from t2i.metrics.features import ExtractorConfig
from t2i.sampling import SamplingParams
from t2i.storage import run_setting

PICKS = ("first", "random", "all")
REFERENCES = ("same", "all", "train")
EMOJI = "jobs/datasets/emoji64"
KEEP = ("all", "best", "none")
MIN_IMAGES = 20
"""Fewest images on either side of a distance."""


@dataclass
class TrainingSource(SourceConfig):
    """The training images; without a path, those that the run records."""

    path: str = setting(
        "", "training images to compare as well; empty: the run's own; training_source=null: none", path="read"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.path and any(getattr(self, field.name) != field.default for field in fields(self)):
            raise ValueError("training_source.path is empty: give it as well, or none of training_source's fields.")


@dataclass
class ActorPool:
    """A pool of Ray actors that run one stage: how many, and which share of the machine each has."""

    actors: int = setting(1, "actors, each with its own copy of the models", at_least=1)
    cpus: float = setting(0.25, "logical CPUs per actor; below 2 an actor computes on one thread", at_least=0)
    gpus: float = setting(0.0, "GPUs per actor", at_least=0)


def emoji_sets() -> list[CaptionSet]:
    """Return the default caption set: the emoji of emoji64 that no model was trained on.

    ``val`` has concepts that training shows in other styles only, ``test`` concepts that it never shows.
    """
    return [CaptionSet(name, SourceConfig(f"{EMOJI}/{name}.parquet")) for name in ("val", "test")]


@dataclass
class EvaluateConfig:
    """Which captions to draw, how, and what to compare the images with.

    The default actor pools together fit two cores.
    """

    run: str = run_setting("runs/tiny")
    out: str = setting("${run}/eval", "directory of the report and of everything it is made from", path="written")
    sets: list[CaptionSet] = setting(emoji_sets, "caption sets; each gets a section of the report")
    captions: int | None = setting(None, "captions drawn at random from each set; empty takes all", at_least=1)
    candidates: int = setting(8, "images drawn per caption; CLIP picks the best", at_least=1)
    keep: str = setting("best", "whose pixels are stored: all, best or none; tokens and scores always are")
    shard: int = setting(16, "captions that are drawn, stored and measured together", at_least=1)
    sampling: SamplingParams = setting(SamplingParams, "how tokens are drawn")
    pruning: PruningParams = setting(
        PruningParams, "whether candidates whose first rows fit the caption badly are stopped early"
    )
    seed: int = setting(0, "seed of the choice of captions, of image tokens and of controls", at_least=0)
    dtype: str = setting("float32", f"{PRIOR_DTYPE_MEANING}; the extractor and elb stay in float32")
    parallel: str = setting(AUTO, PARALLEL_MEANING)
    compile: bool = setting(False, COMPILE_MEANING)
    blur_radii: list[float] = setting(
        lambda: [0.0], "radii in px of the blur of both sides, 0 first; the paper: [0,1,2,4,8]", at_least=0
    )
    extractor: ExtractorConfig = setting(ExtractorConfig, "network whose features the distances compare")
    reference: str | None = setting(
        None, "reference-*.npz of another evaluation, to compare with instead of the sets' own images", path="read"
    )
    elb: bool = setting(False, "also measure the evidence lower bound on ln p(image, caption), in bits per dimension")
    training_source: TrainingSource | None = setting(
        TrainingSource, "training images, to be compared with each set like generated ones; null: none"
    )
    training_images: int = setting(1000, "how many training images are measured", at_least=1)
    overlap: float | None = setting(
        None,
        "measure again without real images whose CLIP cosine with a training image is at least this; empty: do not",
        above=0,
        at_most=1,
    )
    shown: int = setting(12, "captions in each gallery of the report, and in the contact sheet", at_least=0)
    shown_candidates: int = setting(
        8, "best candidates that are shown of each caption; 1: the contact sheet is a grid", at_least=1
    )
    slots: int = setting(64, "candidates that one actor draws at once", at_least=1)
    generate: ActorPool = setting(lambda: ActorPool(actors=2), "actors that sample tokens: the prior")
    score: ActorPool = setting(ActorPool, "actors that decode and rank: dVAE decoder and CLIP")
    controls: ActorPool = setting(ActorPool, "actors for dVAE reconstructions, random tokens and elb")
    extract: ActorPool = setting(lambda: ActorPool(actors=2), "actors that measure images: feature extractor and CLIP")
    protocol: str | None = setting(
        None, f"conventions of published work, for all that is not given: {', '.join(protocol_names())}; see below"
    )
    conventions: str = setting("", "whose conventions these are, for the report; protocol= sets it")
    pick: str = setting("first", f"which captions of an image may be drawn: {', '.join(PICKS)} (pooled)")
    reference_images: str = setting(
        "same",
        "images to compare with: same, those that the drawn captions describe; all of the set; "
        "train: all of sets.reference, which holds training images",
    )
    image_size: int | None = setting(
        None, "height and width in px of both sides before features are taken; empty: as drawn", at_least=1
    )
    crop: str = setting("centre", f"how real images become square: {', '.join(CROPS)} (out of proportion)")

    @staticmethod
    def help_notes() -> list[str]:
        """Return lines that end the help text: what ``protocol`` may be."""
        return ["", "protocol=", *list_protocols()]

    def __post_init__(self) -> None:
        _check_choice("protocol", self.protocol, (None, *protocol_names()))
        _check_choice("pick", self.pick, PICKS)
        _check_choice("reference_images", self.reference_images, REFERENCES)
        _check_choice("crop", self.crop, tuple(CROPS))
        check_dtype(self.dtype, PRIOR_DTYPES)
        window_of(self.parallel)  # raises if it is none
        _check_choice("keep", self.keep, KEEP)
        if self.training_images < MIN_IMAGES:
            raise ValueError(
                f"training_images is {self.training_images}: use at least {MIN_IMAGES}, or training_source=null."
            )
        if not self.blur_radii or self.blur_radii[0] != 0:
            raise ValueError(f"blur_radii is {self.blur_radii}: begin with 0, then radii above it.")
        if len({caption_set.name for caption_set in self.sets}) < len(self.sets) or not self.sets:
            raise ValueError("sets: give at least one, and each a name of its own.")
        lacks = [each.name for each in self.sets if each.images and each.reference is None]
        if self.reference_images == "train" and lacks:
            raise ValueError(f"reference_images is 'train': give {lacks[0]} of sets a reference, the training images.")

    def for_workers(self) -> EvaluateConfig:
        """Return these settings without what a job's subclass adds, which workers cannot import."""
        return EvaluateConfig(**{field.name: getattr(self, field.name) for field in fields(EvaluateConfig)})


def _check_choice(field: str, value: str | None, choices: Sequence[str | None]) -> None:
    """Raise ValueError if a field has none of the values it may have."""
    if value not in choices:
        raise ValueError(f"{field} is {value!r}: use {', '.join(filter(None, choices))}.")
