from __future__ import annotations

from t2i.data import match_images


def test_images_of_coco_are_found_by_their_number() -> None:
    wanted = ["391895", "000000000042", "val2014/COCO_val2014_000000522418.jpg", "7"]
    available = ["COCO_val2014_000000391895", "COCO_val2014_000000000042", "522418", "COCO_val2014_000000000070"]
    assert match_images(wanted, available) == dict(zip(wanted[:3], available[:3], strict=True))


def test_equal_ids_come_first_and_suffixes_do_not_matter() -> None:
    assert match_images(["7", "a/b.png", "x"], ["007", "7", "a/b", "a/x"]) == {"7": "7", "a/b.png": "a/b"}


def test_what_may_be_two_images_is_left_out() -> None:
    assert match_images(["7", "8"], ["COCO_val2014_000000000007", "COCO_train2014_000000000007", "08"]) == {"8": "08"}


def test_names_that_only_end_in_a_number_are_no_numbers() -> None:
    assert match_images(["noto/2139", "img7"], ["apple/2139", "7"]) == {}
