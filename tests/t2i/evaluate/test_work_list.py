from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2i.data import Caption
from t2i.engine import PruningParams
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.work_list import (
    OtherEvaluationError,
    check_work_list,
    derived_seed,
    make_work_list,
    write_work_list,
)
from t2i.sampling import SamplingParams

CAPTIONS = [Caption("a", "a red circle", "a"), Caption("b", "a blue square", "b"), Caption("c", "a red circle", "c")]
MODELS = {"prior": "0123456789ab"}


def test_equal_captions_get_different_noise_and_a_repeat_the_same() -> None:
    work_list = make_work_list(CAPTIONS, EvaluateConfig(), MODELS)
    assert len({item.seed for item in work_list.items}) == 3
    assert work_list == make_work_list(CAPTIONS, EvaluateConfig(), MODELS)
    assert all(0 <= item.seed < 2**63 for item in work_list.items)


def test_caption_hash_names_the_list_and_nothing_else() -> None:
    work_list = make_work_list(CAPTIONS, EvaluateConfig(), MODELS)
    assert make_work_list(CAPTIONS, EvaluateConfig(candidates=2), MODELS).caption_hash == work_list.caption_hash
    changed = [*CAPTIONS[:2], Caption("c", "a red circle.", "c")]
    assert make_work_list(changed, EvaluateConfig(), MODELS).caption_hash != work_list.caption_hash


@pytest.mark.parametrize(
    ("config", "models", "difference"),
    [
        (EvaluateConfig(seed=1), MODELS, "other captions; seed 0 instead of 1"),
        (EvaluateConfig(candidates=512), MODELS, "candidates 8 instead of 512"),
        (EvaluateConfig(dtype="bfloat16"), MODELS, 'dtype "float32" instead of "bfloat16"'),
        (EvaluateConfig(pruning=PruningParams(rows=3)), MODELS, r"pruning null instead of \{"),
        (EvaluateConfig(shard=4, keep="all"), MODELS, 'shard 16 instead of 4; keep "best" instead of "all"'),
        (EvaluateConfig(sampling=SamplingParams(temperature=0.5)), MODELS, "sampling .* instead of .*0.5"),
        (
            EvaluateConfig(),
            {"prior": "f" * 12},
            'models {"prior": "0123456789ab"} instead of {"prior": "ffffffffffff"}',
        ),
    ],
)
def test_another_evaluation_in_the_same_folder_is_refused_by_what_differs(
    tmp_path: Path, config: EvaluateConfig, models: dict[str, str], difference: str
) -> None:
    layout = SetLayout(str(tmp_path))
    first = make_work_list(CAPTIONS, EvaluateConfig(), MODELS)
    check_work_list(first, layout)
    write_work_list(first, layout)
    check_work_list(first, layout)
    with pytest.raises(OtherEvaluationError, match=rf"^out: .* holds an evaluation with {difference}.*: name another"):
        check_work_list(make_work_list(CAPTIONS, config, models), layout)


def test_other_captions_are_another_evaluation(tmp_path: Path) -> None:
    write_work_list(make_work_list(CAPTIONS, EvaluateConfig(), MODELS), SetLayout(str(tmp_path)))
    with pytest.raises(OtherEvaluationError, match=r"holds an evaluation with other captions: name another"):
        check_work_list(make_work_list(CAPTIONS[:2], EvaluateConfig(), MODELS), SetLayout(str(tmp_path)))


def test_how_nothing_is_pruned_makes_no_difference() -> None:
    off = make_work_list(CAPTIONS, EvaluateConfig(pruning=PruningParams(keep=0.3)), MODELS)
    assert off == make_work_list(CAPTIONS, EvaluateConfig(), MODELS)


def test_the_file_lists_every_caption(tmp_path: Path) -> None:
    layout = SetLayout(str(tmp_path))
    write_work_list(make_work_list(CAPTIONS, EvaluateConfig(), MODELS), layout)
    items = json.loads(Path(layout.work_list).read_text())["items"]
    assert [(item["id"], item["caption"]) for item in items] == [(c.id, c.text) for c in CAPTIONS]


def test_shards_are_consecutive_captions() -> None:
    work_list = make_work_list(CAPTIONS, EvaluateConfig(shard=2), MODELS)
    assert [[item.id for item in shard] for shard in work_list.shards] == [["a", "b"], ["c"]]


def test_derived_seeds_are_fixed_for_ever() -> None:
    assert derived_seed(0, "noto/2139") == 0xB582ABD5E6DEF856 >> 1  # printf 0/noto/2139 | sha256sum
