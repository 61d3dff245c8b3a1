"""The packaged EfficientNet-Lite0: the network that its weights were trained in, only faster."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from models.features import efficientnet_lite0_file, packaged_efficientnet_lite0


def test_folding_the_batch_norms_changes_nothing() -> None:
    plain = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    tensors = torch.load(efficientnet_lite0_file(), weights_only=True)  # noqa: TID251 (weights only)
    plain.load_state_dict(dict(zip(plain.state_dict(), tensors.values(), strict=True)))
    packaged = packaged_efficientnet_lite0()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        assert torch.allclose(packaged(images), plain(images), atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in packaged.modules())
    assert not packaged.training


def test_pooled_features_are_what_the_classifier_takes() -> None:
    network: Any = packaged_efficientnet_lite0()
    images = torch.rand(2, 3, 64, 96) * 2 - 1
    with torch.inference_mode():
        pooled = network.forward_head(network.forward_features(images), pre_logits=True)
        assert pooled.shape == (2, 1280)
        assert torch.allclose(network.classifier(pooled), network(images), atol=1e-5)


def test_tensors_of_another_network_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = timm.create_model("tf_efficientnet_lite1", pretrained=False)
    monkeypatch.setattr(torch, "load", lambda *_, **__: other.state_dict())
    with pytest.raises(ValueError, match="does not hold the tensors of EfficientNet-Lite0"):
        packaged_efficientnet_lite0()
