"""Country codes as emoji of flags."""

from __future__ import annotations

REGIONAL_A, TAG_SPACE = 0x1F1E6, 0xE0000


def flag_concept(code: str) -> str:
    """Return the code points of a flag: ``fr`` by two letters, ``gb-sct`` by a black flag and tags."""
    letters = code.replace("-", "")
    if len(letters) == 2:
        return "-".join(f"{REGIONAL_A + ord(letter) - ord('a'):x}" for letter in letters)
    return "-".join(["1f3f4", *(f"{TAG_SPACE + ord(letter):x}" for letter in letters), "e007f"])
