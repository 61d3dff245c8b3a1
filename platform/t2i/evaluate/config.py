"""What an evaluation is told."""

from __future__ import annotations

from dataclasses import dataclass

from models.precision import COMPILE_MEANING, PRIOR_DTYPE_MEANING, PRIOR_DTYPES, check_dtype
from models.settings import setting
from t2i.data import SourceConfig
from t2i.engine import PruningParams
from t2i.metrics.features import ExtractorConfig
from t2i.sampling import SamplingParams

EMOJI = "jobs/datasets/emoji64"
MIN_IMAGES = 20
"""Images that a distance needs on each side."""


@dataclass
class CaptionSet:
    """A named list of captions, and usually the images they describe."""

    name: str = setting("val", "name of the set in the report")
    source: SourceConfig = setting(SourceConfig, "captions, and images unless images=false")
    images: bool = setting(True, "compare with the set's own images; false for plain prompts")

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ValueError(f"sets.name is {self.name!r}: use a word that can name a folder.")


@dataclass
class Pool:
    """Actors of one stage."""

    actors: int = setting(1, "actors, each with its own copy of the models")
    cpus: float = setting(0.25, "logical CPUs of each; below two, each computes on one thread")
    gpus: float = setting(0.0, "GPUs of each")
    batch: int = setting(32, "captions or images per call")


def emoji_sets() -> list[CaptionSet]:
    """Unseen (concept, style) cells, and concepts never seen in training."""
    return [CaptionSet(name, SourceConfig(f"{EMOJI}/{name}.parquet")) for name in ("val", "test")]


@dataclass
class EvaluateConfig:
    """Which captions to draw, how, and what to compare the images with. The pools together fit two cores."""

    preset: str = setting("tiny", "model sizes: see models/presets.py")
    run: str = setting("runs/${preset}", "run directory with tokenizer, dvae, prior and clip")
    out: str = setting("${run}/eval", "where the report and all that it rests on go")
    sets: list[CaptionSet] = setting(emoji_sets, "caption sets, one section of the report each")
    captions: int | None = setting(None, "captions drawn at random from each set; empty takes all")
    candidates: int = setting(8, "images drawn per caption; CLIP picks the best")
    sampling: SamplingParams = setting(SamplingParams, "how tokens are drawn")
    pruning: PruningParams = setting(PruningParams, "whether hopeless candidates are stopped half-way")
    seed: int = setting(0, "decides captions, image tokens, controls and subsets")
    dtype: str = setting("float32", f"{PRIOR_DTYPE_MEANING}; the extractor and the bound stay in float32")
    compile: bool = setting(False, COMPILE_MEANING)
    blur_radii: list[float] = setting(lambda: [0.0], "PIL blur of both sides, 0 first; the paper: [0,1,2,4,8]")
    extractor: ExtractorConfig = setting(ExtractorConfig, "network behind the distances")
    elb: bool = setting(False, "also bound the likelihood ln p(image, caption), in bits per dimension")
    floor: SourceConfig | None = setting(SourceConfig, "training images, compared with each set; null: none")
    floor_images: int = setting(1000, "how many of them")
    shown: int = setting(12, "captions in each gallery of the report")
    slots: int = setting(64, "candidates that a generator runs at once")
    generate: Pool = setting(lambda: Pool(actors=2, batch=16), "prior and dVAE decoder; batch in captions")
    score: Pool = setting(lambda: Pool(batch=16), "CLIP ranking; batch in captions")
    controls: Pool = setting(Pool, "dVAE reconstructions and random tokens; batch in images")
    extract: Pool = setting(lambda: Pool(actors=2), "feature extractor and CLIP; batch in images")

    def __post_init__(self) -> None:
        check_dtype(self.dtype, PRIOR_DTYPES)
        if self.candidates < 1:
            raise ValueError(f"candidates is {self.candidates}: draw at least 1 image per caption.")
        if self.floor_images < MIN_IMAGES:
            raise ValueError(f"floor_images is {self.floor_images}: use at least {MIN_IMAGES}, or floor=null.")
        if not self.blur_radii or self.blur_radii[0] != 0 or min(self.blur_radii) < 0:
            raise ValueError(f"blur_radii is {self.blur_radii}: begin with 0, then radii above it.")
        if len({caption_set.name for caption_set in self.sets}) < len(self.sets) or not self.sets:
            raise ValueError("sets: give at least one, and each a name of its own.")
