from __future__ import annotations

import csv
import io

import pytest

from t2i.data.tables import parse_table
from t2i.storage import DataError


def fields(text: str, name: str = "a.tsv") -> list[list[str]]:
    return [list(row.values()) for row in parse_table(name, text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('id\ttext\n7\t"a" and "b"\n', [["7", '"a" and "b"']]),
        ('id\ttext\n7\t"red" birds\n8\tb\n', [["7", '"red" birds'], ["8", "b"]]),
        ('id\ttext\n7\t"red birds\n8\tb\n9\tc\n0\td', [["7", '"red birds'], ["8", "b"], ["9", "c"], ["0", "d"]]),
        ('id\ttext\n7\ta 7" plate\n8\t7"\n', [["7", 'a 7" plate'], ["8", '7"']]),
        ('id\ttext\n7\t"a ""red"" bird"\n8\t""\n', [["7", 'a "red" bird'], ["8", ""]]),
        ('id\ttext\tnote\n7\t"a\tred"\tx\n', [["7", "a\tred", "x"]]),
        ('id\ttext\r\n7\t"a\r\nred bird"\r\n8\tb\r\n', [["7", "a\r\nred bird"], ["8", "b"]]),
        ("id\ttext\tnote\n7\ta\n\n8\tb\tx\n", [["7", "a", ""], ["8", "b", "x"]]),
    ],
    ids=["inside", "at the beginning", "not closed", "inches", "doubled", "a tab", "a line break", "a short row"],
)
def test_quotation_marks_in_a_tsv(text: str, expected: list[list[str]]) -> None:
    assert fields(text) == expected


@pytest.mark.parametrize(
    "text",
    ['id\ttext\n1\ta\n2\t"b\n3\tc"\n4\td\n', 'text\na\n"b\nc"\n', 'id\ttext\tx\n1\ta\n2\t"b\n3\tc"\n'],
    ids=["two columns", "one column", "neither fits"],
)
def test_a_tsv_with_two_readings_is_refused(text: str) -> None:
    """Two rows for one reader are one for another: nobody could tell which captions were drawn."""
    with pytest.raises(DataError, match="the quotation mark that begins a field of row 2 may stand for itself or"):
        fields(text)


def test_a_tsv_that_is_quoted_throughout_is_read_as_it_was_written() -> None:
    rows = [["id", "text"], ["7", 'a "red"\tbird,\nflying'], ["8", '"'], ["9", "plain"]]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter="\t").writerows(rows)
    assert fields(text.getvalue()) == rows[1:]


def test_a_csv_may_have_line_breaks_in_fields() -> None:
    assert fields('id,text\n7,"a\nred ""bird"""\n\n8,b\n', "a.csv") == [["7", 'a\nred "bird"'], ["8", "b"]]


def test_what_may_be_two_rows_of_a_csv_is_named(data_warnings: list[str]) -> None:
    assert len(fields('id,text\n7,a\n8,"b\n9,c"\n', "a.csv")) == 2
    assert data_warnings == [
        "a.csv: 1 rows have commas after a line break in one field, such as row 2: check its quotation marks."
    ]


@pytest.mark.parametrize(
    ("name", "text", "remedy"),
    [("a.csv", "id,text\n7,a,b\n", "put captions with commas in"), ("a.tsv", "id\ttext\n7\ta\tb\n", "replace tabs")],
)
def test_rows_with_too_many_fields_are_refused(name: str, text: str, remedy: str) -> None:
    with pytest.raises(DataError, match=f"row 1 has more fields than the header, so {remedy}"):
        fields(text, name)
