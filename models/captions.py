"""Which captions can be drawn at all."""

from __future__ import annotations

from models.errors import UserError

MAX_CHARACTERS = 4096


class CaptionError(UserError):
    """A caption that cannot be encoded; the message is one sentence."""


def check_caption(caption: str) -> None:
    """Refuse what no model can draw.

    Raises:
        CaptionError: the caption is empty, over 4 096 characters, or holds a lone surrogate.
    """
    if not caption.strip():
        raise CaptionError("caption is empty: say what the picture shows.")
    if len(caption) > MAX_CHARACTERS:
        raise CaptionError(f"caption has {len(caption)} characters: use at most {MAX_CHARACTERS}.")
    try:
        caption.encode()
    except UnicodeEncodeError as error:
        raise CaptionError(f"caption is not valid Unicode at character {error.start}: remove it.") from error
