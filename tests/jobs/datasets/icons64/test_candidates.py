from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from icons64.attribution import write_attribution
from icons64.build import write_set
from icons64.candidates import Candidate, Catalog
from icons64.colours import PALETTE
from icons64.emoji_names import EmojiNames
from icons64.heldout import EMOJI64, HeldOut
from icons64.library import Library
from icons64.listing import Listed
from icons64.rows import pixel_hash, rows
from pictograms.emojibase import Emojibase
from tests.jobs.datasets.icons64.archive import SETS, STYLES, write_archive

HELD_OUT = HeldOut(test=frozenset({"1f514"}), val=frozenset(), all=frozenset())


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(write_archive(tmp_path / "archive"))


@pytest.fixture
def found(library: Library, tmp_path: Path) -> dict[str, Candidate]:
    catalog = Catalog(library, Emojibase(tmp_path / "archive"), HELD_OUT, STYLES)
    return {candidate.id: candidate for candidate in catalog.all()}


def test_emoji_are_known_by_name_and_without_a_code_point_or_held_out_left_out(found: dict[str, Candidate]) -> None:
    assert {"emo/owl", "emo/waving-hand-dark-skin-tone"} == {name for name in found if name.startswith("emo/")}
    owl = found["emo/owl"]
    assert (owl.concept, owl.group, owl.phrase, owl.keywords) == ("1f989", "animals-nature", "owl", ("bird", "wise"))
    assert found["emo/waving-hand-dark-skin-tone"].concept == "1f44b-1f3ff"


def test_equal_drawings_are_one_candidate_with_the_names_of_all(found: dict[str, Candidate]) -> None:
    assert {"things/axe", "things/void"} == {name for name in found if name.startswith("things/")}
    axe = found["things/axe"]
    assert (axe.concept, axe.group, axe.others, axe.keywords) == (
        "axe",
        "icons",
        ("hatchet", "chopper"),
        ("tools", "and"),
    )
    assert axe.colour in PALETTE


def test_a_set_with_another_licence_stops_the_build(library: Library, tmp_path: Path) -> None:
    styles = (replace(STYLES[0], license="Apache-2.0"),)
    with pytest.raises(SystemExit, match="emo is now under MIT"):
        list(Catalog(library, Emojibase(tmp_path / "archive"), HELD_OUT, styles).all())


def test_rows_are_drawn_in_their_order_and_empty_drawings_left_out(
    found: dict[str, Candidate], library: Library
) -> None:
    drawn = list(rows(list(found.values()), library))
    assert [row["id"] for row in drawn] == [name for name in found if name != "things/void"]
    axe = next(row for row in drawn if row["id"] == "things/axe")
    colour = found["things/axe"].colour
    assert axe["captions"][0] == f"{colour} axe, thing style"
    pixels = np.asarray(Image.open(io.BytesIO(axe["image"])))
    assert "#{:02x}{:02x}{:02x}".format(*pixels[32, 32]) == PALETTE[colour]
    assert drawn == list(rows(list(found.values()), library))


def test_a_set_is_written_with_its_validation_part_and_emoji64_beside(
    found: dict[str, Candidate], library: Library, tmp_path: Path
) -> None:
    listed = {name: Listed(name, "val" if name == "emo/owl" else "train", b"") for name in found}
    made = write_set(list(found.values()), library, listed, tmp_path)
    train, val = (pq.read_table(tmp_path / file).to_pylist() for file in ("train/icons64.parquet", "val.parquet"))
    assert [row["id"] for row in val] == ["emo/owl"]
    assert made == {row["id"]: pixel_hash(row["image"]) for row in train + val}
    assert pq.read_schema(tmp_path / "val.parquet").names == pq.read_schema(EMOJI64 / "val.parquet").names
    assert pq.read_table(tmp_path / "train").num_rows == len(train) + 6793


def test_every_used_set_is_attributed(library: Library, tmp_path: Path) -> None:
    write_attribution(library, STYLES, tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text().endswith("| emo | emo | A | MIT |\n| things | things | A | MIT |\n")


@pytest.mark.parametrize(
    ("name", "concept"),
    [
        ("owl", "1f989"),
        ("wavinghand", "1f44b"),
        ("owl-2", "1f989"),
        ("waving-hand-dark", "1f44b-1f3ff"),
        ("waving-hand-dark-skin-tone", "1f44b-1f3ff"),
        ("waving-hand-light", None),
        ("brand-new", None),
    ],
)
def test_an_emoji_is_found_by_any_spelling_of_its_name(name: str, concept: str | None, tmp_path: Path) -> None:
    emojibase = Emojibase(write_archive(tmp_path))
    assert EmojiNames(emojibase, [SETS[0], SETS[1]]).find(name) == concept
