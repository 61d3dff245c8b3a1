"""Drawings as small pictures on white."""

from __future__ import annotations

import io

import resvg_py
from PIL import Image

SIZE, MARGIN = 64, 2
FAINT = 8  # alpha up to which a pixel does not count as part of the drawing


def draw(svg: str) -> Image.Image:
    """Return an SVG drawn at twice the size of a picture."""
    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=2 * SIZE, height=2 * SIZE))))


def picture(drawing: Image.Image) -> Image.Image:
    """Trim a drawing, fit it into the square within the margin, and put white behind it.

    Raises:
        ValueError: nothing is drawn.
    """
    drawing = drawing.convert("RGBA")
    box = drawing.getchannel("A").point(lambda alpha: 255 * (alpha > FAINT)).getbbox()
    if box is None:
        raise ValueError("The drawing is empty.")
    drawing = drawing.crop(box)
    scale = (SIZE - 2 * MARGIN) / max(drawing.size)
    width, height = (max(1, round(side * scale)) for side in drawing.size)
    drawing = drawing.resize((width, height), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (SIZE, SIZE), "white")
    canvas.alpha_composite(drawing, ((SIZE - width) // 2, (SIZE - height) // 2))
    return canvas.convert("RGB")


def webp(image: Image.Image, effort: int = 6) -> bytes:
    """Return a picture as lossless WebP; ``effort`` (0 to 6) buys smaller files with time."""
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True, quality=100 if effort == 6 else 60, method=effort)
    return file.getvalue()
