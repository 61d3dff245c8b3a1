"""Whole caption sets drawn, ranked, measured against controls, and reported with their protocol."""

from t2i.evaluate.config import CaptionSet, EvaluateConfig
from t2i.evaluate.contact_sheet import SheetRow, contact_sheet
from t2i.evaluate.report import Section, write_report

__all__ = ["CaptionSet", "EvaluateConfig", "Section", "SheetRow", "contact_sheet", "write_report"]
