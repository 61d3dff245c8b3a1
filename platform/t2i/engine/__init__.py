"""From captions to ranked images: requests share slots, each of which makes image tokens step by step. Without Ray.

Names are imported from their modules when they are first asked for: who needs only requests and what comes of them, as
a gateway does, does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from t2i.engine.drafting import PARALLEL_MEANING, window_of
    from t2i.engine.engine import Engine
    from t2i.engine.offline import OfflineRun, SampledCandidates
    from t2i.engine.pipeline import GenerationResult, SampledCaption, TextToImage
    from t2i.engine.pruning import Pruner, PruningParams
    from t2i.engine.request import (
        FinishedCandidate,
        PartialCandidate,
        Request,
        StepResult,
        TokenProgress,
        encode_request,
        rows_to_keep,
    )
    from t2i.engine.version import ENGINE_VERSION

_MODULES = ("version", "drafting", "request", "engine", "offline", "pipeline", "pruning")  # those without torch first

__all__ = [
    "ENGINE_VERSION",
    "PARALLEL_MEANING",
    "Engine",
    "FinishedCandidate",
    "GenerationResult",
    "OfflineRun",
    "PartialCandidate",
    "Pruner",
    "PruningParams",
    "Request",
    "SampledCandidates",
    "SampledCaption",
    "StepResult",
    "TextToImage",
    "TokenProgress",
    "encode_request",
    "rows_to_keep",
    "window_of",
]


def __getattr__(name: str) -> object:
    """Return what ``t2i.engine`` lists by this name, from the module that has it."""
    if name in __all__:
        for module in map(importlib.import_module, (f"t2i.engine.{each}" for each in _MODULES)):
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module 't2i.engine' has no attribute {name!r}.")
