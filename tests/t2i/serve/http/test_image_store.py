"""The images that wait to be fetched."""

from __future__ import annotations

from unittest import mock

import httpx
import pytest

from t2i.serve.http.image_store import KEPT_S, ImageStore

CLOCK = "t2i.serve.http.image_store.time.time"


def fetch(store: ImageStore, path: str, **changed: str) -> bytes | None:
    url = httpx.URL(f"http://host/{path}").copy_merge_params(changed)
    name = url.path.rpartition("/")[2]
    image = store.get(name, int(url.params["expires"]), url.params["signature"])
    return image.data if image else None


def test_only_its_own_addresses_are_good() -> None:
    store, other = ImageStore(100, ""), ImageStore(100, "")
    path = store.put(b"red", "png")
    assert fetch(store, path) == b"red"
    for wrong in ({"expires": "99999999999"}, {"signature": "0" * 64}, {"signature": "é"}):
        with pytest.raises(PermissionError):
            fetch(store, path, **wrong)
    with pytest.raises(PermissionError):
        fetch(other, path)


def test_a_key_that_is_given_outlives_the_store() -> None:
    path = ImageStore(100, "key").put(b"red", "png")
    assert fetch(ImageStore(100, "key"), path) is None


def test_an_image_is_gone_after_an_hour() -> None:
    store = ImageStore(100, "")
    with mock.patch(CLOCK, return_value=1000.0):
        path = store.put(b"red", "png")
    with mock.patch(CLOCK, return_value=1000.0 + KEPT_S - 1):
        assert fetch(store, path) == b"red"
    with mock.patch(CLOCK, return_value=1000.0 + KEPT_S):
        assert fetch(store, path) is None


def test_the_oldest_make_room() -> None:
    store = ImageStore(10, "")
    paths = [store.put(bytes([value]) * 4, "png") for value in range(3)]
    assert [fetch(store, path) for path in paths] == [None, b"\1" * 4, b"\2" * 4]
