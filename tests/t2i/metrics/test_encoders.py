"""Networks of timm and open_clip, with random weights in a local file in place of published ones."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch

from models.errors import UserError
from t2i.metrics.encoders import preparation
from t2i.metrics.features import ExtractorConfig, load_extractor
from t2i.metrics.inception_input import WeightsFileError

VIT, CLIP, CONVOLUTIONS = "timm/vit_tiny_patch16_224", "openclip/ViT-S-32-alt", "timm/test_efficientnet.r160_in1k"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    torch.save(timm.create_model("vit_tiny_patch16_224").state_dict(), folder / "vit.pth")
    torch.save(open_clip.create_model("ViT-S-32-alt").state_dict(), folder / "clip.pth")
    torch.save(timm.create_model("test_efficientnet").state_dict(), folder / "convolutions.pth")
    return {VIT: folder / "vit.pth", CLIP: folder / "clip.pth", CONVOLUTIONS: folder / "convolutions.pth"}


@pytest.mark.parametrize(("name", "figure", "width"), [(VIT, "vit_tiny_patch16_224", 192), (CLIP, "vit_s_32_alt", 256)])
def test_features_are_the_librarys_own_without_a_network(
    name: str, figure: str, width: int, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect", None)  # whoever calls it fails
    images = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    extractor = load_extractor(ExtractorConfig(name=name, weights=str(files[name]), batch=2))
    result = extractor(images)
    assert (extractor.dimension, result.features.shape, result.logits.shape) == (width, (3, width), (3, 0))
    assert extractor.protocol.metric_name("fid") == f"fd_{figure}"
    x = preparation(name, None)(torch.from_numpy(images).permute(0, 3, 1, 2))
    np.testing.assert_allclose(result.features, library_features(name, files[name], x), atol=1e-4)


@torch.no_grad()
def library_features(name: str, file: Path, x: torch.Tensor) -> np.ndarray:
    if name == VIT:
        network: Any = timm.create_model("vit_tiny_patch16_224", checkpoint_path=str(file)).eval()
        return network.forward_head(network.forward_features(x), pre_logits=True).numpy()
    return open_clip.create_model("ViT-S-32-alt", pretrained=str(file)).eval().encode_image(x).numpy()


@pytest.mark.parametrize("name", [VIT, CONVOLUTIONS])
def test_another_side_is_in_the_protocol(name: str, files: dict[str, Path]) -> None:
    extractor = load_extractor(ExtractorConfig(name=name, weights=str(files[name]), side=112, batch=1))
    assert "to 112 px" in extractor.protocol.resize
    assert extractor(np.zeros((1, 50, 60, 3), np.uint8)).features.shape == (1, extractor.dimension)


def test_dinov2_and_clip_are_prepared_as_they_were_trained() -> None:
    dino = preparation("timm/vit_large_patch14_dinov2.lvd142m", 224)
    assert (dino.side, dino.interpolation, dino.mean) == (224, "bicubic", (0.485, 0.456, 0.406))
    assert preparation("openclip/ViT-B-16-SigLIP:webli", None).mean == (0.5, 0.5, 0.5)
    assert preparation("openclip/ViT-L-14:openai", None).side == 224


def test_foreign_files_and_names_are_refused_in_one_sentence(files: dict[str, Path]) -> None:
    with pytest.raises(WeightsFileError, match=r"does not hold the weights of timm/vit_tiny"):
        load_extractor(ExtractorConfig(name=VIT, weights=str(files[CLIP])))
    with pytest.raises(WeightsFileError, match="names no file"):
        load_extractor(ExtractorConfig(name=CLIP, weights="absent.pth"))
    for name in ("timm/absent", "openclip/absent", "openclip/ViT-L-14:absent"):
        with pytest.raises(UserError, match=r"extractor\.name is"):
            load_extractor(ExtractorConfig(name=name, weights=str(files[VIT])))
