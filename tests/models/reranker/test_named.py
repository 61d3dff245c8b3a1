"""CLIPs of open_clip's list, with random weights in a local file in place of a download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from PIL import Image

from models.checkpoint import load_model, save_model, save_tensors
from models.errors import UserError
from models.reranker import CLIPConfig, CLIPReranker

ARCHITECTURE = "ViT-S-32-alt"
CAPTIONS = ["a red heart", "smiling cat"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file as open_clip users have it."""
    path = tmp_path_factory.mktemp("weights") / "clip.safetensors"
    torch.manual_seed(1)
    save_tensors(path, open_clip.CLIP(**open_clip.get_model_config(ARCHITECTURE)).state_dict())
    return path


@pytest.fixture(scope="module")
def reranker(weights: Path) -> CLIPReranker:
    return CLIPReranker.from_pretrained(CLIPConfig(architecture=ARCHITECTURE, weights=str(weights))).eval()


def test_embeddings_are_open_clip_s_own(reranker: CLIPReranker, weights: Path) -> None:
    """Against open_clip's factory, tokenizer and PIL preprocessing; PIL rounds its resized pixels to whole numbers."""
    theirs, _, transform = open_clip.create_model_and_transforms(ARCHITECTURE, pretrained=str(weights))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((256, 256))
    tensor = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        assert torch.allclose(reranker.prepare(tensor)[0], transform(image), atol=0.02)
        expected = theirs.eval().encode_image(transform(image)[None], normalize=True)
        assert torch.cosine_similarity(reranker.encode_images(tensor), expected) > 0.999
        tokens = open_clip.get_tokenizer(ARCHITECTURE)(CAPTIONS)
        expected = theirs.encode_text(tokens, normalize=True)
    assert torch.allclose(reranker.encode_captions(CAPTIONS), expected, atol=1e-5)


def test_a_model_directory_no_longer_needs_the_weight_file(reranker: CLIPReranker, tmp_path: Path) -> None:
    reranker.config.weights = str(tmp_path / "gone.safetensors")
    loaded = load_model(CLIPReranker, CLIPConfig, save_model(tmp_path / "model", reranker))
    assert torch.equal(loaded.encode_captions(CAPTIONS), reranker.encode_captions(CAPTIONS))


def test_bfloat16_stays_near_float32(reranker: CLIPReranker, tmp_path: Path) -> None:
    rounded = load_model(CLIPReranker, CLIPConfig, save_model(tmp_path, reranker), dtype="bfloat16")
    images = torch.rand(3, 3, 256, 256)
    for ours, exact in (
        (rounded.encode_images(images), reranker.encode_images(images)),
        (rounded.encode_captions(CAPTIONS), reranker.encode_captions(CAPTIONS)),
    ):
        assert ours.dtype == torch.float32
        assert (torch.cosine_similarity(ours, exact) > 0.99).all()


def test_a_tag_brings_its_activation_and_normalisation() -> None:
    openai = CLIPReranker(CLIPConfig(architecture="ViT-B-32", pretrained="openai"))
    assert any(isinstance(module, QuickGELU) for module in openai.modules())
    assert openai.mean.flatten().tolist() == pytest.approx(open_clip.OPENAI_DATASET_MEAN)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CLIPConfig(architecture="ViT-Z"), r"clip\.architecture is 'ViT-Z'"),
        (CLIPConfig(architecture="roberta-ViT-B-32"), "needs files from a hub"),
        (CLIPConfig(architecture=ARCHITECTURE, pretrained="none"), r"clip\.pretrained is 'none'"),
        (CLIPConfig(architecture=ARCHITECTURE), r"clip\.pretrained is empty"),
        (CLIPConfig(architecture=ARCHITECTURE, weights="/no/such.pt"), "there is no such file"),
    ],
)
def test_what_does_not_exist_is_refused_in_one_sentence(config: CLIPConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        CLIPReranker.from_pretrained(config)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_tensors(path, {"visual.proj": torch.zeros(2, 2)})
    with pytest.raises(UserError, match=f"does not hold the weights of {ARCHITECTURE}"):
        CLIPReranker.from_pretrained(CLIPConfig(architecture=ARCHITECTURE, weights=str(path)))
