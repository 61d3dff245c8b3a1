"""Images that wait to be fetched from the addresses in an answer: for an hour, in bounded memory.

The deployment ``images`` holds them for all replicas of the HTTP door, which may be lost, and answer for one another.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

from t2i.serve.monitoring.origin import for_request

KEPT_S = 3600
"""Seconds after which the address of an image expires."""


@dataclass(frozen=True)
class StoredImage:
    """An image file, its format, and until when it is kept (Unix time)."""

    data: bytes
    file_format: str
    expires: int


class Addresses:
    """Addresses of images that nobody else can make; those with the same key know each other's.

    An empty ``key`` means a random one.
    """

    def __init__(self, key: str) -> None:
        self._key = key.encode() or secrets.token_bytes(32)

    def path(self, name: str, expires: int) -> str:
        """Return where an image is fetched until it ``expires`` (Unix time): a path with a signature."""
        return f"v1/images/{name}?expires={expires}&signature={self._signature(name, expires)}"

    def check(self, name: str, expires: int, signature: str) -> None:
        """Check the parts of an address.

        Raises:
            PermissionError: the signature is not that of this address.
        """
        if not hmac.compare_digest(signature.encode(), self._signature(name, expires).encode()):
            raise PermissionError

    def _signature(self, name: str, expires: int) -> str:
        return hmac.new(self._key, f"{name}:{expires}".encode(), hashlib.sha256).hexdigest()


class ImageStore:
    """Keeps the newest images, of together at most ``room`` bytes; a replica of the deployment ``images``."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._images: OrderedDict[str, StoredImage] = OrderedDict()
        self._bytes = 0

    @for_request("images")
    async def put(self, name: str, image: StoredImage) -> None:
        """Keep an image; again if its answer was lost."""
        self._bytes += len(image.data) - (len(self._images[name].data) if name in self._images else 0)
        self._images[name] = image
        self._forget()

    @for_request("images")
    async def get(self, name: str) -> StoredImage | None:
        """Return an image; None if its time is over, or newer ones needed the room."""
        self._forget()
        return self._images.get(name)

    def _forget(self) -> None:
        """Let go of images that are expired, and of the oldest while there is not room for all."""
        while self._images and (self._bytes > self._room or self._oldest.expires <= time.time()):
            _, image = self._images.popitem(last=False)
            self._bytes -= len(image.data)

    @property
    def _oldest(self) -> StoredImage:
        return next(iter(self._images.values()))
