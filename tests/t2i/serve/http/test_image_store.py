"""The images that wait to be fetched, and their addresses."""

from __future__ import annotations

import asyncio
import time
from unittest import mock

import httpx
import pytest

from t2i.serve.http.image_store import KEPT_S, Addresses, ImageStore, StoredImage

CLOCK = "t2i.serve.http.image_store.time.time"


def check(addresses: Addresses, path: str, **changed: str) -> None:
    url = httpx.URL(f"http://host/{path}").copy_merge_params(changed)
    addresses.check(url.path.rpartition("/")[2], int(url.params["expires"]), url.params["signature"])


def test_only_its_own_addresses_are_good() -> None:
    addresses = Addresses("")
    path = addresses.path("name", 1000)
    check(addresses, path)
    for wrong in ({"expires": "99999999999"}, {"signature": "0" * 64}, {"signature": "é"}):
        with pytest.raises(PermissionError):
            check(addresses, path, **wrong)
    with pytest.raises(PermissionError):
        check(Addresses(""), path)


def test_with_one_key_all_know_each_others() -> None:
    check(Addresses("key"), Addresses("key").path("name", 1000))


def test_an_image_is_gone_after_an_hour() -> None:
    image = StoredImage(b"red", "png", 1000 + KEPT_S)

    async def main() -> list[StoredImage | None]:
        store = ImageStore(100)
        found: list[StoredImage | None] = []
        for now in (1000.0, 1000.0 + KEPT_S - 1, 1000.0 + KEPT_S):
            with mock.patch(CLOCK, return_value=now):
                if not found:
                    await store.put("name", image)
                found.append(await store.get("name"))
        return found

    assert asyncio.run(main()) == [image, image, None]


def test_the_oldest_make_room_and_what_is_put_twice_needs_it_once() -> None:
    images = [StoredImage(bytes([value]) * 4, "png", int(time.time()) + KEPT_S) for value in range(3)]

    async def main() -> list[StoredImage | None]:
        store = ImageStore(10)
        for name in (0, 1, 1, 2, 2):
            await store.put(str(name), images[name])
        return [await store.get(str(name)) for name in range(3)]

    assert asyncio.run(main()) == [None, *images[1:]]
