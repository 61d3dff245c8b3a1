"""A named set of captions to draw, and the images that what is drawn is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from models.settings import setting
from t2i.data import SourceConfig

TRAINING = "training"
"""The folder beside those of the sets, which has what was computed of training images."""


@dataclass
class CaptionSet:
    """A named list of captions, and usually the images they describe, in the same source or in another."""

    name: str = setting("val", "name of the set in the report")
    source: SourceConfig = setting(SourceConfig, "captions, and images unless images=false or reference is given")
    images: bool = setting(True, "compare with images; false for plain prompts")
    reference: SourceConfig | None = setting(
        None, "where the images are if not in source: captioned ones, or a folder of image files; null: in source"
    )

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ValueError(f"sets.name is {self.name!r}: use a word that can name a folder.")
        if self.name == TRAINING:
            raise ValueError(f"sets.name is {self.name!r}, which names the folder of training images: use another.")
        if self.reference is not None and not self.images:
            raise ValueError(f"sets: {self.name} has a reference and images=false: leave one of them out.")

    @property
    def image_source(self) -> SourceConfig:
        """Where the images are that drawn ones are compared with."""
        return self.reference or self.source
