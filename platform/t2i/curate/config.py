"""The configuration of a curation."""

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
"""Default regular expressions for text that does not describe the picture; case does not matter."""


@dataclass
class ImageRules:
    """Which images are kept, by size and shape. The paper has a rule for the aspect ratio only."""

    max_aspect: float = setting(2.0, "the largest ratio of the longer to the shorter side", at_least=1)
    min_side: int = setting(32, "the smallest length of the shorter side, in pixels", at_least=1)


@dataclass
class CaptionRules:
    """Which captions are kept; an image is dropped if none of its captions is kept."""

    min_letters: int = setting(4, "the fewest letters of a caption, of any script", at_least=0)
    min_words: int = setting(2, "the fewest words of a caption; scripts without spaces are exempt", at_least=0)
    boilerplate: list[str] | None = setting(
        None, "regular expressions for boilerplate; empty: BOILERPLATE in t2i/curate/config.py"
    )
    boilerplate_share: float = setting(
        0.5, "drop a caption if boilerplate covers this share of its letters and digits", above=0, at_most=1
    )
    max_repeats: int | None = setting(
        1000, "drop captions that more images than this have; empty: keep all", at_least=1
    )
    english: bool = setting(True, "drop captions that are not English")
    judged_letters: int = setting(
        10, "keep captions in Latin script with fewer letters, whatever their language", at_least=0
    )
    odds: float = setting(20.0, "a caption is not English if another language is this many times as likely", at_least=1)

    def __post_init__(self) -> None:
        for pattern in self.patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"captions.boilerplate: {pattern!r} is no regular expression ({error}).") from error

    @property
    def patterns(self) -> list[str]:
        """The regular expressions for boilerplate that are used."""
        return list(BOILERPLATE) if self.boilerplate is None else self.boilerplate


@dataclass
class DuplicateRules:
    """When two images count as copies. The larger one is kept; of equally large ones, the one with the smaller id."""

    bits: int = setting(
        4,
        "copies differ in at most this many of 64 bits of the perceptual hash; -1: do not search by hash",
        at_least=-1,
        at_most=16,
    )
    colour: int = setting(
        24, "copies also differ in each of 8 x 8 mean colours by at most this, of 255", at_least=0, at_most=255
    )
    cosine: float | None = setting(
        0.97, "copies have at least this CLIP cosine; empty: no such search", above=0, at_most=1
    )


@dataclass
class EvaluationSet:
    """A set of evaluation images, which must not be trained on."""

    name: str = setting("val", "name of the set in the report")
    source: SourceConfig = setting(SourceConfig, "where the images of the set are")

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ValueError(f"overlap.sets.name is {self.name!r}: use letters, digits, - and _.")


@dataclass
class OverlapRules:
    """When a training image counts as a copy of an evaluation image.

    The rule for the perceptual hash is that of :class:`DuplicateRules`.
    """

    sets: list[EvaluationSet] = setting(list, "evaluation sets")
    cosine: float | None = setting(
        0.95, "copies have at least this CLIP cosine; empty: no such search", above=0, at_most=1
    )

    def __post_init__(self) -> None:
        if len({evaluation.name for evaluation in self.sets}) < len(self.sets):
            raise ValueError("overlap.sets: give each a name of its own.")


@dataclass
class CLIPSettings:
    """The CLIP model that finds near-duplicates which hashes miss, and the actors that run it."""

    model: str | None = setting(
        None, "a CLIP's model directory, e.g. runs/tiny/clip/model; empty: use hashes only", path="read"
    )
    batch_size: int = setting(128, "images per forward pass", at_least=1)
    actors: int = setting(1, "actors, each with a copy of the model", at_least=1)
    cpus_per_actor: float = setting(0.5, "logical CPUs of an actor; below 2 it computes on one thread", at_least=0)
    gpus_per_actor: float = setting(0.0, "GPUs of an actor", at_least=0)


@dataclass
class CurationRules:
    """All rules that decide which pairs are kept."""

    images: ImageRules = setting(ImageRules, "which images are kept")
    captions: CaptionRules = setting(CaptionRules, "which captions are kept")
    duplicates: DuplicateRules = setting(DuplicateRules, "which images are copies of another")
    overlap: OverlapRules = setting(OverlapRules, "which images are in an evaluation set")
