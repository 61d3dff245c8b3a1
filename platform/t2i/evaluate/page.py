"""report.html: the template filled with sections, plots and pictures, so that the page needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from t2i.evaluate.figures import SUBJECT_LABELS
from t2i.evaluate.published import PUBLISHED
from t2i.evaluate.sections import Section

LOSSLESS_SIDE = 64
"""Largest height in pixels of images that the page keeps exact; larger ones are compressed to about a tenth."""


def render(run: str, made: str, sections: Sequence[Section]) -> str:
    """Return report.html; ``made`` is the time of the evaluation as text."""
    from t2i.evaluate.section_plots import section_plots  # imports matplotlib, which no worker needs

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"uri": image_uri, "number": number, "cosine": "{:.3f}".format}
    environment.globals |= {"plots": section_plots, "subjects": SUBJECT_LABELS, "published": PUBLISHED}
    return environment.get_template("report.html.j2").render(run=run, made=made, sections=sections)


def image_uri(image: np.ndarray) -> str:
    """Return an image uint8 [H, W, 3] as a data URI that a page can show."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=len(image) <= LOSSLESS_SIDE, quality=90)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def number(value: float, digits: int = 4) -> str:
    """Return a number with so many significant ``digits``, and with a real minus sign."""
    return f"{value:.{digits}g}".replace("-", "−")
