"""The commands ``t2i redraw`` and ``t2i models list``."""

from __future__ import annotations

from pathlib import Path

from models.errors import UserError
from models.manifest import SHORT
from t2i.client import Client
from t2i.image_files import ImageError
from t2i.protos.v1.models_pb2 import Model
from t2i.serve.generation.picture_files import read_picture
from t2i.serve.generation.receipt import Recipe, RecipeError
from t2i.serve.redraw.at_server import DrawnAtServer, list_models
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


def print_models(client: Client) -> None:
    """Print the models of a service, the default first, and its limits.

    Raises:
        ServiceError: the service answers with an error, or not at all.
    """
    answer = list_models(client)
    for model in answer.models:
        print(_line(model))
    limits = answer.limits
    print(f"at most {limits.candidates} candidates and {limits.seconds:g} s a request")


def _line(model: Model) -> str:
    state = ", ".join(filter(None, ["default" if model.is_default else "", "ready" if model.ready else "not ready"]))
    if not model.HasField("setup"):
        return f"{model.name} ({state})"
    stages = [
        f"{stage} {getattr(model.setup, stage).weights[:SHORT]} {count / 1e6:.1f} M {getattr(model.setup, stage).dtype}"
        for stage, count in sorted(model.parameters.items(), key=lambda each: ("prior decoder reranker").find(each[0]))
    ]
    size = f"{model.image_side} px, {model.grid_height} x {model.grid_width} of {model.codes} codes"
    return f"{model.name} ({state})  {size}, captions of {model.text_length} tokens  {'; '.join(stages)}"
