"""What the OpenAPI description says beyond the types of the routes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from t2i.serve.http.answers import ImagesAnswer
from t2i.serve.http.fields import EditFields


class ErrorDetail(BaseModel):
    """What went wrong: a sentence, the kind of error, the field if it is one's fault, and a word for programs."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """The body of every answer that is no success."""

    error: ErrorDetail


class ServedModel(BaseModel):
    """A model: its images' size, their rows of image tokens, and the most candidates of a request.

    ``root`` is the name of the model: that of another entry where ``id`` is an alias.
    """

    id: str
    root: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "t2i"
    size: str
    rows: int
    max_candidates: int


class ModelList(BaseModel):
    """The models, the default first, and then their other names."""

    object: Literal["list"] = "list"
    data: list[ServedModel]


SENTENCES = {
    400: "a field is unknown, missing or impossible",
    401: "clients need a key, and it is missing or not known",
    403: "a signature is wrong",
    404: "there is no such model, image or address",
    413: "the body is too large",
    429: "others' work leaves this too little time: Retry-After says when to ask again",
    500: "an error of the service: its log has it under x-request-id",
    503: "a replica was lost and did not come back in time",
    504: "the time limit passed",
}

FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": sentence} for status, sentence in SENTENCES.items()
}
"""The answers of a route that are no success."""

EVENTS = {"text/event-stream": {"schema": {"type": "string"}}}

ANSWERS: dict[str, Any] = {
    "response_model": ImagesAnswer,
    "responses": {**FAILURES, 200: {"content": EVENTS, "description": "the images, or events if stream is true"}},
}
"""How a route that draws images answers."""


def _edit_schema() -> dict[str, Any]:
    schema = EditFields.model_json_schema()
    file = {"type": "string", "format": "binary"}
    return {
        "type": "object",
        "properties": {"image": file, "mask": file, **schema["properties"]},
        "required": ["image", "prompt"],
        "additionalProperties": False,
    }


EDIT_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _edit_schema()}}}}
"""The body of an edit, which FastAPI cannot tell from the route's parameters."""
