from __future__ import annotations

import socket

import numpy as np
import pytest

from models.errors import UserError
from t2i.metrics.features import ExtractorConfig, ExtractorProtocol, extractor_protocol, load_extractor


def test_default_extractor_works_offline_and_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", None)  # whoever calls it fails
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    extractor = load_extractor(ExtractorConfig())
    result = extractor(images)
    assert result.features.shape == (2, 1280)
    assert result.logits.shape == (2, 1000)
    assert extractor.dimension == 1280
    assert extractor.protocol == extractor_protocol(ExtractorConfig())
    assert extractor.protocol.metric_name("fid") == "fd_efficientnet_lite0"
    assert len(extractor.protocol.weight_hash) == 64


def test_an_images_features_are_the_same_bits_at_any_fill_and_place_of_its_batch() -> None:
    images = np.random.default_rng(1).integers(0, 256, (7, 64, 64, 3), np.uint8)
    extractor = load_extractor(ExtractorConfig(batch=4))
    whole = extractor(images)
    for start, stop in ((0, 1), (3, 4), (2, 5), (5, 7), (1, 7)):
        part = extractor(images[start:stop])
        assert np.array_equal(part.features, whole.features[start:stop])
        assert np.array_equal(part.logits, whole.logits[start:stop])


def test_only_the_fid_file_gives_a_fid() -> None:
    official = ExtractorProtocol("inception_v3", "6726825d" + 56 * "0", "tf", "")
    assert [official.metric_name(metric) for metric in ("fid", "kid", "is")] == ["fid", "kid", "is"]


def test_dmgans_inception_score_is_named_by_the_network_of_its_logits() -> None:
    both = ExtractorProtocol("inception_v3_imagenet", "0" * 64, "dmgan", "", "6726825d" + 56 * "0", 64)
    assert [both.metric_name(metric) for metric in ("fid", "is")] == ["fd_inception_v3_imagenet", "is"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "neat"}, r"extractor\.preset is 'neat'"),
        ({"name": "resnet", "weights": "a.pth"}, r"extractor\.name is 'resnet'"),
        ({"name": "inception"}, r"extractor\.weights is empty"),
        ({"name": "timm/resnet50"}, r"extractor\.weights is empty"),
        ({"name": "efficientnet_lite0", "weights": "a.pth"}, "has its own"),
        ({"preset": "clean"}, "for the Inception, not efficientnet_lite0"),
        ({"weights": "a.pth", "score_weights": "b.pth"}, r"for extractor\.preset=dmgan only"),
        ({"weights": "a.pth", "side": 224}, "not inception"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        ExtractorConfig(**settings)
