"""The paper's two augmentations: listing 1 for the dVAE and listing 2 for the prior (appendices A.2 and B).

Both are written for 256 px; at another size their constants are taken in proportion (288 = 9/8 and 384 = 3/2 of 256).
Images with a side below the size, which the paper has none of, are enlarged to it and have no smaller crop.
"""

from __future__ import annotations

import numpy as np

from t2i.data.transforms import resize


def dvae_view(image: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """Listing 1: uint8 [H, W, 3] -> uint8 [size, size, 3].

    A random square of the short side s, resized to a side of U{min(s, 288) .. min(s, 384)}; a random crop; a mirror.
    """
    side = min(image.shape[:2])
    top, left = (int(random.integers(0, extent - side + 1)) for extent in image.shape[:2])
    square = image[top : top + side, left : left + side]
    smallest, largest = (max(size, min(side, size * eighths // 8)) for eighths in (9, 12))
    view = random_crop(resize(square, int(random.integers(smallest, largest + 1))), size, random)
    return view[:, ::-1] if random.random() < 0.5 else view


def prior_view(image: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """Listing 2: uint8 [H, W, 3] -> uint8 [size, size, 3].

    A square of the short side s from the middle of the long one, its place drawn from the second quarter of the room
    there is; resized to a side of U{256 .. min(s, 288)}; a random crop. No mirror: captions speak of left and right.
    """
    side = min(image.shape[:2])
    top, left = (middle_offset(extent - side, random) for extent in image.shape[:2])
    square = image[top : top + side, left : left + side]
    largest = max(size, min(side, size * 9 // 8))
    return random_crop(resize(square, int(random.integers(size, largest + 1))), size, random)


def middle_offset(room: int, random: np.random.Generator) -> int:
    """An integer in [3 room // 8, max(3 room // 8 + 1, 5 room // 8))."""
    first = 3 * room // 8
    return int(random.integers(first, max(first + 1, 5 * room // 8)))


def random_crop(square: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """[S, S, 3] -> [size, size, 3] from anywhere."""
    top, left = (int(offset) for offset in random.integers(0, len(square) - size + 1, 2))
    return square[top : top + size, left : left + size]
