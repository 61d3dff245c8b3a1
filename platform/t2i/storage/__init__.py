"""Read and write files and directories on a local disk or in a store, with retries; nothing is seen half-written.

Stores are S3 through s3fs, and whatever else fsspec knows.
"""

from t2i.storage.arrow import arrow_filesystem
from t2i.storage.background import BackgroundWriter
from t2i.storage.directories import fetch_directory, new_directory, put_directory
from t2i.storage.errors import DataError, as_data_error
from t2i.storage.files import (
    Entry,
    delete_file,
    delete_folder,
    file_info,
    list_folder,
    read_file,
    read_path,
    write_file,
)
from t2i.storage.listing import list_files
from t2i.storage.model_store import exact_run, run_setting
from t2i.storage.paths import filesystem_for, is_local
from t2i.storage.retry import is_transient, with_retries
from t2i.storage.runs import fetch_file, fetch_run

__all__ = [
    "BackgroundWriter",
    "DataError",
    "Entry",
    "arrow_filesystem",
    "as_data_error",
    "delete_file",
    "delete_folder",
    "exact_run",
    "fetch_directory",
    "fetch_file",
    "fetch_run",
    "file_info",
    "filesystem_for",
    "is_local",
    "is_transient",
    "list_files",
    "list_folder",
    "new_directory",
    "put_directory",
    "read_file",
    "read_path",
    "run_setting",
    "with_retries",
    "write_file",
]
