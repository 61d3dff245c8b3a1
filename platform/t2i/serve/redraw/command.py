"""The command ``t2i redraw``."""

from __future__ import annotations

from pathlib import Path

from models.errors import UserError
from t2i.client import Client
from t2i.image_files import ImageError
from t2i.serve.generation.picture_files import read_picture
from t2i.serve.generation.receipt import Recipe, RecipeError
from t2i.serve.redraw.at_server import DrawnAtServer
from t2i.serve.redraw.drawing import Drawer
from t2i.serve.redraw.verdict import redraw


def redraw_file(path: Path, where: Client | str) -> bool:
    """Draw the picture of a file again, at a service or from a run directory, and print what differs.

    Returns whether it is identical.

    Raises:
        UserError: the file cannot be read, is no image, or has no recipe or a damaged one; or it cannot be drawn.
    """
    try:
        pixels, picture = read_picture(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): name another picture.") from error
    except ImageError as error:
        raise UserError(f"cannot use {path}: {error}.") from error
    except RecipeError as error:
        raise UserError(f"cannot redraw {path}: {error}") from error
    lines = redraw(pixels, picture, _drawer(where, picture.recipe))
    print("\n".join(["different", *(f"  {line}" for line in lines)]) if lines else "identical")
    return not lines


def _drawer(where: Client | str, recipe: Recipe) -> Drawer:
    if isinstance(where, Client):
        return DrawnAtServer(where, recipe)
    from t2i.serve.redraw.here import DrawnHere  # it imports torch, which a service's client does without

    return DrawnHere(where, recipe.setup)
