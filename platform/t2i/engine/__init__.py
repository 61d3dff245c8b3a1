"""From captions to ranked images: requests, slots, one token per step for everybody (no Ray in here)."""

from t2i.engine.drawing import Drawing, Drawn
from t2i.engine.engine import Engine
from t2i.engine.pipeline import Generation, TextToImage
from t2i.engine.pruning import Pruner, Pruning
from t2i.engine.request import (
    CompletedRows,
    FinishedCandidate,
    Progress,
    Request,
    RequestError,
    Sampling,
    StepResult,
    rows_to_keep,
)

__all__ = [
    "CompletedRows",
    "Drawing",
    "Drawn",
    "Engine",
    "FinishedCandidate",
    "Generation",
    "Progress",
    "Pruner",
    "Pruning",
    "Request",
    "RequestError",
    "Sampling",
    "StepResult",
    "TextToImage",
    "rows_to_keep",
]
