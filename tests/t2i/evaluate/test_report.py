"""The report's files, and what its protocol and cautions are made from."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from t2i.data import Caption
from t2i.engine import PruningParams
from t2i.evaluate.config import CaptionSet, EvaluateConfig
from t2i.evaluate.evaluation import MeasuredSet, Measuring
from t2i.evaluate.gallery import Galleries
from t2i.evaluate.image_store import ImageStore
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.prepare import PreparedSet
from t2i.evaluate.protocol_record import protocol
from t2i.evaluate.receipts.merkle import merkle_root
from t2i.evaluate.report import _cautions, write_report
from t2i.evaluate.summary import CandidateSummary
from t2i.evaluate.work_list import make_work_list
from t2i.storage import read_file
from tests.t2i.evaluate.report_sections import EFFICIENTNET, section
from tests.t2i.evaluate.stored_sets import store_set

MEASURING = Measuring(EFFICIENTNET, "0" * 8)


def measured(config: EvaluateConfig, real: ImageStore | None, **changes: Any) -> MeasuredSet:
    captions = [Caption(name, f"a {name}", image_id=name) for name in "abcde"]
    work_list = make_work_list(captions, config, {"clip": "0123"})
    prepared = PreparedSet(CaptionSet("val"), work_list, SetLayout("out/val"), real)
    fields: dict[str, Any] = {
        "prepared": prepared,
        "summary": CandidateSummary(list("abcde"), [0.1] * 5, np.zeros(8), truncated=2),
        "sets": {},
        "figures": [],
        "galleries": Galleries([], [], [], []),
        "cards": {},
        "training": "none: not recorded",
    }
    return MeasuredSet(**fields | changes)


@pytest.mark.parametrize("root", ["local", "memory://reports"])
def test_both_files_are_written_whole_here_or_in_a_store(tmp_path: Path, root: str) -> None:
    out = str(tmp_path / "out") if root == "local" else root
    assert write_report(out, "runs/x", [section()]) == f"{out}/report.html"
    assert read_file(f"{out}/report.html").decode().rstrip().endswith("</html>")
    document = json.loads(read_file(f"{out}/report.json"))
    assert document["run"] == "runs/x"
    assert [each["name"] for each in document["sets"]] == ["val"]


def test_the_json_has_every_figure_with_interval_and_sizes_and_the_words_of_the_page(tmp_path: Path) -> None:
    made = section()
    write_report(str(tmp_path), "runs/x", [made])
    (found,) = json.loads((tmp_path / "report.json").read_text())["sets"]
    assert found["protocol"] == made.protocol
    assert found["protocol_in_words"] == made.words
    assert found["cautions"] == made.cautions
    assert len(found["figures"]) == len(made.figures)
    first = found["figures"][0]
    assert {"metric", "subject", "reference", "value", "blur", "n_subject", "n_reference"} <= first.keys()
    assert first["interval"] == {
        "low": 0.775,
        "high": 1.15,
        "level": 0.95,
        "method": "bootstrap",
        "replicas": 1000,
    }


def test_the_protocol_counts_what_was_cut_and_names_the_images_that_are_missing(tiny_run: Path) -> None:
    config = EvaluateConfig(run=str(tiny_run), captions=5)
    found = protocol(measured(config, ImageStore(["e"], ["part"])), MEASURING, config)
    assert found["captions_truncated"] == 2
    assert found["real_images"] == 1
    assert found["real_images_left_out"] == {
        "count": 4,
        "first": ["a", "b", "c"],
        "unreadable": "val/images/real/unreadable",
    }
    assert (found["drawn_image_size"], found["image_size"]) == ([32, 32], 32)


def test_without_images_none_are_missing(tiny_run: Path) -> None:
    config = EvaluateConfig(run=str(tiny_run))
    found = protocol(measured(config, None), MEASURING, config)
    assert (found["real_images"], found["real_images_left_out"], found["full_name"]) == (None, None, None)


def test_the_full_name_ends_with_the_hash_of_the_real_images(tiny_run: Path, tmp_path: Path) -> None:
    real = store_set(tmp_path, "real", np.eye(2, 4, dtype=np.float32), 0.0, ["a", "b"])
    config = EvaluateConfig(run=str(tiny_run), image_size=256, crop="squash")
    found = protocol(measured(config, None, sets={"real": real}), MEASURING, config)["full_name"]
    root = merkle_root([row.tobytes() for row in real.hashes])
    assert found == f"fd_efficientnet_lite0-val5-256sq-efficientnet-{root[:8]}"


def test_the_protocol_has_the_settings_of_pruning_and_how_many_are_left(tiny_run: Path) -> None:
    config = EvaluateConfig(run=str(tiny_run), candidates=20, pruning=PruningParams(rows=3))
    pruned = protocol(measured(config, None), MEASURING, config)["pruning"]
    assert pruned == {"rows": 3, "keep": 0.5, "group": 16, "finished": 10}


def test_fewer_images_than_features_are_warned_of() -> None:
    best = SimpleNamespace(statistics=lambda _: SimpleNamespace(mean=np.zeros(1280)))
    figures = [figure for figure in section().figures if figure.metric.startswith("fd")]
    config = EvaluateConfig()
    warned = _cautions(measured(config, None, figures=figures, sets=cast(Any, {"best": best})), MEASURING)
    assert any("29 images for 1280 features" in sentence for sentence in warned)
    assert _cautions(measured(config, None), MEASURING) == []
