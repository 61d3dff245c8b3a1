from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from t2i.curate import CaptionRules, CurationRules, DuplicateRules, EvaluationSet, OverlapRules
from t2i.curate.decisions import decide
from t2i.curate.gather import KEPT, CaptionJudgements, ImageMeasurements

AXES = np.eye(128, dtype=np.float16)
HASHES = np.random.default_rng(0).integers(0, 2**63, 128).tolist()
"""None of them within 16 bits of another."""


def images(rows: list[dict[str, Any]]) -> ImageMeasurements:
    """Images of 64 x 64 px that are all different but for what ``rows`` say."""
    full = [
        {"id": f"{i:03}", "problem": "", "width": 64, "height": 64, "digest": b"%d" % i, "hash": HASHES[i]}
        | {"colours": np.zeros(192, np.uint8), "embedding": AXES[i]}
        | row
        for i, row in enumerate(rows)
    ]
    columns = {name: [row[name] for row in full] for name in full[0]}
    types: dict[str, Any] = {"width": np.int32, "height": np.int32, "hash": np.uint64}
    objects = {name: np.array(columns.pop(name), object) for name in ("id", "problem", "digest")}
    return ImageMeasurements(**objects, **{name: np.array(column, types.get(name)) for name, column in columns.items()})


def captions(codes: list[list[int]], keys: list[int] | None = None) -> CaptionJudgements:
    image = np.repeat(np.arange(len(codes)), [len(row) for row in codes])
    code = np.array([code for row in codes for code in row], np.int8)
    key = np.arange(len(code), dtype=np.uint64) if keys is None else np.array(keys, np.uint64)
    return CaptionJudgements(image, code, key, np.full(len(code), 20), np.full(len(code), "en", object))


def one_each(count: int) -> CaptionJudgements:
    return captions([[KEPT]] * count)


def test_images_are_checked_in_order() -> None:
    rows: list[dict[str, Any]] = [
        {},
        {"problem": "it is torn"},
        {"width": 20, "height": 90},
        {"width": 129},
        {"width": 128},
        {"height": 31},
    ]
    decisions = decide(images(rows), one_each(6), None, CurationRules())
    assert decisions.reason.tolist() == ["", "unreadable", "small", "aspect", "", "small"]
    assert decisions.detail[:4].tolist() == ["", "it is torn", "20 px", "2.02 : 1"]
    assert list(decisions.counts().values())[:3] == [1, 2, 1]


def test_an_image_goes_with_its_last_caption() -> None:
    judged = captions([[KEPT, 0], [0, 2], [], [KEPT]])
    decisions = decide(images([{}] * 4), judged, None, CurationRules())
    assert decisions.reason.tolist() == ["", "caption", "caption", ""]
    assert decisions.detail[1:3].tolist() == ["short, language", "none"]
    assert decisions.captions == {"short": 2, "boilerplate": 0, "language": 1, "frequent": 0, "kept": 2}


def test_captions_of_too_many_pictures_are_dropped() -> None:
    """Key 7 is under four images of three pictures, key 8 under three images of one picture."""
    rows = [{"digest": digest} for digest in (b"a", b"a", b"b", b"c", b"d", b"d", b"d")]
    judged = captions([[KEPT]] * 7, [7, 7, 7, 7, 8, 8, 8])
    decisions = decide(images(rows), judged, None, CurationRules(captions=CaptionRules(max_repeats=2)))
    assert decisions.frequent.tolist() == [7]
    assert decisions.reason.tolist() == ["caption"] * 4 + ["", "identical", "identical"]
    assert decisions.captions["frequent"] == 4


def test_the_largest_copy_stays_then_the_smallest_id() -> None:
    rows: list[dict[str, Any]] = [
        {"digest": b"x"},
        {"hash": 3},
        {"hash": 1, "width": 80},
        {"digest": b"x"},
        {"hash": 1},
    ]
    decisions = decide(images(rows), one_each(5), None, CurationRules())
    assert decisions.reason.tolist() == ["", "alike", "", "identical", "alike"]
    assert decisions.partner.tolist() == ["", "002", "", "000", "002"]
    assert decisions.detail[[1, 3]].tolist() == ["0.9844", "1.0000"]


def test_colours_keep_alike_shapes_apart() -> None:
    rows = [{"hash": 1, "colours": np.full(192, level, np.uint8)} for level in (0, 24, 49)]
    assert decide(images(rows), one_each(3), None, CurationRules()).reason.tolist() == ["", "alike", ""]
    rules = CurationRules(duplicates=DuplicateRules(bits=-1))
    assert decide(images(rows), one_each(3), None, rules).counts()["alike"] == 0


def near(cosine: float, i: int, j: int) -> np.ndarray:
    """A unit row at ``cosine`` to axis i."""
    row = np.zeros(128)
    row[i], row[j] = cosine, np.sqrt(1 - cosine**2)
    return row.astype(np.float16)


def test_near_images_go_by_clip_if_there_is_one() -> None:
    rows = [{}, {"embedding": near(0.98, 0, 15)}, {"embedding": near(0.9, 0, 14)}]
    decisions = decide(images(rows), one_each(3), None, CurationRules())
    assert decisions.reason.tolist() == ["", "near", ""]
    assert (decisions.recall, decisions.partner[1]) == (1.0, "000")
    without = images(rows)
    object.__setattr__(without, "embedding", None)
    decisions = decide(without, one_each(3), None, CurationRules())
    assert (decisions.reason.tolist(), decisions.recall) == (["", "", ""], None)


def test_training_images_of_an_evaluation_set_are_dropped_and_listed() -> None:
    train = images([{}, {}, {"embedding": near(0.96, 99, 15)}, {"embedding": near(0.8, 100, 14)}, {}])
    evaluation = images(
        [
            {"id": "val/a", "hash": 0},
            {"id": "val/b", "digest": b"b", "hash": HASHES[1] ^ 1, "embedding": AXES[98]},
            {"id": "val/c", "digest": b"c", "hash": 0, "embedding": AXES[99]},
            {"id": "test/d", "digest": b"d", "hash": 0, "embedding": AXES[100]},
        ]
    )
    decisions = decide(train, one_each(5), evaluation, CurationRules())
    assert decisions.reason.tolist() == ["eval_identical", "eval_alike", "eval_near", "", ""]
    assert decisions.partner.tolist() == ["val/a", "val/b", "val/c", "", ""]
    listed = {(m.method, m.train_id, m.eval_id): m.dropped for m in decisions.matches}
    assert listed[("clip", "002", "val/c")]
    assert not listed[("clip", "003", "test/d")]  # the nearest of test/d, below the threshold
    assert {eval_id for _, _, eval_id in listed} == {"val/a", "val/b", "val/c", "test/d"}


def test_no_two_kept_images_are_near() -> None:
    """A hundred images in ten clouds: what is dropped is near an image that is kept, and no two kept ones are near."""
    vectors = np.repeat(AXES[:10], 10, axis=0) + 0.0155 * np.random.default_rng(0).normal(size=(100, 128))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    decisions = decide(images([{"embedding": vector} for vector in vectors]), one_each(100), None, CurationRules())
    scores = vectors.astype(np.float32) @ vectors.astype(np.float32).T
    kept, gone = decisions.kept, np.flatnonzero(decisions.reason == "near")
    assert 10 < len(kept) < 90
    assert np.triu(scores[np.ix_(kept, kept)], 1).max() < 0.97
    assert scores[np.ix_(gone, kept)].max(axis=1).min() >= 0.97


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: EvaluationSet(name="a/b"), "overlap.sets.name is 'a/b': use letters"),
        (lambda: OverlapRules(sets=[EvaluationSet(), EvaluationSet()]), "overlap.sets: give each a name of its own"),
    ],
)
def test_rules_that_cannot_be_are_refused(make: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
