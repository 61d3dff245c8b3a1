"""Decode images of a source, and make sure before anything is drawn that there are enough of them."""

from __future__ import annotations

from collections.abc import Sequence

from ray.data import Dataset
from ray.data.expressions import col

from models.errors import UserError
from models.run_sizes import run_sizes
from t2i.data import SourceConfig, decode_pairs, read_pairs
from t2i.evaluate.config import MIN_IMAGES


class TooFewImagesError(UserError):
    """A source has too few usable images for the distances that are asked for."""


def decoded_images(source: SourceConfig, ids: Sequence[str], run: str, unreadable: str | None = None) -> Dataset:
    """Return rows {id, captions, pixels} of some ``ids``, in the size of the run's images.

    Images that cannot be read are dropped and listed in the folder ``unreadable``, with captions that were mended.
    """
    pairs = read_pairs(source, unreadable).filter(expr=col("id").is_in(list(ids)))
    return decode_pairs(pairs, run_sizes(run).side, unreadable)


def require_images(field: str, source: SourceConfig, ids: Sequence[str], run: str, remedy: str) -> None:
    """Decode images until there are :data:`MIN_IMAGES` among those of ``ids``.

    Raises:
        TooFewImagesError: there are fewer; ``field`` and ``remedy`` are for the message.
    """
    usable = decoded_images(source, ids, run).limit(MIN_IMAGES).count()
    if usable < MIN_IMAGES:
        raise TooFewImagesError(
            f"{field}: {source.path} has {usable} usable images for {len(ids)} captions: "
            f"distances need at least {MIN_IMAGES}, so add images or set {remedy}."
        )
