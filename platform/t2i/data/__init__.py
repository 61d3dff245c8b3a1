"""Reading captioned images, decoding them, and keeping them as image tokens.

Nothing in here imports torch, which every worker that reads or decodes would have to wait for; what does,
:mod:`t2i.data.image_tokens`, is imported by its own name.
"""

from t2i.data.caption_lists import Caption, read_captions
from t2i.data.columns import to_columns
from t2i.data.decode import decode_pairs, readable_pairs, view_pairs
from t2i.data.pair_sources import PairSources
from t2i.data.part_files import finished_parts
from t2i.data.readers import check_pairs, read_pairs
from t2i.data.resume import skip_finished
from t2i.data.source import SourceConfig
from t2i.data.token_shards import ROWS_PER_PART, is_complete, read_token_shards, write_token_shards
from t2i.data.windows import ImageShards, Shards, TokenShards

__all__ = [
    "ROWS_PER_PART",
    "Caption",
    "ImageShards",
    "PairSources",
    "Shards",
    "SourceConfig",
    "TokenShards",
    "check_pairs",
    "decode_pairs",
    "finished_parts",
    "is_complete",
    "read_captions",
    "read_pairs",
    "read_token_shards",
    "readable_pairs",
    "skip_finished",
    "to_columns",
    "view_pairs",
    "write_token_shards",
]
