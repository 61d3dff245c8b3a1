"""Reads OpenAI's released dVAE (``encoder.pkl`` and ``decoder.pkl`` of the package ``dall-e`` 0.1) as a :class:`DVAE`.

The files are whole pickled modules, and ordinary unpickling calls whatever functions a file names. They are therefore
read without running any of their code, see :func:`released_weights`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.dvae.dvae import DVAE, DVAEConfig
from models.errors import UserError

RELEASED_CLASSES = (
    "dall_e.encoder.Encoder",
    "dall_e.encoder.EncoderBlock",
    "dall_e.decoder.Decoder",
    "dall_e.decoder.DecoderBlock",
    "dall_e.utils.Conv2d",
    "torch.nn.modules.activation.ReLU",
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.linear.Identity",
    "torch.nn.modules.pooling.MaxPool2d",
    "torch.nn.modules.upsampling.Upsample",
)
"""Every class that a released file names: the modules of which encoder and decoder are made."""

OUTER_CONVOLUTIONS = {
    ("encoder", "input"): "trunk.0",
    ("encoder", "output.conv"): "logits",
    ("decoder", "input"): "input",
    ("decoder", "output.conv"): "maps",
}
"""(part, released name) -> name in :class:`DVAE` of the convolutions before the first and after the last group."""


class ReleasedWeightsError(UserError):
    """A file that does not hold the released encoder or decoder."""


class InertModule:
    """Stands in for a pickled module: takes its attributes and has no other code."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over the pickled attributes; this is all that the unpickler calls."""
        self.__dict__.update(state)


def from_released(encoder: Path, decoder: Path) -> DVAE:
    """Return the dVAE with the weights of both released files, in eval mode; its sizes follow from their shapes.

    Raises:
        ReleasedWeightsError: a file is missing or not a released one, or the two do not belong together.
    """
    weights = {f"encoder.{name}": tensor for name, tensor in released_weights(encoder).items()}
    weights |= {f"decoder.{name}": tensor for name, tensor in released_weights(decoder).items()}
    try:
        model = DVAE(sizes(weights))
        renamed = {rename(name, model.config.blocks_per_group): tensor for name, tensor in weights.items()}
        model.load_state_dict(renamed)
    except (KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ReleasedWeightsError(f"{encoder} and {decoder} are not the released pair: {reason}") from error
    return model.eval()


def released_weights(path: Path) -> dict[str, Tensor]:
    """Return the parameters, float32, of a pickled module by their dotted names, without running code of the file.

    Raises:
        ReleasedWeightsError: the file is missing or damaged, or names a class that no released file has.
    """
    # torch's weights-only unpickler calls no function but those that rebuild tensors, and refuses every class that it
    # was not told is safe. Under the names of the released classes it is told an inert one: what the file says is a
    # dall_e.encoder.Encoder becomes an object that holds the pickled attributes and does nothing. Any other name ends
    # in an error, and so do parameters that are not exactly those of the architecture (see from_released).
    stand_ins: list[Any] = [(InertModule, name) for name in RELEASED_CLASSES]
    try:
        with torch.serialization.safe_globals(stand_ins):
            module = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 (weights only)
    except Exception as error:  # damaged files raise nearly anything, and torch's message advises to trust the file
        reasons = "it is missing, damaged, older than torch 1.6's format, or not of the released classes alone"
        raise ReleasedWeightsError(f"{path} cannot be read as a released dVAE file: {reasons}.") from error
    if not isinstance(module, InertModule):
        raise ReleasedWeightsError(f"{path} holds a {type(module).__name__}, not a pickled encoder or decoder.")
    return {name: parameter.detach().float() for name, parameter in walk(module)}


def walk(module: InertModule, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield (dotted name, parameter) of a module and all its submodules."""
    for name, parameter in vars(module).get("_parameters", {}).items():
        yield f"{prefix}{name}", parameter
    for name, child in vars(module).get("_modules", {}).items():
        yield from walk(child, f"{prefix}{name}.")


def sizes(weights: dict[str, Tensor]) -> DVAEConfig:
    """Return the configuration that the names and shapes of the released weights imply."""
    groups = {match[0] for name in weights if (match := re.search(r"encoder\.blocks\.group_\d+", name))}
    blocks = {match[0] for name in weights if (match := re.match(r"encoder\.blocks\.group_1\.block_\d+", name))}
    return DVAEConfig(
        width=weights["encoder.blocks.input.w"].shape[0],
        groups=len(groups),
        blocks_per_group=len(blocks),
        codebook_size=weights["encoder.blocks.output.conv.w"].shape[0],
        decoder_input_width=weights["decoder.blocks.input.w"].shape[0],
    )


def rename(name: str, blocks_per_group: int) -> str:
    """Return our name of a released parameter such as ``encoder.blocks.group_1.block_2.res_path.conv_3.w``."""
    part, _, rest = name.partition(".blocks.")
    kind = {"w": "weight", "b": "bias"}[rest[-1]]
    if match := re.match(r"group_(\d+)\.block_(\d+)\.(id_path|res_path\.conv_(\d+))\.", rest):
        group, block = int(match[1]) - 1, int(match[2]) - 1
        layer = (
            group * (blocks_per_group + 1) + block + (part == "encoder")
        )  # + 1: each group ends with a layer that resamples
        inside = f"residual.{2 * int(match[4]) - 1}" if match[4] else "identity"
        return f"{part}.trunk.{layer}.{inside}.{kind}"
    return f"{part}.{OUTER_CONVOLUTIONS[part, rest[:-2]]}.{kind}"
