"""Byte-pair encoding of lower-cased captions, by Hugging Face ``tokenizers`` (paper section 2.2).

Only letters a-z are merged with each other; each digit, punctuation mark or space is a token of its own, as an author
of the paper says in an issue of openai/DALL-E. Any other character becomes one token for each of its UTF-8 bytes, so
no unknown-character token is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from models.bpe_dropout import DropoutBPE
from models.captions import check_caption
from models.manifest import CheckpointError, verify, write_manifest

TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True)
class EncodedCaption:
    """The BPE ids of a caption, and whether its end was cut off."""

    ids: list[int]
    truncated: bool


class CaptionTokenizer:
    """Encodes captions as BPE ids in [0, vocabulary), and decodes them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._dropout_bpe = DropoutBPE(tokenizer)
        self._longest_token = max(map(len, tokenizer.get_vocab()))

    @classmethod
    def train(cls, captions: Iterable[str], vocabulary: int) -> CaptionTokenizer:
        """Learn a tokenizer of at most ``vocabulary`` tokens: one for each byte, and merges found in runs of a-z."""
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
        words = (word for caption in captions for word in re.findall("[a-z]+", caption.lower()))
        tokenizer.train_from_iterator(words, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, directory: str | Path) -> CaptionTokenizer:
        """Return the tokenizer in a directory that :meth:`save` wrote.

        Raises:
            CheckpointError: the directory is missing, incomplete or damaged.
        """
        if TOKENIZER_FILE not in verify(directory):
            raise CheckpointError(f"{directory} is not a tokenizer: it has no {TOKENIZER_FILE}.")
        return cls(Tokenizer.from_file(str(Path(directory) / TOKENIZER_FILE)))

    def save(self, directory: str | Path) -> Path:
        """Write the tokenizer and its manifest into ``directory``, which is made if needed; return the directory."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._tokenizer.save(str(directory / TOKENIZER_FILE))
        write_manifest(directory)
        return directory

    @property
    def vocabulary(self) -> int:
        """Number of different BPE ids."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, caption: str, length: int) -> EncodedCaption:
        """Encode one caption to draw as at most ``length`` ids; further ones are cut off.

        Raises:
            CaptionError: the caption is empty or not valid Unicode.
        """
        check_caption(caption)
        return self.encode_batch([caption], length)[0]

    def encode_batch(self, captions: Sequence[str], length: int) -> list[EncodedCaption]:
        """Encode many captions, using all cores, as :meth:`encode` does; a blank one has no ids."""
        encodings = self._tokenizer.encode_batch([self._beginning(caption, length) for caption in captions])
        return [EncodedCaption(e.ids[:length], truncated=len(e.ids) > length) for e in encodings]

    def encode_with_dropout(
        self, caption: str, length: int, dropout: float, random: np.random.Generator
    ) -> EncodedCaption:
        """Encode one caption with BPE dropout: each merge is left out with probability ``dropout``.

        The same state of ``random`` gives the same ids; ``dropout=0`` gives the same ids as :meth:`encode_batch`.
        """
        ids = self._dropout_bpe.encode(self._beginning(caption, length), dropout, random)
        return EncodedCaption(ids[:length], truncated=len(ids) > length)

    def _beginning(self, caption: str, length: int) -> str:
        """Return as much of a caption as can matter to its first ``length + 1`` ids, however long the caption is."""
        return caption[: (length + 1) * self._longest_token]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text, in lower case, that BPE ids encode."""
        return str(self._tokenizer.decode(list(ids)))
