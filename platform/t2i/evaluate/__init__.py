"""Evaluation of a run: draw whole caption sets, rank and measure the images beside controls, write a report.

Only the settings are imported here, as every actor imports this package and few need the report.
"""

from t2i.evaluate.caption_sets import CaptionSet
from t2i.evaluate.config import EvaluateConfig

__all__ = ["CaptionSet", "EvaluateConfig"]
