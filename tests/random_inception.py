"""An Inception of random weights that every implementation of FID loads, and two sets of images to measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.models.inception import Inception3


def write_random_inception(path: Path, classes: int = 1008) -> Path:
    """Write weights from He-scaled normals, batch norms of one fixed batch, and a classifier with large logits.

    1008 ``classes`` are those of TensorFlow's network, which FID is defined by, 1000 those of torchvision's.
    """
    random = np.random.RandomState(0)
    network = Inception3(num_classes=classes, aux_logits=False, init_weights=False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            module.weight.data = torch.from_numpy(random.randn(*module.weight.shape) * (2 / fan_in) ** 0.5).float()
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network.fc.weight.data = torch.from_numpy(random.randn(classes, 2048) * 10 / 2048**0.5).float()
    batch = nn.functional.interpolate(_smooth_noise(2, 16), size=(299, 299), mode="bilinear")
    with torch.no_grad():
        network.train()(2 * batch - 1)
    torch.save(network.state_dict(), path)
    return path


def two_image_sets() -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 [16, 64, 64, 3] and [12, 64, 64, 3]; the second set has less contrast."""
    images = _smooth_noise(1, 28).permute(0, 2, 3, 1).mul(255)
    return images[:16].byte().numpy(), (images[16:] * 0.8).byte().numpy()


def _smooth_noise(seed: int, n: int) -> torch.Tensor:
    coarse = torch.from_numpy(np.random.RandomState(seed).rand(n, 3, 8, 8)).float()
    return nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear")
