"""Read captioned images, decode them, and store them as image tokens.

This package does not import torch, so that workers that only read or decode start quickly. The one module that needs
it, :mod:`t2i.data.image_tokens`, has to be imported by its own name. Other names are imported from their modules when
they are first asked for: who only cuts or resizes images, as a replica of the service does, does not import pyarrow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from t2i.data.caption_lists import read_captioned_images, read_captions
    from t2i.data.captioned import Caption, CaptionedImage
    from t2i.data.columns import load_columns
    from t2i.data.decode import decode_pairs, decode_views, drop_unreadable
    from t2i.data.matching import match_images
    from t2i.data.pair_sources import PairSources
    from t2i.data.part_files import find_finished_rows
    from t2i.data.readers import check_pairs, read_ids, read_pairs
    from t2i.data.resume import skip_finished
    from t2i.data.source import SourceConfig
    from t2i.data.token_shards import ROWS_PER_PART, is_complete, read_token_shards, write_token_shards
    from t2i.data.windows import ImageShards, Shards, TokenShards

_MODULES = (
    "caption_lists",
    "captioned",
    "columns",
    "decode",
    "matching",
    "pair_sources",
    "part_files",
    "readers",
    "resume",
    "source",
    "token_shards",
    "windows",
)

__all__ = [
    "ROWS_PER_PART",
    "Caption",
    "CaptionedImage",
    "ImageShards",
    "PairSources",
    "Shards",
    "SourceConfig",
    "TokenShards",
    "check_pairs",
    "decode_pairs",
    "decode_views",
    "drop_unreadable",
    "find_finished_rows",
    "is_complete",
    "load_columns",
    "match_images",
    "read_captioned_images",
    "read_captions",
    "read_ids",
    "read_pairs",
    "read_token_shards",
    "skip_finished",
    "write_token_shards",
]


def __getattr__(name: str) -> object:
    """Return what ``t2i.data`` lists by this name, from the module that has it."""
    if name in __all__:
        for module in map(importlib.import_module, (f"t2i.data.{each}" for each in _MODULES)):
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module 't2i.data' has no attribute {name!r}.")
