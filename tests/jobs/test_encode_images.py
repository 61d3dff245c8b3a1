from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import encode_images
from models.checkpoint import load_model, save_config, save_model
from models.dvae import DVAE, DVAEConfig
from models.errors import UserError
from models.manifest import CheckpointError, model_hash
from models.presets import get_preset
from t2i.data import PairSources, SourceConfig, load_columns, read_token_shards
from t2i.data.transforms import decode_image
from t2i.storage import DataError
from tests.conftest import StartProcess
from tests.t2i.data.tars import picture, write_shards

ROOT = Path(__file__).parents[2]
PRESET = get_preset("tiny")
EMOJI = ROOT / "jobs" / "datasets" / "emoji64"


def config(run: Path, rows: int = 150) -> encode_images.EncodeImagesConfig:
    return encode_images.EncodeImagesConfig(
        run=str(run),
        data=PairSources(
            train=SourceConfig(path=str(EMOJI / "test.parquet"), limit=rows),
            val=SourceConfig(path=str(EMOJI / "captions_val.json"), images=str(run / "images")),
        ),
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with an untrained dVAE, which records its image size, and ten validation images as files."""
    save_model(tmp_path / "dvae" / "model", DVAE(PRESET.dvae))
    save_config(tmp_path / "dvae" / "config.yaml", {"task": {"image_size": PRESET.image_size}})
    for row in pq.read_table(EMOJI / "val.parquet").slice(0, 10).to_pylist():
        file = tmp_path / "images" / f"{row['id']}.webp"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(row["image"])
    return tmp_path


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_both_sets_are_encoded_once(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encode_images.main(config(run))
    assert f"{run}/tokens/train: complete, 150 images" in capfd.readouterr().out

    shipped = pq.read_table(EMOJI / "test.parquet").slice(0, 150).to_pylist()
    pixels = np.stack(
        [decode_image(row["image"], PRESET.image_size) for row in sorted(shipped, key=lambda row: row["id"])]
    )
    dvae = load_model(DVAE, DVAEConfig, run / "dvae" / "model")
    expected = dvae.encode(torch.tensor(pixels).permute(0, 3, 1, 2).float() / 255)
    dataset, metadata = read_token_shards(f"{run}/tokens/train")
    columns = load_columns(dataset)
    assert columns["id"].tolist() == sorted(row["id"] for row in shipped)
    assert (columns["image_tokens"] == expected.numpy()).mean() > 0.999  # rounding may differ by batch
    assert (metadata["dvae"], metadata["dtype"]) == (model_hash(run / "dvae" / "model"), "float32")
    assert metadata["grid"] == [PRESET.prior.grid_height, PRESET.prior.grid_width]
    assert (metadata["codebook_size"], metadata["image_size"]) == (PRESET.dvae.codebook_size, PRESET.image_size)
    assert metadata["source"]["path"] == "jobs/datasets/emoji64/test.parquet"

    assert read_token_shards(f"{run}/tokens/val")[0].count() == 10
    report: dict[str, Any] = {"count": 0, "skipped": []}
    for part in (run / "tokens" / "unreadable_val").iterdir():
        report = {key: report[key] + value for key, value in json.loads(part.read_text()).items()}
    assert report["count"] == 866 - 10
    assert {row["reason"] for row in report["skipped"]} == {"it has no bytes: the file is missing or empty"}

    before = (run / "tokens" / "train" / "manifest.json").stat().st_mtime_ns
    encode_images.main(config(run))
    assert capfd.readouterr().out.count("already complete") == 2
    assert (run / "tokens" / "train" / "manifest.json").stat().st_mtime_ns == before

    save_model(run / "dvae" / "model", DVAE(PRESET.dvae))
    encode_images.main(config(run, rows=20))
    dataset, metadata = read_token_shards(f"{run}/tokens/train")
    assert metadata["dvae"] == model_hash(run / "dvae" / "model")
    assert dataset.count() == 20


@pytest.mark.ray
@pytest.mark.soak
@pytest.mark.usefixtures("ray_cluster")
def test_a_job_killed_half_way_on_one_cpu_is_continued(run: Path, start_process: StartProcess) -> None:
    asked = config(run, rows=500)
    asked.rows_per_part = 10
    source = [f"data.train.path={asked.data.train.path}", "data.train.limit=500"]
    validation = [f"data.val.{name}={getattr(asked.data.val, name)}" for name in ("path", "images")]
    words = [f"run={run}", *source, *validation, "rows_per_part=10", "ray.cpus=1", "ray.object_store_gb=0.2"]
    job = start_process([sys.executable, "jobs/encode_images.py", *words])
    tokens = run / "tokens" / "train"
    while job.poll() is None and len(list(tokens.glob("*/part-*.parquet"))) < 3:
        time.sleep(0.05)
    job.kill()  # SIGKILL
    assert job.wait() == -signal.SIGKILL
    assert not (tokens / "manifest.json").exists()
    survivors = {file.name for file in tokens.glob("*/part-*.parquet")}

    encode_images.main(asked)
    names = [name.split("/")[1] for name in json.loads((tokens / "manifest.json").read_text())["files"]]
    assert survivors <= set(names)  # so their rows were not made again: each id is there once, as load_columns() checks
    assert sorted(names) == sorted(file.name for file in tokens.glob("*/*"))
    ids = load_columns(read_token_shards(str(tokens))[0])["id"]
    assert ids.tolist() == sorted(pq.read_table(asked.data.train.path)["id"].to_pylist()[:500])


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_keys_that_begin_again_in_each_shard_lose_no_image_to_a_kill(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = config(run)
    names = [(f"{i}.{suffix}", data) for i in range(8) for suffix, data in (("png", picture(i)), ("txt", b"a grey"))]
    asked.data.train = SourceConfig(path=write_shards(tmp_path / "shards", names, names))
    asked.rows_per_part = 2

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(encode_images, "print", killed, raising=False)  # after the first part file
        with pytest.raises(KeyboardInterrupt):
            encode_images.main(asked)
    encode_images.main(asked)
    ids = load_columns(read_token_shards(f"{run}/tokens/train")[0])["id"]
    assert ids.tolist() == [f"0000{shard}/{i}" for shard in range(2) for i in range(8)]


def test_repeated_ids_are_refused_before_anything_starts(run: Path, tmp_path: Path) -> None:
    asked = config(run)
    pairs = pa.table({"id": ["a", "b", "a"], "image": [picture()] * 3, "caption": ["grey"] * 3})
    pq.write_table(pairs, tmp_path / "twice.parquet")
    asked.data.val = SourceConfig(path=str(tmp_path / "twice.parquet"))
    with pytest.raises(DataError, match=r"id a comes twice \(in twice\.parquet\), so make ids unique"):
        encode_images.main(asked)
    assert not (run / "tokens").exists()


@pytest.mark.parametrize(
    ("dtype", "gpus", "used"), [(None, 0, "float32"), (None, 0.5, "bfloat16"), ("float32", 1, "float32")]
)
def test_what_the_dvae_computes_in(dtype: str | None, gpus: float, used: str) -> None:
    assert encode_images.dtype(encode_images.EncodeImagesConfig(dtype=dtype, gpus_per_actor=gpus)) == used


def test_an_unknown_dtype_is_refused(run: Path) -> None:
    asked = config(run)
    asked.dtype = "float8"
    with pytest.raises(UserError, match=r"^dtype is 'float8': use float32 or bfloat16\.$"):
        encode_images.main(asked)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (None, "image_size is empty, and the run does not record it: set it to a multiple of 4"),
        (30, "image_size is 30: set it to a multiple of 4, the dVAE's down-sampling"),
    ],
)
def test_a_size_that_is_unknown_or_impossible_is_refused(run: Path, size: int | None, message: str) -> None:
    (run / "dvae" / "config.yaml").unlink()
    asked = config(run)
    asked.image_size = size
    with pytest.raises(UserError, match=f"^{message}"):
        encode_images.main(asked)


def test_a_missing_dvae_is_refused(tmp_path: Path) -> None:
    asked = encode_images.EncodeImagesConfig(run=str(tmp_path))
    asked.data.train.path = asked.data.val.path = str(EMOJI / "val.parquet")
    with pytest.raises(CheckpointError, match="dvae/model is not a complete checkpoint"):
        encode_images.main(asked)


def test_a_missing_source_is_refused_before_anything_starts(run: Path) -> None:
    asked = config(run)
    asked.data.val.path = "nowhere.parquet"
    with pytest.raises(DataError, match=r"path is 'nowhere\.parquet': there is no such file or folder"):
        encode_images.main(asked)
    assert not (run / "tokens").exists()


def test_the_command_ends_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "jobs/encode_images.py", f"run={tmp_path}", "data.train.path=/nowhere.parquet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "encode_images: path is '/nowhere.parquet': there is no such file or folder.\n"
