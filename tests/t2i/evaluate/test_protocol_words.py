"""The protocol in sentences: each says what the protocol holds, and only that."""

from __future__ import annotations

from typing import Any

import pytest

from t2i.evaluate.protocol_words import counted, in_words
from tests.t2i.evaluate.report_sections import EFFICIENTNET, INCEPTION, protocol

PRUNING = {"rows": 3, "keep": 0.25, "group": 16, "finished": 2}


def text(**changes: Any) -> str:
    return " ".join(in_words(protocol(**changes)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "8 images drawn for each at temperature 1."),
        ({}, "chosen at random with seed 7"),
        ({}, "A CLIP (weights 01234567) picked the best image"),
        ({}, "No caption was left out; none was too long for the prior."),
        ({}, "Of the captions of an image the first is drawn."),
        ({}, "64 × 64 px, are compared with 30 real images that the captions describe"),
        ({}, "Real images are cut to their centre square."),
        ({"reference_images": "all"}, "30 real images of /data/val2014, whichever captions were drawn"),
        ({"reference_images": "train"}, "30 real images of /data/val2014, which holds training images"),
        ({"image_size": 256}, "Features are taken of both sides at 256 × 256 px."),
        ({"conventions": "Those of X."}, "Conventions: Those of X. 30 captions"),
        ({"departures": ["captions is 30 instead of 30000"]}, "Here captions is 30 instead of 30000."),
        ({}, "blurred alike (Gaussian, radii 0, 1, 2, 4, 8 px)"),
        ({"pruning": PRUNING}, "8 images begun for each"),
        ({"pruning": PRUNING}, "After 3 rows of image tokens CLIP stopped all but 2 of them."),
        ({"captions_truncated": 2}, "2 were too long for the prior and cut."),
        ({"sampling": {"temperature": 0.9, "guidance": 3.0}}, "at temperature 0.9 and guidance 3."),
        ({"reference": "s3://b/reference.npz"}, "compared with the statistics in s3://b/reference.npz."),
        (
            {"real_images": None, "real_images_left_out": None},
            "compared with their captions alone: the set has no images.",
        ),
    ],
)
def test_the_sentences_say_what_was_done(changes: dict[str, Any], said: str) -> None:
    assert said in text(**changes)


@pytest.mark.parametrize(
    ("changes", "unsaid"),
    [
        ({"captions_asked_for": None}, "at random"),
        ({"captions_asked_for": 1000}, "at random"),
        ({"candidates": 1}, "picked the best"),
        ({}, "guidance"),
        ({}, "Conventions"),
        ({"real_images": None}, "Features are taken of both sides"),
        ({}, "could not be used"),
        ({"blur_radii": [0.0]}, "blurred"),
    ],
)
def test_what_was_not_done_is_not_said(changes: dict[str, Any], unsaid: str) -> None:
    assert unsaid not in text(**changes)


@pytest.mark.parametrize(
    ("ids", "named"), [(["a"], "1 real image of these captions could not be used (a)"), (["a", "b"], "(a, b)")]
)
def test_images_that_are_missing_are_counted_and_named(ids: list[str], named: str) -> None:
    left_out = {"count": len(ids), "first": ids, "unreadable": "out/val/images/real/unreadable"}
    said = text(real_images_left_out=left_out)
    assert named in said
    assert "listed with the reason in out/val/images/real/unreadable" in said
    assert "and others" not in said
    assert "(a, b and others)" in text(real_images_left_out=left_out | {"count": 9, "first": ["a", "b"]})


def test_only_the_inception_of_fid_is_said_to_give_fid() -> None:
    assert "These are the weights that FID is defined by" in " ".join(in_words(protocol(INCEPTION)))
    assert "the distances are called FD" in " ".join(in_words(protocol(EFFICIENTNET)))


def test_one_is_singular() -> None:
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
