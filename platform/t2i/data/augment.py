"""Random views of an image: the paper's listing 1 (appendix A.2) for the dVAE, listing 2 (appendix B) for the prior.

The listings are for 256 px; at another size their constants scale with it (288 = 9/8 and 384 = 3/2 of 256). An image
with a side below the size is enlarged until that side has the size; the paper has no such images. Of images that are
no larger than the size, such as icons, listing 2 makes the same view each time: :func:`drawing_view` is for them.
"""

from __future__ import annotations

import numpy as np

from t2i.data.transforms import centre_square, resize


def dvae_view(image: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """Return a random view of an image for the dVAE (listing 1): uint8 [H, W, 3] -> uint8 [size, size, 3].

    At 256 px, with s the short side: a random square of side s, resized to a random side from min(s, 288) to
    min(s, 384); a random crop of 256 px from that; mirrored with probability 1/2.
    """
    side = min(image.shape[:2])
    top, left = (int(random.integers(0, extent - side + 1)) for extent in image.shape[:2])
    square = image[top : top + side, left : left + side]
    smallest, largest = (max(size, min(side, size * eighths // 8)) for eighths in (9, 12))
    view = random_crop(resize(square, int(random.integers(smallest, largest + 1))), size, random)
    return view[:, ::-1] if random.random() < 0.5 else view


def prior_view(image: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """Return a random view of an image for the prior (listing 2): uint8 [H, W, 3] -> uint8 [size, size, 3].

    At 256 px, with s the short side: a square of side s near the middle of the long side (:func:`middle_offset`),
    resized to a random side from 256 to min(s, 288); a random crop of 256 px from that. There is no mirroring, since
    captions speak of left and right.
    """
    side = min(image.shape[:2])
    top, left = (middle_offset(extent - side, random) for extent in image.shape[:2])
    square = image[top : top + side, left : left + side]
    largest = max(size, min(side, size * 9 // 8))
    return random_crop(resize(square, int(random.integers(size, largest + 1))), size, random)


def drawing_view(image: np.ndarray, size: int, random: np.random.Generator, *, mirror: bool) -> np.ndarray:
    """Return a random view of a drawing on a plain ground: uint8 [H, W, 3] -> uint8 [size, size, 3].

    The centre square, resized to a side from 7/8 of the size to all of it and moved by up to 1/16 of the size from
    where it would stand in the middle. What that uncovers has the colour of the nearest edge. With ``mirror`` left and
    right change places with probability 1/2.
    """
    square = centre_square(image, int(random.integers(size * 7 // 8, size + 1)))
    room = size * 9 // 8 - len(square)
    around = (room // 2, room - room // 2)
    view = random_crop(np.pad(square, (around, around, (0, 0)), mode="edge"), size, random)
    return view[:, ::-1] if mirror and random.random() < 0.5 else view


def middle_offset(room: int, random: np.random.Generator) -> int:
    """Draw an offset in pixels from the middle quarter of ``0 .. room``, [3/8 room, 5/8 room), or its only value."""
    first = 3 * room // 8
    return int(random.integers(first, max(first + 1, 5 * room // 8)))


def random_crop(square: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """Return a random crop: [side, side, 3] -> [size, size, 3]."""
    top, left = (int(offset) for offset in random.integers(0, len(square) - size + 1, 2))
    return square[top : top + size, left : left + size]
