"""Keys by which clients are known: a YAML file of their names, hashes and quotas.

::

    keys:
    - name: alice
      sha256: 5e88...        # of the key, which is stored nowhere
      tokens_per_minute: 100000
      concurrent: 4
      admin: true

A key has 256 random bits. So its hash needs no salt, and no slow function: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import UserError
from models.files import write_whole
from models.settings import setting
from t2i.config import ConfigError, load_text
from t2i.logs import get_logger
from t2i.serve.access.changes import Watched
from t2i.serve.config import check_name

logger = get_logger("serve.gateway")


@dataclass
class Key:
    """A key's entry in the file; without quotas its client may ask for as much as the service can do."""

    name: str = setting("", "what the service calls the client: letters, digits, '.', '_' and '-'")
    sha256: str = setting("", "SHA-256 of the key, in hexadecimal digits")
    tokens_per_minute: int | None = setting(None, "image tokens that it may ask for in a minute", at_least=1)
    concurrent: int | None = setting(None, "requests that it may have at once", at_least=1)
    admin: bool = setting(False, "may also change the models of the service")

    def __post_init__(self) -> None:
        check_name(self.name, "keys")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"keys: sha256 of {self.name} is no SHA-256 in 64 small hexadecimal digits.")

    @property
    def is_limited(self) -> bool:
        """Whether it has any quota."""
        return self.tokens_per_minute is not None or self.concurrent is not None


@dataclass
class KeyFile:
    """A file of keys."""

    keys: list[Key] = setting(list, "the keys that are known")

    def __post_init__(self) -> None:
        names = [key.name for key in self.keys]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"keys: the name {min(twice)} is there twice: give each key a name of its own.")


class UnauthenticatedError(Exception):
    """A client showed no key, or one that is not known; the message says so in one sentence."""


class ForbiddenError(Exception):
    """A client is known, and may not do what it asks for; the message says so in one sentence."""


class KeyRing:
    """The keys of a file, read again once it has changed.

    A changed file that cannot be read or is not valid is logged, and the keys before stay known: a slip of an editor
    locks nobody out. To lock everybody out, leave the list empty.

    Raises:
        UserError: the file cannot be read at the start, or is not valid.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._watched = Watched([path])
        self._watched.changed()
        self._keys = read_keys(path)

    def find(self, authorization: str | None) -> Key:
        """Return the key of a header ``Bearer KEY``.

        Raises:
            UnauthenticatedError: it has another form, or the key is not known.
        """
        if self._watched.changed():
            self._read_again()
        scheme, _, word = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not word.strip():
            raise UnauthenticatedError("a key is needed: send it as --key, T2I_KEY or 'authorization: Bearer KEY'.")
        key = find_key(self._keys, word.strip())
        if key is None:
            raise UnauthenticatedError("this service does not know the key: ask whoever runs it for another.")
        return key

    def _read_again(self) -> None:
        try:
            self._keys = read_keys(self._path)
        except UserError as error:
            logger.error("the keys before stay known: %s", error)


def find_key(keys: Sequence[Key], word: str) -> Key | None:
    """Return which of the keys a word is, None if it is none; the time that it takes does not tell how near it is."""
    digest, found = hash_of(word), None
    for key in keys:
        if hmac.compare_digest(key.sha256, digest):
            found = key
    return found


def hash_of(word: str) -> str:
    """Return the SHA-256 of a key, in hexadecimal digits."""
    return hashlib.sha256(word.encode("utf-8", "surrogatepass")).hexdigest()


def read_keys(path: str) -> list[Key]:
    """Return the keys of a file.

    Raises:
        UserError: it cannot be read, or is not valid.
    """
    return load_text(KeyFile, _read(Path(path)), path).keys


def add_key(
    path: Path,
    name: str,
    tokens_per_minute: int | None = None,
    concurrent: int | None = None,
    admin: bool = False,
) -> str:
    """Return a new key, whose hash is appended to a file of keys, which is made if there is none.

    Raises:
        UserError: the name is taken or not possible, or the file cannot be read or written.
    """
    word = f"t2i-{secrets.token_urlsafe(32)}"
    rights = {"tokens_per_minute": tokens_per_minute, "concurrent": concurrent, "admin": admin}
    fields = {"name": name, "sha256": hash_of(word), **{each: value for each, value in rights.items() if value}}
    before = re.sub(r"^keys: *\[ *\]", "keys:", _read(path).rstrip() if path.exists() else "keys:", flags=re.MULTILINE)
    # Appended as text, so that comments stay; the items of a list may be indented.
    indent = next(iter(re.findall(r"^( *)- ", before, re.MULTILINE)), "")
    lines = [
        f"{each}: {value!r}" if each == "name" else f"{each}: {str(value).lower()}" for each, value in fields.items()
    ]
    text = "\n".join([before, f"{indent}- " + f"\n{indent}  ".join(lines), ""])
    try:
        load_text(KeyFile, text, str(path))
        write_whole(path, text.encode())
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): name another --file.") from error
    return word


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"keys: cannot read {path} ({error.strerror}): name another file.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"keys: {path} is not UTF-8: name a file of keys.") from error
