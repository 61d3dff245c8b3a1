"""Resolve a path or URI to a file system of fsspec and the path inside it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations

from t2i.config import MODEL_STORE
from t2i.storage.errors import DataError

URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
ONE_SLASH = re.compile(r"(\w+):/[^/]")
CREDENTIALS = re.compile(r"[^/]*:[^/]*@")
WILDCARDS = "*?["
SCHEMES = "s3://, gs://, az://, abfs://, hf:// or https://"
STORE_VARIABLE = "T2I_MODEL_STORE"
"""The variable that says on each node where the model store is."""


def filesystem_for(uri: str | Path) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of ``uri`` and the path inside it, in which no character has a special meaning.

    Local paths are made absolute, and ``~`` is the home directory. Listings are never cached. What begins with
    ``models://`` lies in the model store of this node, which :data:`STORE_VARIABLE` names.

    Raises:
        DataError: the scheme is unknown, its package is not installed, or the path cannot be one.
    """
    text = str(uri)
    if text.startswith(MODEL_STORE):
        text = f"{model_store()}/{text.removeprefix(MODEL_STORE)}"
    if not text or "\0" in text:
        raise DataError(f"path is {text!r}: name a file, a folder or a glob.")
    match = URI.fullmatch(text)
    if match is None:
        return LocalFileSystem(), _local(text)
    scheme, rest = match[1].lower(), match[2]
    if CREDENTIALS.match(rest):
        raise DataError(f"path is {scheme}://... with a password in it: give credentials by variables or files.")
    if scheme in ("file", "local"):
        return LocalFileSystem(), _of_file_uri(text, rest)
    if scheme in ("http", "https"):
        return _open(scheme, text), text.replace("#", "%23")  # which no server would be sent otherwise
    bucket = rest.split("/")[0]
    if not _is_utf8(text):
        raise DataError(f"path is {text!r}: it is not UTF-8, which names in a store are.")
    if not bucket or set(bucket) & set(WILDCARDS):
        raise DataError(f"path is {text!r}: name one bucket, as in {scheme}://bucket/folder.")
    filesystem = _open(scheme, text)
    return filesystem, _without_dots(filesystem._strip_protocol(f"{scheme}://{rest}"))


def model_store() -> str:
    """Return where this node's model store is: a folder or an address.

    Raises:
        DataError: the variable that says so is not set, or to something that differs between processes.
    """
    store = os.environ.get(STORE_VARIABLE, "").rstrip("/")
    if not store:
        raise DataError(f"{STORE_VARIABLE} is not set: it has to name the model store, on every node.")
    if store.startswith(MODEL_STORE) or not (store.startswith(("/", "~")) or "://" in store):
        raise DataError(f"{STORE_VARIABLE} is {store!r}: give an absolute path, or an address like s3://bucket/models.")
    return store


def _local(text: str) -> str:
    """Return a local path as absolute; what is there by exactly this name is preferred to a home directory."""
    slip = ONE_SLASH.match(text)
    if slip and slip[1].lower() in known_implementations and not os.path.lexists(text):
        raise DataError(f"path is {text!r}: write two slashes, as in {slip[1]}://.")
    return str(Path(text if os.path.lexists(text) else os.path.expanduser(text)).absolute())


def _of_file_uri(text: str, rest: str) -> str:
    """Return the path of a file: URI, in which %20 stands for a space unless a file has exactly that name."""
    host, _, path = rest.partition("/")
    if host not in ("", "localhost"):
        raise DataError(f"path is {text!r}: write file:/// and an absolute path, or the path alone.")
    return _local(f"/{path}" if os.path.lexists(f"/{path}") else f"/{unquote(path)}")


def _is_utf8(text: str) -> bool:
    """Return whether ``text`` is free of bytes that could not be decoded, as the names of local files may have."""
    return text == text.encode(errors="ignore").decode()


def _without_dots(path: str) -> str:
    """Return a path in a store without ``.`` and ``..``, which are ordinary characters there: a/b/../c is a/c."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == ".." and len(kept) > 1:
            kept.pop()
        elif segment not in (".", ".."):
            kept.append(segment)
    return "/".join(kept)


def _open(scheme: str, text: str) -> fsspec.AbstractFileSystem:
    """Return the file system of ``scheme``: ours for S3, else that of fsspec."""
    if scheme in ("s3", "s3a"):
        from t2i.storage.s3 import connect  # a quarter of a second, which other runs need not spend

        return connect()
    try:
        cls = fsspec.get_filesystem_class(scheme)
        return cls(**cls._get_kwargs_from_urls(text), use_listings_cache=False)
    except ImportError as error:
        package = known_implementations[scheme]["class"].partition(".")[0]
        remedy = f"pip install {package}" if package != "fsspec" else str(error)
        raise DataError(f"path is {text!r}: {scheme}:// needs a package not installed here: {remedy}.") from error
    except (ValueError, TypeError, OSError) as error:  # OSError: one that a path alone does not open, such as zip://
        raise DataError(f"path is {text!r}: use a local path, {SCHEMES}, or what else fsspec can open.") from error


def is_local(filesystem: fsspec.AbstractFileSystem) -> bool:
    """Return whether ``filesystem`` is that of this machine."""
    return isinstance(filesystem, LocalFileSystem)
