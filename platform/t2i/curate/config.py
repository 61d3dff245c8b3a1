"""What a curation is told."""

from __future__ import annotations

import re
from dataclasses import dataclass

from models.settings import setting
from t2i.data.source import SourceConfig

MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
DAY = r"\d{1,2}(?:st|nd|rd|th)?"
DATE = (
    r"(?:\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{2,4}"
    rf"|(?:{DAY} )?{MONTH}\.?,? (?:{DAY},? )?\d{{4}})"
)
BOILERPLATE = (
    rf"\b(?:photographed|(?:photos?|pictures?|images?)(?: taken)?|taken|captured|uploaded|posted|scanned) on {DATE}",
    r"\b(?:taken|shot|captured|uploaded|posted) (?:with|by|from|using|via) (?:an? |my )?(?:iphone|ipad|android|canon"
    r"|nikon|sony|olympus|instagram|flickr)\b.*",
    r"\b(?:img|dsc[nf]?|pict?|mvi|gopr|dji|scan|image|photo|picture|screen ?shot|untitled)[ _-]?\d[\d_-]*"
    r"(?:\.[a-z]{3,4})?\b",
    r"^untitled$|\bno (?:title|caption|description)(?: available)?\b",
    r"\ball rights reserved\b|(?:©|\(c\)|\bcopyright(?= by\b| \d{4}))(?: ?\w+){1,4}",
    r"\bhttps?://\S+|\bwww\.\S+",
    DATE,
)
"""What says nothing of the picture, unless other expressions are given; case does not matter."""


@dataclass
class ImageRules:
    """Which images are kept. The paper names the aspect ratio alone."""

    max_aspect: float = setting(2.0, "longest side over shortest, at most")
    min_side: int = setting(32, "shortest side in pixels, at least")

    def __post_init__(self) -> None:
        if self.max_aspect < 1:
            raise ValueError(f"images.max_aspect is {self.max_aspect}: use 1 (squares alone) or more.")
        if self.min_side < 1:
            raise ValueError(f"images.min_side is {self.min_side}: use 1 or more.")


@dataclass
class CaptionRules:
    """Which captions are kept; an image goes when none of its captions is left."""

    min_letters: int = setting(4, "letters of any script, at least")
    min_words: int = setting(2, "words, at least; scripts without spaces are exempt")
    boilerplate: list[str] | None = setting(None, "regular expressions for what says nothing; empty: settings.py's")
    boilerplate_share: float = setting(0.5, "drop captions whose letters and digits are boilerplate by this share")
    max_repeats: int | None = setting(1000, "drop captions of more images than this, digits alike; empty: never")
    english: bool = setting(True, "drop what is not English")
    judged_letters: int = setting(10, "with fewer letters a caption in Latin script is too short to tell, and stays")
    odds: float = setting(20.0, "not English: another language is this many times as likely")

    def __post_init__(self) -> None:
        for pattern in self.patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"captions.boilerplate: {pattern!r} is no regular expression ({error}).") from error
        if not 0 < self.boilerplate_share <= 1:
            raise ValueError(f"captions.boilerplate_share is {self.boilerplate_share}: use above 0 and at most 1.")
        if self.max_repeats is not None and self.max_repeats < 1:
            raise ValueError(f"captions.max_repeats is {self.max_repeats}: use 1 or more, or leave it empty.")
        if self.odds < 1:
            raise ValueError(f"captions.odds is {self.odds}: use 1 or more.")

    @property
    def patterns(self) -> list[str]:
        """The regular expressions in use."""
        return list(BOILERPLATE) if self.boilerplate is None else self.boilerplate


@dataclass
class DuplicateRules:
    """When two images are the same; of those the largest stays, and of equally large ones the smallest id."""

    bits: int = setting(4, "of 64 in the perceptual hash that may differ; -1: only identical pixels are the same")
    colour: int = setting(24, "levels of 255 by which any of 8 x 8 mean colours may differ besides")
    cosine: float | None = setting(0.97, "CLIP cosine of near-duplicates, at least; empty: no such search")

    def __post_init__(self) -> None:
        if not -1 <= self.bits <= 16:
            raise ValueError(f"duplicates.bits is {self.bits}: use -1 to 16.")
        if not 0 <= self.colour <= 255:
            raise ValueError(f"duplicates.colour is {self.colour}: use 0 to 255.")
        _check_cosine("duplicates", self.cosine)


@dataclass
class EvaluationSet:
    """ImageMeasurements that training must not see."""

    name: str = setting("val", "name of the set in the report")
    source: SourceConfig = setting(SourceConfig, "its images")

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ValueError(f"overlap.sets.name is {self.name!r}: use letters, digits, - and _.")


@dataclass
class OverlapRules:
    """When a training image is one of an evaluation set; pixels and perceptual hash are as for duplicates."""

    sets: list[EvaluationSet] = setting(list, "evaluation sets")
    cosine: float | None = setting(0.95, "CLIP cosine to an evaluation image, at least; empty: no such search")

    def __post_init__(self) -> None:
        if len({evaluation.name for evaluation in self.sets}) < len(self.sets):
            raise ValueError("overlap.sets: give each a name of its own.")
        _check_cosine("overlap", self.cosine)


@dataclass
class CLIPSettings:
    """The CLIP that finds what hashes cannot."""

    model: str | None = setting(None, "a CLIP's model directory, e.g. runs/tiny/clip/model; empty: hashes alone")
    batch_size: int = setting(128, "images per pass")
    actors: int = setting(1, "replicas")
    cpus_per_actor: float = setting(0.5, "logical CPUs each takes; below two, it computes on one thread")
    gpus_per_actor: float = setting(0.0, "GPUs each takes")


@dataclass
class CurationRules:
    """All that decides which pairs are kept."""

    images: ImageRules = setting(ImageRules, "which images are kept")
    captions: CaptionRules = setting(CaptionRules, "which captions are kept")
    duplicates: DuplicateRules = setting(DuplicateRules, "which images are the same")
    overlap: OverlapRules = setting(OverlapRules, "which belong to an evaluation set")


def _check_cosine(name: str, cosine: float | None) -> None:
    if cosine is not None and not 0 < cosine <= 1:
        raise ValueError(f"{name}.cosine is {cosine}: use above 0 and at most 1, or leave it empty.")
