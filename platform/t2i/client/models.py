"""Which models a service has, and changes of them while it answers."""

from __future__ import annotations

from collections.abc import Iterator

from t2i.client.client import Client
from t2i.protos.v1 import models_pb2 as pb
from t2i.protos.v1.models_pb2_grpc import ModelsStub

LIST_S = 60.0
CHANGE_S = 3600.0
"""Seconds that an answer may take; models are loaded before a change is made."""


def list_models(client: Client) -> pb.ListModelsResponse:
    """Return the models of a service, the default first, and its limits.

    Raises:
        ServiceError: the service answers with an error, or not at all.
    """
    with client.translated_errors():
        answer: pb.ListModelsResponse = ModelsStub(client.channel).ListModels(
            pb.ListModelsRequest(), timeout=LIST_S, metadata=client.metadata
        )
    return answer


def add_model(client: Client, name: str, run: str) -> Iterator[pb.AddModelResponse]:
    """Serve a run under a name, in the place of what it has now; yields how far that is, at last ADD_STEP_SERVED.

    ``run`` is a directory as the service sees it, or an address such as ``s3://bucket/run``. If the iterator is closed
    early, the service goes back to what it had.

    Raises:
        InvalidRequestError: name or run cannot be used.
        ServiceError: the service answers with another error, or not at all.
    """
    request = pb.AddModelRequest(name=name, run=run)
    call = ModelsStub(client.channel).AddModel(request, timeout=CHANGE_S, metadata=client.metadata)
    try:
        with client.translated_errors():
            yield from call
    finally:
        call.cancel()


def remove_model(client: Client, name: str) -> None:
    """End a model that is not the default; what it has begun is still done.

    Raises:
        InvalidRequestError: there is no such model, or it is the default.
        ServiceError: the service answers with another error, or not at all.
    """
    with client.translated_errors():
        ModelsStub(client.channel).RemoveModel(
            pb.RemoveModelRequest(name=name), timeout=CHANGE_S, metadata=client.metadata
        )


def set_default_model(client: Client, name: str) -> None:
    """Let a model answer the requests that name none.

    Raises:
        InvalidRequestError: there is no such model.
        ServiceError: the service answers with another error, or not at all.
    """
    with client.translated_errors():
        ModelsStub(client.channel).SetDefault(
            pb.SetDefaultRequest(name=name), timeout=CHANGE_S, metadata=client.metadata
        )
