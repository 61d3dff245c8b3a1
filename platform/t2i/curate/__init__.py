"""Curate captioned images: filter, remove duplicates, and drop images that are also in an evaluation set.

The paper drops captions that are too short, not English or mostly boilerplate, and images whose aspect ratio is outside
[1/2, 2] (appendix C), and finds training images similar to evaluation images with a contrastive model (section 3.1).
It publishes no other numbers, so every threshold here is a setting.

There are three steps, none of which holds more than a few batches of images in memory:

1. Workers read every image once and store measurements of it: the index (:mod:`.index`).
2. The driver loads the measurements (:mod:`.gather`) and decides what to keep (:mod:`.decisions`).
3. Workers read the source again and write the pairs that are kept (:mod:`.output`); the report (:mod:`.report`) shows
   what was dropped and why.
"""

from t2i.curate.config import (
    CaptionRules,
    CLIPSettings,
    CurationRules,
    DuplicateRules,
    EvaluationSet,
    ImageRules,
    OverlapRules,
)

__all__ = [
    "CLIPSettings",
    "CaptionRules",
    "CurationRules",
    "DuplicateRules",
    "EvaluationSet",
    "ImageRules",
    "OverlapRules",
]
