"""From captions to ranked images: requests share slots, each of which makes one image token per step. Without Ray."""

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

__all__ = [
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
]
