"""Reading captioned images, decoding them, and keeping them as image tokens.

Nothing in here imports torch, which every worker that reads or decodes would have to wait for; what does,
:mod:`t2i.data.image_tokens`, is imported by its own name.
"""

from t2i.data.captions import Caption, read_captions
from t2i.data.columns import to_columns
from t2i.data.decode import decode_pairs, readable_pairs, view_pairs
from t2i.data.errors import DataError
from t2i.data.parts import finished_parts
from t2i.data.readers import check_pairs, read_pairs
from t2i.data.resume import skip_finished
from t2i.data.shards import ROWS_PER_PART, is_complete, read_token_shards, write_token_shards
from t2i.data.source import SourceConfig
from t2i.data.storage import absolute, fetch_directory, filesystem_for, put_directory
from t2i.data.windows import ImageParts, Parts, TokenParts

__all__ = [
    "ROWS_PER_PART",
    "Caption",
    "DataError",
    "ImageParts",
    "Parts",
    "SourceConfig",
    "TokenParts",
    "absolute",
    "check_pairs",
    "decode_pairs",
    "fetch_directory",
    "filesystem_for",
    "finished_parts",
    "is_complete",
    "put_directory",
    "read_captions",
    "read_pairs",
    "read_token_shards",
    "readable_pairs",
    "skip_finished",
    "to_columns",
    "view_pairs",
    "write_token_shards",
]
