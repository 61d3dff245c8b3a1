"""What counts as a caption wherever it comes from, what is mended in it, and what a model refuses."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from models.errors import UserError

CAPTION_FIELDS = ("captions", "caption", "text")
"""Columns and JSON fields that hold captions, in the order in which they are tried."""

MAX_DEPTH = 32
"""How deep in lists and objects a caption is looked for; JSON may go deeper than Python's stack."""

SURROGATES = re.compile("[\ud800-\udfff]+")
CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]+")
"""Control characters that are no space and no line break."""

BYTE_ORDER_MARK = "\ufeff"


class CaptionError(UserError):
    """A caption that cannot be encoded."""


@dataclass(frozen=True)
class Captions:
    """The captions of an image that can be used (``texts``), and what was dropped or mended, a sentence each."""

    texts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def check_caption(caption: str) -> None:
    """Check that a caption can be drawn.

    Raises:
        CaptionError: it is empty or only spaces, or has a lone surrogate.
    """
    if not caption.strip():
        raise CaptionError("caption is empty: say what the picture shows.")
    try:
        caption.encode()
    except UnicodeEncodeError as error:
        raise CaptionError(f"caption is not valid Unicode at character {error.start}: remove it.") from error


def first_good(sources: Iterable[Any], depth: int = 0) -> Captions:
    """Return what :func:`find_captions` finds in the first source that holds a usable caption.

    All sources are in ``depth`` lists and objects. If none does, there are no captions, and the problems are those of
    all sources.
    """
    tried: list[str] = []
    for source in sources:
        found = find_captions(source, depth)
        if found.texts:
            return found
        tried += found.problems
    return Captions(problems=tried)


def find_captions(value: Any, depth: int = 0) -> Captions:
    """Return the captions in a value of a column or of JSON, which is itself in ``depth`` lists and objects.

    A caption is text, or bytes that encode text. It is tidied (:func:`tidy`) and dropped if nothing is left. Lists may
    be nested, and an object is looked through for :data:`CAPTION_FIELDS`. Null is no caption, nor is a number.
    """
    if value is None:
        return Captions()
    if not isinstance(value, (Mapping, list)):
        return _one_caption(value)
    if depth == MAX_DEPTH:
        return Captions(problems=["a caption is nested too deeply"])
    if isinstance(value, Mapping):
        return first_good(map(value.get, CAPTION_FIELDS), depth + 1)
    return _find_in_list(value, depth + 1)


def _find_in_list(values: list[Any], depth: int) -> Captions:
    missing = Captions(problems=["a caption is null"])
    found = [missing if value is None else find_captions(value, depth) for value in values]
    return Captions(
        [text for captions in found for text in captions.texts],
        [problem for captions in found for problem in captions.problems],
    )


def _one_caption(value: Any) -> Captions:
    text = decode_text(value) if isinstance(value, bytes) else value
    if text is None:
        return Captions(problems=["a caption is not UTF-8"])
    if not isinstance(text, str):
        return Captions(problems=[f"a caption is no text but of type {type(value).__name__}"])
    tidied = tidy(text)
    if _is_blank(tidied):
        return Captions(problems=["a caption is blank"])
    return Captions([tidied], _mended(text))


def tidy(caption: str) -> str:
    """Return a caption as one line with single spaces, without control characters and lone surrogates."""
    return " ".join(CONTROLS.sub(" ", SURROGATES.sub(" ", caption.replace(BYTE_ORDER_MARK, " "))).split())


def _is_blank(text: str) -> bool:
    """Return whether a tidied text shows nothing: it is empty, or of invisible characters alone."""
    return all(unicodedata.category(character) in ("Cf", "Zs") for character in text)


def _mended(text: str) -> list[str]:
    """Return what :func:`tidy` takes out of ``text``, white space and byte order marks excepted."""
    names = {"half a surrogate pair": SURROGATES, "control characters": CONTROLS}
    return [f"{name} left out of a caption" for name, pattern in names.items() if pattern.search(text)]


def decode_text(data: bytes) -> str | None:
    """Return the text of bytes in UTF-8, or in UTF-16 with a byte order mark; None if they are neither."""
    has_utf16_mark = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if has_utf16_mark else "utf-8-sig")
    except UnicodeDecodeError:
        return None


def split_lines(text: str) -> list[str]:
    """Return the captions in a text of one image: one a line, but one for lines that were wrapped by hand.

    A line goes on with the one before it if the text begins with a capital letter, the line with a small one, and the
    one before does not end a sentence. Only a line feed ends a line, not the other characters that Unicode calls line
    separators.
    """
    lines: list[str] = []
    for line in map(str.strip, text.strip().split("\n")):
        before = lines[-1] if lines else ""
        if before and lines[0][0].isupper() and line[:1].islower() and before[-1] not in ".!?":
            lines[-1] = f"{before} {line}"
        else:
            lines.append(line)
    return [line for line in lines if line]
