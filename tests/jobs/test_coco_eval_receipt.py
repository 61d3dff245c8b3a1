"""A receipt of a whole evaluation: measured again from images, drawn again from seed and models, bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from coco_eval import COMMANDS, CocoEval, Verification, main, verify_receipt
from models.reranker import CLIPConfig
from t2i.config import load_config
from t2i.data import SourceConfig
from t2i.evaluate import CaptionSet
from t2i.evaluate.config import ActorPool
from t2i.evaluate.receipts.compare import compare
from t2i.evaluate.receipts.deep import draw_again, evaluation_of
from t2i.evaluate.receipts.plan import PlanConfig, plan
from t2i.evaluate.receipts.settings import VerifyConfig
from t2i.evaluate.receipts.stored import UnusableReceiptError, read_receipt
from t2i.sampling import SamplingParams
from t2i.storage.model_store import ModelStore
from t2i.storage.paths import model_store
from tests.kept_models import keep
from tests.random_run import write_random_run

VAL = "jobs/datasets/emoji64/val.parquet"

pytestmark = [pytest.mark.ray, pytest.mark.soak]


@pytest.fixture(scope="module")
def receipt(
    ray_cluster: None,  # noqa: ARG001 (started, not used)
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("receipt")
    clip = CLIPConfig(image_size=32, width=16, hidden=32)
    run = write_random_run(folder / "run", ["a red circle", "a blue square"] * 9, text_length=16, clip=clip, side=5)
    main(
        CocoEval(
            run=f"models://{keep('evaluated/1', run).path}",
            out=f"{folder}/eval",
            sets=[CaptionSet("val", SourceConfig(VAL))],
            captions=32,
            candidates=2,
            elb=True,
            training_source=None,
            shown=2,
            generate=ActorPool(),  # one actor of each kind: a test waits for imports more than for work
            extract=ActorPool(),
        )
    )
    return folder / "eval" / "receipt.json"


def verify(receipt: Path, *words: str) -> None:
    (command,) = [each for each in COMMANDS if each.name == "verify"]
    verify_receipt(load_config(Verification, "coco_eval", command.words([str(receipt), *words])))


def test_every_bit_comes_out_again(receipt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(receipt.parent.rglob("*"))
    verify(receipt, "--deep", "--draws", "2")
    found = capsys.readouterr().out
    assert "PROBLEM" not in found
    for name in ("best/clip", "captions", "random_tokens/features-r0", "total"):
        assert f"equal    val: {name} measured again" in found
    assert sum("drawn again" in line for line in found.splitlines()) == 6  # tokens, scores and pixels of two captions
    assert sorted(receipt.parent.rglob("*")) == before


def test_the_version_of_the_models_is_named_with_its_hashes(receipt: Path) -> None:
    told = read_receipt(str(receipt)).document
    assert told["settings"]["run"] == "models://evaluated/1"
    assert told["models"] == ModelStore(model_store()).find("evaluated/1").models


def test_other_models_are_refused_by_name(receipt: Path, tmp_path: Path) -> None:
    clip = CLIPConfig(image_size=32, width=16, hidden=16)
    other = write_random_run(tmp_path / "run", ["a red circle"] * 9, text_length=16, clip=clip, side=5)
    with pytest.raises(UnusableReceiptError, match=r"^run is .*, whose \w+ is \w{12} where the receipt says"):
        verify(receipt, "--deep", f"run={other}")


def test_what_other_settings_would_draw_is_found(receipt: Path) -> None:
    read = read_receipt(str(receipt))
    evaluation = evaluation_of(read, VerifyConfig(str(receipt)))
    # Random weights find all tokens about as likely: a temperature of 2 would change none of some images.
    colder = replace(evaluation, sampling=SamplingParams(temperature=0.0))
    found = {each.name: each.problem for each in draw_again(read.sets[0], colder, count=1, seed=0)}
    assert [bool(problem) for problem in found.values()] == [True, True, True]


def test_it_says_what_the_figures_depend_on(receipt: Path) -> None:
    document = json.loads(receipt.read_text())
    assert document["measuring"]["image_size"] == [20, 20]
    assert set(document["models"]) == {"tokenizer", "dvae", "prior", "clip"}
    assert len(document["packages"]["list"]) > 50
    (entry,) = document["sets"]
    assert entry["captions"]["count"] == len(entry["caption_ids"]) == 32
    assert (receipt.parent / entry["captions"]["list"]).read_text().startswith("id,image_id,caption\n")
    assert {len(images["merkle_root"]) for images in entry["images"].values()} == {64}


def test_it_is_equal_to_itself_and_can_be_scaled(receipt: Path) -> None:
    read = read_receipt(str(receipt))
    assert {difference.value for difference in compare(read, read)["val"]} == {0.0}
    made = plan(read, PlanConfig(captions=1000, candidates=4))
    assert min(made.seconds.values()) > 0
    assert min(made.storage.values()) > 0
