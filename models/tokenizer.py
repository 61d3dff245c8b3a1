"""Lower-cased byte-pair encoding of captions, by Hugging Face ``tokenizers`` (paper section 2.2).

Only runs of a-z merge; digits, punctuation and spaces stay alone (an author's reply in an openai/DALL-E issue).
Every other character falls back to its UTF-8 bytes, so there is no unknown token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from models.checkpoint import CheckpointError, verify, write_manifest
from models.errors import UserError

FILE = "tokenizer.json"
MAX_CHARACTERS = 4096


class CaptionError(UserError):
    """A caption that cannot be encoded; the message is one sentence."""


@dataclass(frozen=True)
class EncodedCaption:
    """BPE ids of a caption, and whether its end had to be cut off to fit."""

    ids: list[int]
    truncated: bool


class CaptionTokenizer:
    """Captions <-> BPE ids in [0, vocabulary)."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def train(cls, captions: Iterable[str], vocabulary: int) -> CaptionTokenizer:
        """Learn at most ``vocabulary`` tokens (256 of them bytes) from captions."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex("[^a-z]"), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
        tokenizer.train_from_iterator(captions, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, directory: str | Path) -> CaptionTokenizer:
        """Read what :meth:`save` wrote.

        Raises:
            CheckpointError: the directory is missing, incomplete or damaged.
        """
        if FILE not in verify(directory):
            raise CheckpointError(f"{directory} is not a tokenizer: it has no {FILE}.")
        return cls(Tokenizer.from_file(str(Path(directory) / FILE)))

    def save(self, directory: str | Path) -> Path:
        """Write the tokenizer and its manifest into ``directory``."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._tokenizer.save(str(directory / FILE))
        write_manifest(directory)
        return directory

    @property
    def vocabulary(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, caption: str, length: int) -> EncodedCaption:
        """One caption -> at most ``length`` ids.

        Raises:
            CaptionError: it is empty, over 4 096 characters, or not valid Unicode.
        """
        check_caption(caption)
        ids = self._tokenizer.encode(caption).ids
        return EncodedCaption(ids[:length], truncated=len(ids) > length)

    def encode_batch(self, captions: Sequence[str], length: int) -> list[EncodedCaption]:
        """:meth:`encode` over many captions at once, on all cores."""
        for caption in captions:
            check_caption(caption)
        encodings = self._tokenizer.encode_batch(list(captions))
        return [EncodedCaption(e.ids[:length], truncated=len(e.ids) > length) for e in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Ids -> the lower-cased text."""
        return self._tokenizer.decode(list(ids))


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
