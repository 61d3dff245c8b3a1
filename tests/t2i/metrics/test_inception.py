from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torchvision.models import inception

from t2i.metrics.features import ExtractorConfig, extractor_protocol, load_extractor
from t2i.metrics.inception import BlockA, BlockC, BlockE, load_inception
from t2i.metrics.inception_input import WeightsFileError, prepare_clean, prepare_pytorch_fid, prepare_tf

PAIRS = [
    (BlockA, inception.InceptionA, (8, 16)),
    (BlockC, inception.InceptionC, (8, 16)),
    (BlockE, inception.InceptionE, (8,)),
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict with the FID file's names and shapes."""
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(inception.Inception3(num_classes=1008, aux_logits=False, init_weights=False).state_dict(), path)
    return path


@pytest.mark.parametrize(("ours", "stock", "arguments"), PAIRS)
def test_a_block_is_the_stock_one_without_padding_in_its_averages(
    ours: type[nn.Module], stock: type[nn.Module], arguments: tuple[int, ...]
) -> None:
    block, reference = ours(*arguments).eval(), stock(*arguments).eval()
    reference.load_state_dict(block.state_dict())
    counted = torch.nn.functional.avg_pool2d(torch.ones(1, 1, 5, 5), 3, stride=1, padding=1)
    reference.get_submodule("branch_pool").register_forward_pre_hook(lambda _, inputs: inputs[0] / counted)
    x = torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(block(x), reference(x))


def test_the_last_block_pools_by_maximum(weights: Path) -> None:
    block = load_inception(weights).get_submodule("Mixed_7c")
    x = torch.randn(1, 2048, 4, 4)
    pooled = block.get_submodule("branch_pool")(torch.nn.functional.max_pool2d(x, 3, stride=1, padding=1))
    torch.testing.assert_close(block(x)[:, -192:], pooled)


def test_logits_are_the_classifier_without_its_bias_on_the_pooled_features(weights: Path) -> None:
    network = load_inception(weights)
    state = torch.load(weights, weights_only=True)  # noqa: TID251 (written by this test)
    with torch.inference_mode():
        features, logits = network(torch.randn(1, 3, 299, 299))
    assert features.shape == (1, 2048)
    torch.testing.assert_close(logits, features @ state["fc.weight"].T)


def test_tensorflow_resize_starts_at_the_corner_without_half_a_pixel() -> None:
    ramp = torch.arange(4.0).expand(1, 3, 4, 4) * 64
    row = prepare_tf(ramp)[0, 0, 0] * 128 + 128
    expected = np.interp(np.arange(299) * 4 / 299, np.arange(4), np.arange(4) * 64)
    np.testing.assert_allclose(row.numpy(), expected, atol=1e-3)


def test_pytorch_fids_resize_is_centred_and_reaches_both_ends_of_the_scale() -> None:
    ramp = torch.tensor([0.0, 255.0]).expand(1, 3, 2, 2)
    row = prepare_pytorch_fid(ramp)[0, 0, 0]
    assert (row[0].item(), row[-1].item()) == (-1, 1)
    torch.testing.assert_close(row + row.flip(0), torch.zeros(299), atol=1e-5, rtol=0)


def test_safetensors_and_state_dict_files_give_the_same_features(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)  # noqa: TID251 (written by this test)
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    first = load_extractor(ExtractorConfig(weights=str(weights)))(image)
    second = load_extractor(ExtractorConfig(weights=str(tmp_path / "weights.safetensors")))(image)
    assert np.array_equal(first.features, second.features)


def test_weights_that_are_not_the_fid_files_never_give_a_fid(weights: Path) -> None:
    protocol = extractor_protocol(ExtractorConfig(weights=str(weights)))
    assert protocol.metric_name("fid") == "fd_inception_v3"
    assert protocol.metric_name("kid") == "kid_inception_v3"


def test_foreign_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(WeightsFileError, match=r"extractor\.weights names no file"):
        load_inception(tmp_path / "absent.pth")
    with pytest.raises(WeightsFileError, match=r"extractor\.weights names no file"):
        extractor_protocol(ExtractorConfig(weights=str(tmp_path / "absent.pth")))
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(WeightsFileError, match="does not hold"):
        load_inception(tmp_path / "text.pth")


def test_clean_resizes_floats_by_pils_antialiased_bicubic() -> None:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 600, 500), np.uint8))
    expected = torch.nn.functional.interpolate(image.float(), size=(299, 299), mode="bicubic", antialias=True)
    torch.testing.assert_close(prepare_clean(image) * 128 + 128, expected.clamp(0, 255), atol=0.01, rtol=0)


def test_dmgans_features_are_torchvisions_and_its_logits_the_fid_inceptions(weights: Path, tmp_path: Path) -> None:
    stock = inception.Inception3(num_classes=1000, aux_logits=True, transform_input=True, init_weights=False).eval()
    torch.save(stock.state_dict(), tmp_path / "imagenet.pth")
    imagenet = str(tmp_path / "imagenet.pth")
    image = np.random.default_rng(0).integers(0, 256, (1, 299, 299, 3), np.uint8)
    extractor = load_extractor(ExtractorConfig(weights=imagenet, score_weights=str(weights), preset="dmgan", batch=1))
    result = extractor(image)
    stock.fc = nn.Identity()
    with torch.inference_mode():
        # torchvision's transform_input is the very un-normalisation that DM-GAN applies.
        expected = stock(torch.from_numpy(image).permute(0, 3, 1, 2) / 255)
    np.testing.assert_allclose(result.features, expected.numpy(), rtol=1e-3, atol=1e-5)
    assert np.array_equal(result.logits, load_extractor(ExtractorConfig(weights=str(weights), batch=1))(image).logits)
    assert (extractor.protocol.multiple_of, extractor.protocol.name) == (64, "inception_v3_imagenet")
    alone = load_extractor(ExtractorConfig(weights=imagenet, preset="dmgan", batch=1))(image)
    assert np.array_equal(alone.features, result.features)
    assert alone.logits.shape == (1, 1000)
