"""From captions to ranked images: requests, slots, one token per step for everybody (no Ray in here)."""

from t2i.engine.engine import Engine
from t2i.engine.offline import OfflineRun, SampledCandidates
from t2i.engine.pipeline import GenerationResult, TextToImage
from t2i.engine.pruning import Pruner, PruningParams
from t2i.engine.request import (
    CompletedRows,
    FinishedCandidate,
    Request,
    StepResult,
    TokenProgress,
    rows_to_keep,
)

__all__ = [
    "CompletedRows",
    "Engine",
    "FinishedCandidate",
    "GenerationResult",
    "OfflineRun",
    "Pruner",
    "PruningParams",
    "Request",
    "RequestError",
    "SampledCandidates",
    "SamplingParams",
    "StepResult",
    "TextToImage",
    "TokenProgress",
    "rows_to_keep",
]
