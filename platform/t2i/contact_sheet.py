"""Draw images as one contact sheet: a row for each caption, or a grid where each caption has one image."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN, GAP = 24, 10
CAPTION_SIZE, LABEL_SIZE = 20, 14
PAPER, INK, MUTED = "#fbfaf7", "#1d1d1b", "#77736a"

GRID_COLUMNS = 5
"""Captions side by side in a grid."""


@dataclass(frozen=True)
class SheetRow:
    """One row of a sheet: a caption, its images uint8 [n, H, W, 3], and a label for each image."""

    caption: str
    images: np.ndarray
    labels: Sequence[str]

    @classmethod
    def ranked(cls, caption: str, images: np.ndarray, scores: np.ndarray) -> SheetRow:
        """Label candidates, the best first, with their CLIP cosines ``scores`` [n]."""
        return cls(caption, images, [f"{score:.3f}" for score in scores])


def contact_sheet(rows: Sequence[SheetRow], tile: int = 144) -> Image.Image:
    """Draw the rows one below the other, every image resized bicubically to ``tile`` x ``tile`` pixels.

    Rows of one image each stand side by side in a grid, with the caption beneath the image.

    Raises:
        ValueError: ``rows`` is empty.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one caption with images.")
    return _grid(rows, tile) if all(len(row.images) == 1 for row in rows) else _strips(rows, tile)


def _strips(rows: Sequence[SheetRow], tile: int) -> Image.Image:
    columns = max(len(row.images) for row in rows)
    width = _width(columns, tile)
    captions = [_wrap(row.caption, width - 2 * MARGIN, CAPTION_SIZE) for row in rows]
    heights = [_caption_height(lines) + tile + LABEL_SIZE + 4 * GAP for lines in captions]
    sheet = Image.new("RGB", (width, 2 * MARGIN - GAP + sum(heights)), PAPER)
    top = MARGIN
    for row, lines, height in zip(rows, captions, heights, strict=True):
        _draw_row(sheet, row, lines, top, tile)
        top += height
    return sheet


def _grid(rows: Sequence[SheetRow], tile: int) -> Image.Image:
    columns = min(GRID_COLUMNS, len(rows))
    captions = [_wrap(row.caption, tile, LABEL_SIZE) for row in rows]
    height = tile + (1 + max(map(len, captions))) * (LABEL_SIZE + 4) + 2 * GAP
    size = (_width(columns, tile), 2 * MARGIN - GAP + -(-len(rows) // columns) * height)
    sheet = Image.new("RGB", size, PAPER)
    for index, (row, lines) in enumerate(zip(rows, captions, strict=True)):
        left, top = MARGIN + index % columns * (tile + GAP), MARGIN + index // columns * height
        _paste(sheet, row.images[0], left, top, tile)
        draw = ImageDraw.Draw(sheet)
        draw.multiline_text((left, top + tile + 6), "\n".join(lines), INK, _font(LABEL_SIZE), spacing=4)
        below = (left, top + tile + 6 + len(lines) * (LABEL_SIZE + 4))
        draw.text(below, row.labels[0], MUTED, _font(LABEL_SIZE))
    return sheet


def _width(columns: int, tile: int) -> int:
    return 2 * MARGIN + columns * (tile + GAP) - GAP


def _paste(sheet: Image.Image, image: np.ndarray, left: int, top: int, tile: int) -> None:
    sheet.paste(Image.fromarray(image).resize((tile, tile), Image.Resampling.BICUBIC), (left, top))


def _draw_row(sheet: Image.Image, row: SheetRow, lines: list[str], top: int, tile: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.multiline_text((MARGIN, top), "\n".join(lines), INK, _font(CAPTION_SIZE), spacing=4)
    top += _caption_height(lines)
    for index, (image, label) in enumerate(zip(row.images, row.labels, strict=True)):
        left = MARGIN + index * (tile + GAP)
        _paste(sheet, image, left, top, tile)
        middle = (left + tile // 2, top + tile + 6)
        draw.text(middle, label, MUTED, _font(LABEL_SIZE), anchor="ma")


def _wrap(caption: str, width: int, size: int) -> list[str]:
    """Break a caption into at most three lines of about ``width`` pixels, by the average width of a letter."""
    letter = _font(size).getlength("abcdefghijklmnopqrstuvwxyz ") / 27
    return textwrap.wrap(caption, max(12, int(width / letter)), max_lines=3, placeholder=" …") or [""]


def _caption_height(lines: list[str]) -> int:
    return len(lines) * (CAPTION_SIZE + 6) + GAP


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the typeface that Pillow carries (Latin letters), which needs no font file on the system."""
    return ImageFont.load_default(size)
