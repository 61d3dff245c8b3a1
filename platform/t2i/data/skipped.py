"""Say which images and captions were dropped or mended: in the log, a line for each batch, and in JSON files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from t2i.logs import get_logger
from t2i.storage import as_data_error, delete_folder, filesystem_for, write_file


def clear_folder(folder: str | None) -> str | None:
    """Delete a folder, if it exists, and return its path; None for None."""
    if folder is None:
        return None
    filesystem, path = filesystem_for(folder)
    with as_data_error(folder):
        delete_folder(filesystem, path)
    return folder


def record_skipped(folder: str | None, reasons: Mapping[str, str], rows: int) -> None:
    """Log how many of the ``rows`` of a batch were skipped, and list them in a JSON file of ``folder``, if given.

    ``reasons`` maps the ids of the skipped rows to the reasons.
    """
    example = next(iter(reasons))
    get_logger("data").warning(
        "%d of %d images skipped, such as %s: %s.", len(reasons), rows, example, reasons[example]
    )
    skipped = [{"id": row_id, "reason": reason} for row_id, reason in reasons.items()]
    _write(folder, "", reasons, {"count": len(skipped), "skipped": skipped})


def record_captions(folder: str | None, problems: Mapping[str, list[str]], rows: int) -> None:
    """Log of how many of the ``rows`` of a batch captions were dropped or mended, and list them like skipped rows.

    ``problems`` maps the ids of those rows to what was dropped or mended.
    """
    example = next(iter(problems))
    get_logger("data").warning(
        "captions of %d of %d images dropped or mended, such as %s: %s.",
        len(problems),
        rows,
        example,
        "; ".join(problems[example]),
    )
    captions = [{"id": row_id, "problems": found} for row_id, found in problems.items()]
    _write(folder, "captions-", problems, {"count": len(captions), "captions": captions})


def _write(folder: str | None, prefix: str, ids: Mapping[str, object], document: dict[str, object]) -> None:
    """Write a file named by a hash of the ids: a retried task overwrites its file instead of adding another."""
    if folder is not None:
        name = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
        content = json.dumps(document, indent=2).encode()
        write_file(*filesystem_for(f"{folder}/{prefix}{name}.json"), content)
