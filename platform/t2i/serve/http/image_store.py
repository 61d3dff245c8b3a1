"""Images that wait to be fetched from the addresses in an answer: for an hour, in bounded memory."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

KEPT_S = 3600
"""Seconds after which the address of an image expires."""


@dataclass(frozen=True)
class StoredImage:
    """An image file, its format, and until when it is kept (Unix time)."""

    data: bytes
    file_format: str
    expires: int


class ImageStore:
    """Keeps the newest images, of together at most ``room`` bytes; an empty ``key`` means a random one."""

    def __init__(self, room: int, key: str) -> None:
        self._room = room
        self._key = key.encode() or secrets.token_bytes(32)
        self._images: OrderedDict[str, StoredImage] = OrderedDict()
        self._bytes = 0

    def put(self, data: bytes, file_format: str) -> str:
        """Keep an image; return where it is fetched, a path with a signature that nobody else can make."""
        expires = int(time.time()) + KEPT_S
        name = secrets.token_urlsafe(16)
        self._images[name] = StoredImage(data, file_format, expires)
        self._bytes += len(data)
        self._forget()
        return f"v1/images/{name}?expires={expires}&signature={self._signature(name, expires)}"

    def get(self, name: str, expires: int, signature: str) -> StoredImage | None:
        """Return an image; None if its time is over, or newer ones needed the room.

        Raises:
            PermissionError: the signature is not that of this address.
        """
        if not hmac.compare_digest(signature.encode(), self._signature(name, expires).encode()):
            raise PermissionError
        self._forget()
        return self._images.get(name)

    def _signature(self, name: str, expires: int) -> str:
        return hmac.new(self._key, f"{name}:{expires}".encode(), hashlib.sha256).hexdigest()

    def _forget(self) -> None:
        """Let go of images that are expired, and of the oldest while there is not room for all."""
        while self._images and (self._bytes > self._room or self._oldest.expires <= time.time()):
            _, image = self._images.popitem(last=False)
            self._bytes -= len(image.data)

    @property
    def _oldest(self) -> StoredImage:
        return next(iter(self._images.values()))
