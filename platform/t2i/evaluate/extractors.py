"""The feature extractor of an evaluation, whose weights may lie in a store."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from typing import Any

from t2i.evaluate.config import EvaluateConfig
from t2i.metrics.features import ExtractorConfig, ExtractorProtocol
from t2i.storage import fetch_file


def fetch_extractor(config: ExtractorConfig) -> ExtractorConfig:
    """Return the configuration with the weights as a local file.

    Raises:
        DataError: they lie in a store and cannot be read.
    """
    files = {name: getattr(config, name) for name in ("weights", "score_weights")}
    local: dict[str, Any] = {name: str(fetch_file(uri)) for name, uri in files.items() if uri}
    return replace(config, **local)


def protocol_hash(protocol: ExtractorProtocol, config: EvaluateConfig, clip: str) -> str:
    """Return eight hex digits that tell features apart: extractor, blur, size and crop, and the CLIP of this hash."""
    how = [asdict(protocol), list(config.blur_radii), config.image_size, config.crop, clip]
    document = json.dumps(how, sort_keys=True)
    return hashlib.sha256(document.encode()).hexdigest()[:8]
