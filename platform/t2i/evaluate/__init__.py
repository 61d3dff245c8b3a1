"""Evaluation of a run: draw whole caption sets, rank and measure the images beside controls, write a report."""

from t2i.evaluate.config import CaptionSet, EvaluateConfig
from t2i.evaluate.report import section, write_report
from t2i.evaluate.sections import Section

__all__ = [
    "CaptionSet",
    "EvaluateConfig",
    "Section",
    "section",
    "write_report",
]
