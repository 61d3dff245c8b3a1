#!/usr/bin/env python
"""Learn a byte-pair encoding from the captions.

    python jobs/train_tokenizer.py run=runs/tiny

Writes <run>/tokenizer. One that was made from the same captions with the same settings is kept.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

from dataclasses import dataclass

from models.presets import get_preset
from models.run_layout import RunLayout
from models.settings import setting
from models.tokenizer import CaptionTokenizer
from t2i.cluster import RayConfig, start_ray
from t2i.config import recorded, run_job
from t2i.data import SourceConfig, check_pairs, read_pairs
from t2i.storage import new_directory
from t2i.train import RunDirectory


@dataclass
class TrainTokenizer:
    """Which captions to learn from, and how many tokens."""

    preset: str = setting("tiny", "vocabulary size: see models/presets.py")
    run: str = setting("runs/${preset}", "run directory: writes tokenizer/", path="written")
    source: SourceConfig = setting(SourceConfig, "captioned images; all their captions are used")
    vocabulary: int = setting(16384, "the largest vocabulary, including 256 tokens for bytes", at_least=256)
    ray: RayConfig = setting(RayConfig, "the Ray cluster to use")

    @classmethod
    def for_preset(cls, name: str) -> TrainTokenizer:
        """Return the defaults of a preset."""
        return cls(preset=name, vocabulary=get_preset(name).tokenizer_vocabulary)


def main(config: TrainTokenizer) -> None:
    """Train the tokenizer and write it to the run directory, unless it is there."""
    check_pairs(config.source)
    directory = RunDirectory(RunLayout(config.run).tokenizer)
    directory.claim({"source": recorded(config.source), "vocabulary": config.vocabulary})
    if directory.has_results:
        print(f"{directory.uri}: already complete", flush=True)
        return
    start_ray(config.ray)
    tokenizer = CaptionTokenizer.train(all_captions(config.source), config.vocabulary)
    with new_directory(directory.uri) as local:
        tokenizer.save(local)
    print(f"{directory.uri}: {tokenizer.vocabulary} tokens", flush=True)


def all_captions(source: SourceConfig) -> list[str]:
    """Return all captions of all rows, sorted so that the order does not depend on Ray's scheduling."""
    rows = read_pairs(source).select_columns(["captions"]).iter_rows()
    return sorted(caption for row in rows for caption in row["captions"])


if __name__ == "__main__":
    run_job(main, TrainTokenizer, "train_tokenizer")
