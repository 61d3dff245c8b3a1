"""Whole caption sets drawn, ranked, measured against controls, and reported with their protocol."""

from t2i.evaluate.config import CaptionSet, EvaluateConfig
from t2i.evaluate.report import Section, write_report

__all__ = [
    "CaptionSet",
    "EvaluateConfig",
    "Section",
    "write_report",
]
