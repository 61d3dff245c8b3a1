"""Captions in the layout of COCO's caption files."""

from __future__ import annotations

from typing import Any

from pictograms.picture import SIZE


def coco(rows: list[dict[str, Any]], description: str, licenses: tuple[str, ...]) -> dict[str, Any]:
    """Return the captions of rows in COCO's layout."""
    pairs = [(number, text) for number, row in enumerate(rows, start=1) for text in row["captions"]]
    return {
        "info": {"description": description},
        "licenses": [{"id": number, "name": name} for number, name in enumerate(licenses, start=1)],
        "images": [
            {
                "id": number,
                "file_name": f"{row['id']}.webp",
                "width": SIZE,
                "height": SIZE,
                "license": licenses.index(row["license"]) + 1,
            }
            for number, row in enumerate(rows, start=1)
        ],
        "annotations": [
            {"id": number, "image_id": image, "caption": text} for number, (image, text) in enumerate(pairs, start=1)
        ],
    }
