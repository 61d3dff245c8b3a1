"""Curation of captioned images: filters, de-duplication, and control of the overlap with evaluation sets.

Paper, appendix C: captions that are too short, not English or mostly boilerplate are dropped, and images whose aspect
ratio is outside [1/2, 2]; section 3.1: training images next to evaluation images are found with a contrastive model.
Its numbers beyond these are not published, so every bound here is a setting.

One pass measures all images into an index (:mod:`.index`), the driver decides on what is small (:mod:`.decisions`),
and a second pass writes the pairs that are left (:mod:`.output`). No stage holds more than its batches of images.
"""

from t2i.curate.config import (
    CaptionRules,
    CLIPSettings,
    DuplicateRules,
    EvaluationSet,
    ImageRules,
    OverlapRules,
    CurationRules,
)

__all__ = [
    "CLIPSettings",
    "CaptionRules",
    "DuplicateRules",
    "EvaluationSet",
    "ImageRules",
    "OverlapRules",
    "CurationRules",
]
