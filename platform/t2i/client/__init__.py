"""A client of the service: captions in, image files out. It imports gRPC and the messages, and so starts at once."""

from t2i.client.answers import Answer, Event, GeneratedImage, GenerationProgress, Preview, Summary
from t2i.client.async_client import AsyncClient
from t2i.client.client import Client
from t2i.client.connection import ConnectionOptions, host_of
from t2i.client.errors import (
    InvalidRequestError,
    ServiceBusyError,
    ServiceError,
    ServiceUnreachableError,
    UnauthenticatedError,
)
from t2i.client.messages import FORMATS, GenerationOptions

__all__ = [
    "FORMATS",
    "Answer",
    "AsyncClient",
    "Client",
    "ConnectionOptions",
    "Event",
    "GeneratedImage",
    "GenerationOptions",
    "GenerationProgress",
    "InvalidRequestError",
    "Preview",
    "ServiceBusyError",
    "ServiceError",
    "ServiceUnreachableError",
    "Summary",
    "UnauthenticatedError",
    "host_of",
]
