"""Image files that clients send: decoded one at a time, and made small before the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from t2i.image_files import ImageError, decode_rgb
from t2i.sampling import RequestError

ShrunkT = TypeVar("ShrunkT")


class Uploads:
    """Decodes image files, by the name of the field that each came in.

    A file of 24 KB may hold 16 megapixels, which are 48 MB: however many arrive at once, one is decoded at a time.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def shrink(self, files: Mapping[str, bytes], to: Callable[[np.ndarray], ShrunkT]) -> list[ShrunkT]:
        """Return what ``to`` makes of the pixels uint8 [H, W, 3] of each file, in order; off the event loop.

        Raises:
            RequestError: a file cannot be used; the message names its field.
        """
        shrunk = []
        for field, data in files.items():
            async with self._turn:
                shrunk.append(await asyncio.to_thread(_shrink, data, field, to))
        return shrunk


def _shrink(data: bytes, field: str, to: Callable[[np.ndarray], ShrunkT]) -> ShrunkT:
    try:
        return to(decode_rgb(data))
    except ImageError as error:
        raise RequestError(field, f"{field} cannot be used: {error}.") from error
