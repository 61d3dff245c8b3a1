from __future__ import annotations

import socket

import numpy as np
import pytest

from t2i.metrics.features import ExtractorConfig, ExtractorProtocol, extractor_protocol, load_extractor


def test_default_extractor_works_offline_and_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", None)  # whoever calls it fails
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    extractor = load_extractor(ExtractorConfig())
    result = extractor(images)
    assert result.features.shape == (2, 1280)
    assert result.logits.shape == (2, 1000)
    assert extractor.protocol == extractor_protocol(ExtractorConfig())
    assert extractor.protocol.metric_name("fid") == "fd_efficientnet_lite0"
    assert len(extractor.protocol.weight_hash) == 64


def test_an_images_features_do_not_depend_on_its_batch() -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), np.uint8)
    extractor = load_extractor(ExtractorConfig())
    np.testing.assert_allclose(extractor(images).features[1:2], extractor(images[1:2]).features, atol=1e-4)


def test_only_the_fid_file_gives_a_fid() -> None:
    official = ExtractorProtocol("inception_v3", "6726825d" + 56 * "0", "tf", "")
    assert [official.metric_name(metric) for metric in ("fid", "kid", "is")] == ["fid", "kid", "is"]


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match=r"extractor\.preset is 'clean'"):
        ExtractorConfig(preset="clean")
