"""Read the rows of a CSV or TSV so that a stray quotation mark costs none of them."""

from __future__ import annotations

import csv
import io
import re
from itertools import zip_longest

from t2i.logs import get_logger
from t2i.storage import DataError

Cells = list[list[str]]
"""The fields of every row that is not blank, the header among them."""

QUOTED = re.compile(r'"(?:[^"]|"")*"', re.DOTALL)
"""A well quoted field: in quotation marks, with those inside it doubled (RFC 4180)."""
SWALLOWED = re.compile(r"\n[^\n]*,")


def parse_table(path: str, text: str) -> list[dict[str, str]]:
    """Return the rows of a table as column -> field; names of columns are in small letters, missing fields empty.

    Fields are separated by tabs if the file ends in ``.tsv`` or its header holds a tab, else by commas.

    Raises:
        DataError: a row has more fields than the header, or the table is not well-formed or can be read in two ways.
    """
    tabs = path.lower().endswith(".tsv") or "\t" in text.partition("\n")[0]
    header, *rows = (_tab_separated(path, text) if tabs else _comma_separated(path, text)) or [[]]
    names = [name.strip().lower() for name in header]
    for number, row in enumerate(rows, start=1):
        if any(row[len(names) :]):
            remedy = "replace tabs in fields by spaces" if tabs else "put captions with commas in quotation marks"
            raise DataError(f"path is {path!r}: row {number} has more fields than the header, so {remedy}.")
    return [_by_name(names, row) for row in rows]


def _by_name(names: list[str], row: list[str]) -> dict[str, str]:
    """Return name -> field; of columns of the same name the first counts."""
    fields: dict[str, str] = {}
    for name, value in zip_longest(names, row[: len(names)], fillvalue=""):
        fields.setdefault(name, value)
    return fields


def _comma_separated(path: str, text: str) -> Cells:
    """Read a CSV by RFC 4180: a quoted field may hold commas and line breaks.

    A field in which both stand may be two rows, the first with an open quotation mark: the log names it.
    """
    rows: Cells = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), strict=True):
            rows += [row] if row else []
    except csv.Error as error:
        number = max(len(rows) - 1, 0)
        raise DataError(
            f"path is {path!r}: after row {number} it is no table ({error}), so check its quotation marks."
        ) from error
    doubtful = [number for number, row in enumerate(rows) if any(map(SWALLOWED.search, row))]
    if doubtful:
        message = "%s: %d rows have commas after a line break in one field, such as row %d: check its quotation marks."
        get_logger("data").warning(message, path, len(doubtful), doubtful[0])
    return rows


def _tab_separated(path: str, text: str) -> Cells:
    """Read a TSV: quotation marks stand for themselves, as in published TSVs, except around a well quoted field.

    A field of several lines is read as such (by RFC 4180) only where single lines are no rows.

    Raises:
        DataError: both readings fit, or, where they differ, none.
    """
    # Two rows, and one row with a field of two lines, can look the same:
    #
    #   caption
    #   "a bird
    #   of prey"
    plain = [[_unquoted(field) for field in line.split("\t")] for line in re.split("\r?\n", text) if line.strip()]
    quoted = _well_quoted(text)
    if quoted is None or quoted == plain:
        return plain
    if _is_even(plain) == _is_even(quoted):
        number = next(i for i, (one, other) in enumerate(zip(plain, quoted, strict=False)) if one != other)
        raise DataError(
            f"path is {path!r}: the quotation mark that begins a field of row {number} may stand for itself or open a "
            "field of several lines, so write each row on one line with quoted fields closed."
        )
    return plain if _is_even(plain) else quoted


def _unquoted(field: str) -> str:
    return field[1:-1].replace('""', '"') if QUOTED.fullmatch(field) else field


def _well_quoted(text: str) -> Cells | None:
    """Return the rows of a TSV by RFC 4180; None if it is not well-formed."""
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True) if any(row)]
    except csv.Error:
        return None


def _is_even(rows: Cells) -> bool:
    """Return whether every row has as many fields as the header."""
    return all(len(row) == len(rows[0]) for row in rows)
