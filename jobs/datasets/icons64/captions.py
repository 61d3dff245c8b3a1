"""The captions of a drawing."""

from __future__ import annotations

from collections.abc import Iterable

from icons64.colours import spoken, with_colour

KEYWORDS = 5


def one_colour_captions(
    colour: str, phrase: str, style_phrase: str, look: str, others: Iterable[str], keywords: Iterable[str]
) -> list[str]:
    """Return captions that all name the colour: with the style, alone, by other names, with its look, with keywords."""
    named = with_colour(colour, phrase)
    texts = [f"{named}, {style_phrase}", named, f"{named}, {look}"]
    texts += [f"{with_colour(colour, other)}, {style_phrase}" for other in others]
    return unique([*texts, *_listed(named, [word for word in keywords if not spoken(word)])])


def colour_captions(
    main: str, phrase: str, style_phrase: str, look: str, others: Iterable[str], keywords: Iterable[str]
) -> list[str]:
    """Return captions: with the style, alone, by other names, with main colour and look, with keywords."""
    texts = [f"{phrase}, {style_phrase}", phrase, *others]
    return unique([*texts, f"{with_colour(main, phrase)}, {look}", *_listed(phrase, keywords)])


def _listed(phrase: str, keywords: Iterable[str]) -> list[str]:
    words = [word for word in unique(keywords) if word.lower() not in phrase.lower().split()][:KEYWORDS]
    return [", ".join([phrase, *words])] if words else []


def unique(texts: Iterable[str]) -> list[str]:
    """Return texts without those that differ from an earlier one in capitals alone."""
    found: dict[str, str] = {}
    for text in texts:
        found.setdefault(text.lower(), text)
    return list(found.values())
