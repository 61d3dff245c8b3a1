"""The feature extractor of an evaluation, whose weights may lie in a store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from t2i.metrics.features import ExtractorConfig, ExtractorProtocol
from t2i.storage import fetch_file


def fetch_extractor(config: ExtractorConfig) -> ExtractorConfig:
    """Return the configuration with the weights as a local file.

    Raises:
        DataError: they lie in a store and cannot be read.
    """
    return replace(config, weights=str(fetch_file(config.weights))) if config.weights else config


def protocol_hash(protocol: ExtractorProtocol, radii: Sequence[float], clip: str) -> str:
    """Return eight hex digits that tell features apart: extractor, radii of blur, and the CLIP of this hash."""
    document = json.dumps([asdict(protocol), list(radii), clip], sort_keys=True)
    return hashlib.sha256(document.encode()).hexdigest()[:8]
