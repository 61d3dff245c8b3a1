from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from t2i.data import Caption, CaptionedImage, SourceConfig, read_captioned_images
from t2i.evaluate.caption_sets import CaptionSet
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.selection import (
    NoReferenceError,
    TooFewCaptionsError,
    choose_captions,
    pick_captions,
    reference_ids,
    sample_captions,
    write_captions,
)

PICKS = ["first", "random", "all"]


def made(count: int = 200, captions: int = 5) -> list[CaptionedImage]:
    """Images 0, 1, ... with captions such as ``7 c``."""
    return [CaptionedImage(str(i), [f"{i} {k}" for k in "abcde"[:captions]], [None] * captions) for i in range(count)]


def chosen(pick: str, count: int | None, seed: int = 0, images: list[CaptionedImage] | None = None) -> list[Caption]:
    return pick_captions(images or made(), pick, count, seed)


@pytest.mark.parametrize("pick", PICKS)
def test_the_seed_alone_decides_and_a_larger_draw_holds_the_smaller(pick: str) -> None:
    few = chosen(pick, 30)
    assert len(few) == len({caption.id for caption in few}) == 30
    assert few == chosen(pick, 30) != chosen(pick, 30, seed=1)
    assert {*few} < {*chosen(pick, 60)}
    assert [int(caption.image_id) for caption in few] == sorted(int(caption.image_id) for caption in few)


@pytest.mark.parametrize("pick", PICKS)
def test_the_order_of_the_list_makes_no_difference(pick: str) -> None:
    turned = [CaptionedImage(i.image_id, i.texts if pick == "first" else i.texts[::-1], i.ids) for i in made()[::-1]]
    texts = {caption.text for caption in chosen(pick, 30)}
    assert {caption.text for caption in chosen(pick, 30, images=turned)} == texts


def test_what_is_drawn_from() -> None:
    assert [caption.text for caption in chosen("first", None)] == [f"{i} a" for i in range(200)]
    random = chosen("random", None)
    assert (
        [caption.id for caption in random] == [caption.image_id for caption in random] == [str(i) for i in range(200)]
    )
    letters = Counter(caption.text[-1] for caption in random)
    assert set(letters) == set("abcde")
    assert max(letters.values()) < 70  # 40 are expected; 70 would be five standard deviations more
    pooled = chosen("all", None)
    assert len(pooled) == 1000
    assert pooled[7] == Caption("1/2", "1 c", "1")
    per_image = Counter(caption.image_id for caption in chosen("all", 200))
    assert max(per_image.values()) > 1


def test_first_and_random_draw_the_same_images() -> None:
    assert [c.image_id for c in chosen("first", 30)] == [c.image_id for c in chosen("random", 30)]


def test_what_is_drawn_is_fixed_for_ever() -> None:
    """Python, by hand: sorted(range(200), key=lambda i: sha256(f'[0, "{i}"]'.encode()).digest())[:5]."""
    assert [caption.id for caption in chosen("first", 5)] == ["60", "108", "153", "165", "185"]


def test_samples_keep_their_order() -> None:
    captions = [Caption(str(i), "x", str(i)) for i in range(100)]
    drawn = sample_captions(captions, 10, seed=3)
    assert drawn == sample_captions(captions, 10, seed=3) != sample_captions(captions, 10, seed=4)
    assert [int(c.id) for c in drawn] == sorted(int(c.id) for c in drawn)
    assert sample_captions(captions, None, 0) == sample_captions(captions, 1000, 0) == captions


def test_too_few_captions_for_a_distance_are_refused_before_drawing(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red circle\na blue square\n")
    source = SourceConfig(str(tmp_path / "prompts.txt"))
    with pytest.raises(TooFewCaptionsError, match="x has 2 captions"):
        choose_captions(CaptionSet("x", source), EvaluateConfig())
    assert len(choose_captions(CaptionSet("x", source, images=False), EvaluateConfig())) == 2


ODD = [' "a, b"\t', "c\u2028d", "e'f\"", "\u00e9 \U0001f600", "x" * 300]


@pytest.mark.parametrize("pick", PICKS)
def test_the_list_that_is_written_chooses_the_same_again(tmp_path: Path, pick: str) -> None:
    document = {f"a/{i:03}.b,\n{i}": [f"{text} {i}" for text in ODD] for i in range(40)}
    (tmp_path / "all.json").write_text(json.dumps(document))
    images = read_captioned_images(SourceConfig(str(tmp_path / "all.json")))
    first = pick_captions(images, pick, 25, seed=7)
    write_captions(str(tmp_path / "captions.csv"), first)
    again = read_captioned_images(SourceConfig(str(tmp_path / "captions.csv")))
    assert pick_captions(again, pick, 25, seed=7) == pick_captions(again, pick, None, seed=0) == first
    assert (tmp_path / "captions.csv").read_bytes().startswith(b"id,image_id,caption\n")


def coco(folder: Path, numbers: range) -> SourceConfig:
    """A COCO JSON and a folder of images, here empty files."""
    names = [f"COCO_val2014_{number:012}.jpg" for number in numbers]
    (folder / "val2014").mkdir()
    for name in names:
        (folder / "val2014" / name).touch()
    images = [{"id": number, "file_name": name} for number, name in zip(numbers, names, strict=True)]
    captions = [{"image_id": number, "caption": f"{number} {k}"} for number in numbers for k in "abc"]
    (folder / "captions_val2014.json").write_text(json.dumps({"images": images, "annotations": captions}))
    return SourceConfig(str(folder / "captions_val2014.json"))


@pytest.fixture
def id_list(tmp_path: Path) -> SourceConfig:
    """A list of 30 captions, of which the first two describe images that are not there."""
    rows = "".join(f"{9000 + i},{i},a picture of {i}\n" for i in range(8, 38))
    (tmp_path / "30.csv").write_text("id,image_id,caption\n" + rows)
    return SourceConfig(str(tmp_path / "30.csv"))


@pytest.mark.parametrize("folder", [False, True])
def test_an_id_list_finds_its_images_in_another_source(
    tmp_path: Path, id_list: SourceConfig, folder: bool, evaluate_warnings: list[str]
) -> None:
    source = coco(tmp_path, range(10, 50))
    reference = SourceConfig(str(tmp_path / "val2014")) if folder else source
    captions = choose_captions(CaptionSet("x", id_list, reference=reference), EvaluateConfig())
    names = [f"COCO_val2014_{number:012}" for number in range(10, 50)]
    assert captions[2] == Caption("9010", "a picture of 10", names[0])
    assert [caption.image_id for caption in captions] == ["8", "9", *names[:28]]
    assert evaluate_warnings == [f"x: 2 of 30 images are not in {reference.path} and not compared with, such as 8, 9."]
    own = [caption.image_id for caption in captions]
    compared = {
        which: reference_ids(CaptionSet("x", id_list, reference=reference), own, config(which))
        for which in ("same", "all")
    }
    assert compared == {"same": ["8", "9", *names[:28]], "all": names}


def config(which: str, **values: Any) -> EvaluateConfig:
    return EvaluateConfig(reference_images=which, **values)


def test_a_set_with_images_of_its_own_is_compared_with_them(tmp_path: Path) -> None:
    caption_set = CaptionSet("x", coco(tmp_path, range(40)))
    captions = choose_captions(caption_set, EvaluateConfig(captions=90, pick="all"))
    own = [caption.image_id for caption in captions]
    ids = reference_ids(caption_set, own, config("same"))
    assert sorted(set(own)) == sorted(ids)
    assert len(ids) < 40 < len(own)
    assert len(reference_ids(caption_set, own, config("all"))) == 40


def test_a_reference_with_none_of_the_images_is_refused(tmp_path: Path, id_list: SourceConfig) -> None:
    reference = coco(tmp_path, range(100, 110))
    with pytest.raises(
        NoReferenceError, match=r"it has none of the 30 images that the captions describe, such as 8, 9"
    ):
        choose_captions(CaptionSet("x", id_list, reference=reference), EvaluateConfig())


def test_a_list_alone_has_nothing_to_compare_with(id_list: SourceConfig) -> None:
    with pytest.raises(
        NoReferenceError, match="x has captions but no images to compare with: name their folder or list"
    ):
        choose_captions(CaptionSet("x", id_list), EvaluateConfig())
    assert len(choose_captions(CaptionSet("x", id_list, images=False), EvaluateConfig())) == 30
