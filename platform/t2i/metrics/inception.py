"""The Inception-v3 that FID is defined by, assembled from torchvision's blocks; and torchvision's own.

The former's file (``pt_inception-2015-12-05``, converted from TensorFlow) names tensors as torchvision does, but its
network pools otherwise: the averages leave the padding out, and the last block takes a maximum. What the networks take
is in :mod:`t2i.metrics.inception_input`, since importing torchvision costs seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import inception

from t2i.metrics.inception_input import WeightsFileError, prepare_dmgan, prepare_tf, weights_file

CLASSES = 1008
"""Outputs of the FID Inception's classifier: TensorFlow's network has 1008, not ImageNet's 1000."""

IMAGENET_CLASSES = 1000
"""Outputs of torchvision's classifier."""


WIDTH = 2048
"""Pooled features of either network."""


class BlockA(inception.InceptionA):  # type: ignore[misc] # torchvision is untyped
    """torchvision's block, but its average pooling leaves the padding out of the averages."""

    def _forward(self, x: Tensor) -> list[Tensor]:
        branch5x5 = self.branch5x5_2(self.branch5x5_1(x))
        branch3x3 = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return [self.branch1x1(x), branch5x5, branch3x3, self.branch_pool(_average_pool(x))]


class BlockC(inception.InceptionC):  # type: ignore[misc] # torchvision is untyped
    """torchvision's block, but its average pooling leaves the padding out of the averages."""

    def _forward(self, x: Tensor) -> list[Tensor]:
        branch7x7 = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return [self.branch1x1(x), branch7x7, double, self.branch_pool(_average_pool(x))]


class BlockE(inception.InceptionE):  # type: ignore[misc] # torchvision is untyped
    """torchvision's block, but its average pooling leaves out the padding or, with ``max_pool``, is a max pooling."""

    max_pool = False

    def _forward(self, x: Tensor) -> list[Tensor]:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.max_pool else _average_pool(x)
        return [
            self.branch1x1(x),
            torch.cat([self.branch3x3_2a(single), self.branch3x3_2b(single)], dim=1),
            torch.cat([self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)], dim=1),
            self.branch_pool(pooled),
        ]


class FIDInception(inception.Inception3):  # type: ignore[misc] # torchvision is untyped
    """Maps prepared images [B, 3, 299, 299] to pooled features [B, 2048] and class logits [B, 1008].

    The logits leave the classifier's bias out, as torch-fidelity's inception score does.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        blocks = [inception.BasicConv2d, BlockA, inception.InceptionB, BlockC, inception.InceptionD, BlockE]
        super().__init__(
            CLASSES, aux_logits=False, init_weights=False, inception_blocks=[*blocks, inception.InceptionAux]
        )
        self.Mixed_7c.max_pool = True
        self.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith("AuxLogits.")})
        self.register_buffer("class_weights", self.get_submodule("fc").weight.detach())
        self.fc = nn.Identity()
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and logits."""
        features = self._forward(x)[0]
        return features, features @ self.class_weights.T


class ImageNetInception(inception.Inception3):  # type: ignore[misc] # torchvision is untyped
    """Maps prepared images [B, 3, 299, 299] to pooled features [B, 2048] and ImageNet logits [B, 1000]."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__(IMAGENET_CLASSES, aux_logits=False, transform_input=False, init_weights=False)
        self.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith("AuxLogits.")})
        self.classifier = self.get_submodule("fc")
        self.fc = nn.Identity()
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and logits."""
        features = self._forward(x)[0]
        return features, self.classifier(features)


class TwoInceptions(nn.Module):
    """Maps images uint8 [B, 3, H, W] to one network's features and another's logits, each after its own preparation.

    DM-GAN's figures are of this kind: FID by torchvision's Inception, the inception score by TensorFlow's.
    """

    def __init__(self, features: nn.Module, logits: nn.Module) -> None:
        super().__init__()
        self.features, self.logits = features, logits

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and logits."""
        return self.features(prepare_dmgan(images))[0], self.logits(prepare_tf(images))[1]


def load_inception(path: str | Path, *, imagenet: bool = False) -> nn.Module:
    """Build the FID Inception, or torchvision's ``imagenet`` one, with the weights of a file.

    The file is a ``.pth`` state dict, which is read weights-only, or a ``.safetensors`` file.

    Raises:
        WeightsFileError: the file is missing or does not hold this network's tensors.
    """
    path = weights_file(path)
    kind: type[nn.Module] = ImageNetInception if imagenet else FIDInception
    try:
        return kind(_read_state(path))
    except Exception as error:  # torch and safetensors raise unrelated classes for foreign files
        raise WeightsFileError(f"extractor.weights: {path} does not hold the tensors of {kind.__name__}.") from error


def _read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name."""
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 (others' file)
    return state


def _average_pool(x: Tensor) -> Tensor:
    """Average over 3 x 3 pixels at stride 1; at the border, over the pixels that exist."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
