from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from coco_eval import CocoEval, main
from models.errors import UserError
from models.reranker import CLIPConfig
from t2i.config import ConfigError, load_config
from t2i.data import SourceConfig
from t2i.data.run_record import write_training_source
from t2i.engine import PruningParams
from t2i.evaluate import CaptionSet
from t2i.evaluate.config import ActorPool, TrainingSource
from t2i.evaluate.prepare import TooFewImagesError, check_sources
from t2i.evaluate.reference import check_reference
from t2i.evaluate.work_list import OtherEvaluationError
from t2i.metrics.features import ExtractorConfig, extractor_protocol
from tests.random_run import write_random_run

VAL = "jobs/datasets/emoji64/val.parquet"


def config(run: Path, prompts: Path) -> CocoEval:
    return CocoEval(
        run=str(run),
        out=f"{run}/eval",
        sets=[CaptionSet("val", SourceConfig(VAL)), CaptionSet("prompts", SourceConfig(str(prompts)), images=False)],
        captions=24,
        candidates=2,
        training_images=20,
        blur_radii=[0.0, 2.0],
        elb=True,
        shown=3,
        slots=16,
        shard=8,
        generate=ActorPool(),  # one actor of each kind: a test waits for imports more than for work
        extract=ActorPool(),
    )


@pytest.fixture(scope="module")
def evaluated(
    ray_cluster: None,  # noqa: ARG001 (started, not used)
    tmp_path_factory: pytest.TempPathFactory,
) -> CocoEval:
    """An evaluation of a run of a size that no preset has, which records its training images."""
    clip = CLIPConfig(image_size=32, width=16, hidden=32)
    captions = ["a red circle", "a blue square"] * 9
    run = write_random_run(tmp_path_factory.mktemp("evaluated") / "run", captions, text_length=16, clip=clip, side=5)
    write_training_source(str(run), SourceConfig("jobs/datasets/emoji64/test.parquet", limit=30))
    prompts = run / "prompts.txt"
    prompts.write_text("a red circle\n<b>a blue & bold square</b>\n")
    main(made := config(run, prompts))
    return made


@pytest.fixture
def report(evaluated: CocoEval) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(evaluated.run) / "eval" / "report.json").read_text())
    return document


@pytest.mark.ray
def test_every_figure_stands_beside_its_protocol(report: dict[str, Any]) -> None:
    val, prompts = report["sets"]
    protocol = val["protocol"]
    assert protocol["extractor"]["name"] == "efficientnet_lite0"
    assert len(protocol["extractor"]["weight_hash"]) == len(protocol["caption_hash"]) == 64
    assert set(protocol["models"]) == {"tokenizer", "dvae", "prior", "clip"}
    assert (protocol["captions"], protocol["candidates"], protocol["seed"]) == (24, 2, 0)
    assert protocol["training_images"] == "20 of the first 30 of jobs/datasets/emoji64/test.parquet"
    sizes = {f["subject"]: (f["n_subject"], f["n_reference"]) for f in val["figures"] if f["metric"].startswith("kid")}
    assert sizes == {
        "best": (24, 24),
        "shuffled": (24, 24),
        "first": (24, 24),
        "reconstruction": (24, 24),
        "random_tokens": (24, 24),
        "train": (20, 24),
    }
    assert {f["blur"] for f in val["figures"]} == {0.0, 2.0}
    expected = {"clip_score", "clip_cosine", "clip_r@1", "clip_r@10", "clip_r_precision"}
    assert {f["metric"] for f in prompts["figures"]} == expected
    assert len(val["expected_best_cosine_of_n"]) == 2
    bound = {f["metric"]: f["value"] for f in val["figures"] if f["metric"].startswith("elb_")}
    assert bound.pop("elb_total") == pytest.approx(sum(bound.values()), rel=1e-4)
    assert len(bound) == 4


@pytest.mark.ray
def test_the_page_needs_nothing_else_and_prints_captions_as_text(evaluated: CocoEval) -> None:
    page = (Path(evaluated.run) / "eval" / "report.html").read_text()
    assert "&lt;b&gt;a blue &amp; bold square&lt;/b&gt;" in page
    assert "<b>a blue" not in page
    assert 'src="http' not in page
    assert "<link" not in page
    assert page.count("data:image/webp;base64,") > 20


def content(out: Path) -> dict[Path, bytes | str]:
    """All files of the sets; of the shards' records, which say how long it took, the hash of the shard."""
    files = [path for path in out.rglob("*/*") if path.is_file()]
    is_record = re.compile(r"\d{5}\.json").fullmatch
    return {p: json.loads(p.read_text())["sha256"] if is_record(p.name) else p.read_bytes() for p in files}


@pytest.mark.ray
def test_a_run_cut_short_anywhere_ends_with_the_same_bytes(evaluated: CocoEval) -> None:
    """Shards that a killed run had not recorded are made again: candidates, features alone, statistics."""
    out = Path(evaluated.out)
    figures = json.loads((out / "report.json").read_text())["sets"]
    before = content(out)
    candidates, features = sorted((out / "val" / "candidates").glob("*.json")), sorted(out.rglob("drawn/*.json"))
    assert len(candidates) == 3
    for record in (candidates[0], features[0], features[1], *sorted(out.rglob("real/0*.json"))):
        record.unlink()
    features[0].with_suffix(".npz").write_bytes(b"half a file")
    candidates[0].with_suffix(".parquet").unlink()
    for file in out.rglob("statistics/*/*.npz"):
        file.unlink()
    kept = {path: path.stat().st_mtime_ns for path in (out / "val" / "candidates").glob("*1.parquet")}
    main(evaluated)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert content(out) == before
    assert json.loads((out / "report.json").read_text())["sets"] == figures


@pytest.mark.ray
def test_another_evaluation_can_be_given_the_statistics_of_the_real_images(evaluated: CocoEval) -> None:
    (file,) = Path(evaluated.out).glob("val/reference-*.npz")
    described = check_reference(str(file), extractor_protocol(ExtractorConfig()), evaluated.blur_radii)
    assert (described["source"], described["image_size"], described["crop"]) == (VAL, 20, "centre")


@pytest.mark.ray
def test_another_configuration_does_not_touch_what_is_there(evaluated: CocoEval) -> None:
    with pytest.raises(OtherEvaluationError, match=r"/eval/val holds an evaluation with candidates 2 instead of 3"):
        main(replace(evaluated, candidates=3))


@pytest.mark.ray
def test_each_set_has_a_contact_sheet(evaluated: CocoEval) -> None:
    for name, captions in (("val", 3), ("prompts", 2)):
        sheet = Image.open(Path(evaluated.run) / "eval" / name / "contact_sheet.png")
        assert sheet.height > captions * 230  # a row is 234 px high, or 286 px if its caption takes three lines


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_few_images_are_refused_before_any_set_is_drawn(tiny_run: Path, tmp_path: Path) -> None:
    few = pq.read_table(VAL).slice(0, 24).to_pandas()
    few.loc[few.index[5:], "image"] = b""
    pq.write_table(pa.Table.from_pandas(few), tmp_path / "few.parquet")
    sets = [CaptionSet("val", SourceConfig(VAL)), CaptionSet("few", SourceConfig(str(tmp_path / "few.parquet")))]
    with pytest.raises(TooFewImagesError, match=r"sets: few: .* has 5 usable images of 24"):
        main(CocoEval(run=str(tiny_run), out=f"{tmp_path}/eval", sets=sets))
    assert not list((tmp_path / "eval").rglob("candidates"))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_what_a_preset_would_cut_to_nothing_is_refused_before_any_set_is_drawn(tiny_run: Path, tmp_path: Path) -> None:
    """DM-GAN's loader drops the last batch, which may be the only one."""
    (tmp_path / "inception.pth").write_bytes(b"not read before images are measured")
    extractor = ExtractorConfig(weights=f"{tmp_path}/inception.pth", preset="dmgan")
    given = CocoEval(run=str(tiny_run), out=f"{tmp_path}/eval", extractor=extractor, captions=63)
    with pytest.raises(TooFewImagesError, match=r"sets: val has 63 captions .* no batch of 64: draw at least 64"):
        main(given)
    pq.write_table(pq.read_table(VAL).slice(0, 63), tmp_path / "real.parquet")
    references = [CaptionSet("val", SourceConfig(VAL), reference=SourceConfig(f"{tmp_path}/real.parquet"))]
    with pytest.raises(TooFewImagesError, match=r"has 63 usable images of 63: distances need at least 64"):
        main(replace(given, captions=64, sets=references, reference_images="all"))
    assert not list((tmp_path / "eval").rglob("candidates"))


def test_the_default_sets_are_the_emoji_that_were_held_out() -> None:
    assert [s.name for s in load_config(CocoEval, "coco_eval", ["run=runs/x", "captions=5"]).sets] == ["val", "test"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"training_source": TrainingSource("/nowhere.parquet")}, r"path is '/nowhere\.parquet'"),
        ({"pruning": PruningParams(rows=8)}, r"pruning\.rows is 8 of 8: use 1 to 7"),
        ({"reference": "/nowhere.npz"}, r"path is '/nowhere\.npz'"),
        ({"extractor": ExtractorConfig(weights="/nowhere.pth")}, r"extractor\.weights names no file"),
    ],
)
def test_what_is_missing_is_found_before_any_work(
    tiny_run: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        main(CocoEval(run=str(tiny_run), out=f"{tmp_path}/eval", **settings))
    assert not (tmp_path / "eval").exists()


def test_images_to_compare_with_need_no_captions(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("image_id,caption\n42,a red circle\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "COCO_val2014_000000000042.jpg")
    ids = CaptionSet("ids", SourceConfig(f"{tmp_path}/ids.csv"), reference=SourceConfig(str(tmp_path)))
    check_sources(CocoEval(run=str(tiny_run), sets=[ids], training_source=TrainingSource(str(tmp_path))))


def test_a_bad_value_is_refused_before_any_work() -> None:
    with pytest.raises(ConfigError, match="candidates is 0"):
        load_config(CocoEval, "coco_eval", ["candidates=0"])
    with pytest.raises(ConfigError, match=r"extractor\.preset is 'clear': use "):
        load_config(CocoEval, "coco_eval", ["extractor.weights=inception.pth", "extractor.preset=clear"])
