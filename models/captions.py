"""Checks that every caption has to pass, whatever it is used for."""

from __future__ import annotations

from models.errors import UserError

MAX_CHARACTERS = 4096
"""Longest caption that is accepted."""


class CaptionError(UserError):
    """A caption that cannot be encoded."""


def check_caption(caption: str) -> None:
    """Check that a caption can be encoded.

    Raises:
        CaptionError: it is empty or only spaces, longer than 4 096 characters, or has a lone surrogate.
    """
    if not caption.strip():
        raise CaptionError("caption is empty: say what the picture shows.")
    if len(caption) > MAX_CHARACTERS:
        raise CaptionError(f"caption has {len(caption)} characters: use at most {MAX_CHARACTERS}.")
    try:
        caption.encode()
    except UnicodeEncodeError as error:
        raise CaptionError(f"caption is not valid Unicode at character {error.start}: remove it.") from error
