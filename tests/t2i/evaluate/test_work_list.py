from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2i.data import Caption
from t2i.engine import PruningParams
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.work_list import (
    IncompleteEvaluationError,
    derived_seed,
    make_work_list,
    require_complete,
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
    ("config", "models"),
    [
        (EvaluateConfig(seed=1), MODELS),
        (EvaluateConfig(sampling=SamplingParams(temperature=0.5)), MODELS),
        (EvaluateConfig(dtype="bfloat16"), MODELS),
        (EvaluateConfig(pruning=PruningParams(rows=3)), MODELS),
        (EvaluateConfig(), {"prior": "f" * 12}),
    ],
)
def test_whatever_changes_the_images_gets_a_directory_of_its_own(
    tmp_path: Path, config: EvaluateConfig, models: dict[str, str]
) -> None:
    first = write_work_list(make_work_list(CAPTIONS, EvaluateConfig(), MODELS), tmp_path)
    assert write_work_list(make_work_list(CAPTIONS, config, models), tmp_path) != first
    assert write_work_list(make_work_list(CAPTIONS, EvaluateConfig(), MODELS), tmp_path) == first


def test_how_nothing_is_pruned_makes_no_difference() -> None:
    off = make_work_list(CAPTIONS, EvaluateConfig(pruning=PruningParams(keep=0.3)), MODELS)
    assert off == make_work_list(CAPTIONS, EvaluateConfig(), MODELS)
    hashes = {
        make_work_list(CAPTIONS, EvaluateConfig(pruning=pruning), MODELS).hash
        for pruning in (
            PruningParams(),
            PruningParams(rows=3),
            PruningParams(rows=4),
            PruningParams(rows=3, keep=0.3),
            PruningParams(3, group=8),
        )
    }
    assert len(hashes) == 5


def test_the_file_lists_every_caption(tmp_path: Path) -> None:
    directory = write_work_list(make_work_list(CAPTIONS, EvaluateConfig(), MODELS), tmp_path)
    items = json.loads((directory / "manifest.json").read_text())["items"]
    assert [(item["id"], item["caption"]) for item in items] == [(c.id, c.text) for c in CAPTIONS]


def test_what_died_half_way_is_named_and_not_summarised(tmp_path: Path) -> None:
    work_list = make_work_list(CAPTIONS, EvaluateConfig(), MODELS)
    with pytest.raises(IncompleteEvaluationError, match=r"lacks 2 of 3 captions \(first: b\)"):
        require_complete(work_list, {"a"}, tmp_path)
    require_complete(work_list, {"a", "b", "c", "another"}, tmp_path)


def test_derived_seeds_are_fixed_for_ever() -> None:
    assert derived_seed(0, "noto/2139") == 0xB582ABD5E6DEF856 >> 1  # printf 0/noto/2139 | sha256sum
