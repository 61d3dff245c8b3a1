"""Pictures of the service drawn again, at the service and here: identical, or what differs is named."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.checkpoint import load_model, save_model
from models.prior import Prior, PriorConfig
from t2i.client import Client
from t2i.serve.cli import main
from t2i.serve.config import ReplicaConfig
from t2i.serve.generation.image_codec import encode_image
from t2i.serve.generation.picture_files import read_picture
from t2i.serve.generation.receipt import StageSetup
from t2i.serve.redraw import here
from tests.kept_models import keep, promote

WANTED: dict[str, Any] = {"candidates": 6, "keep": 2, "seed": 7, "temperature": 0.7}


@pytest.fixture(autouse=True)
def _threads() -> Any:
    """Drawing here sets the process's threads."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pictures(service: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A picture in each format, and one that continues the top of another."""
    folder, files = tmp_path_factory.mktemp("pictures"), {}
    with Client(service.address) as client:
        for name in ("png", "jpeg", "webp"):
            files[name] = client.generate("a red taco", format=name, **WANTED).images[1].data
        files["continued"] = client.generate("a blue cat", image=files["png"], image_rows=3, **WANTED).images[0].data
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in files}


def redraw(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    with pytest.raises(SystemExit) as caught:
        main(["redraw", *words])
    output = capsys.readouterr()
    return caught.value.code, output.out + output.err


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "continued"])
def test_a_picture_is_identical_at_the_service_and_here(
    service: Any, run_directory: Path, pictures: dict[str, Path], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for where in (["--server", service.address], ["--run", str(run_directory)]):
        assert redraw([str(pictures[name]), *where], capsys) == (0, "identical\n")


def test_a_picture_is_identical_with_a_version_of_its_model(
    run_directory: Path, pictures: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    promote(keep("redrawn", run_directory))
    assert redraw([str(pictures["png"]), "--run", "models://redrawn"], capsys) == (0, "identical\n")


def test_another_prior_is_named_and_nothing_is_drawn(
    run_directory: Path, pictures: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run_directory, tmp_path / "run")
    prior = load_model(Prior, PriorConfig, run_directory / "prior" / "model")
    next(prior.parameters()).data.mul_(2)
    save_model(tmp_path / "run" / "prior" / "model", prior)
    code, output = redraw([str(pictures["png"]), "--run", str(tmp_path / "run")], capsys)
    before = read_picture(pictures["png"].read_bytes())[1].recipe.setup.prior.weights
    assert code == 1
    assert output.startswith(f"different\n  prior: '{before[:12]}' in the picture, ")
    assert output.count("\n") == 2


def test_changed_pixels_and_another_dtype_are_named(
    run_directory: Path, pictures: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, picture = read_picture(pictures["png"].read_bytes())
    setup = picture.recipe.setup
    changed = pixels.copy()
    changed[0, 0] ^= 255
    another = replace(setup, torch="0.1")
    file = tmp_path / "changed.png"
    file.write_bytes(
        encode_image(changed, "png", recipe=replace(picture, recipe=replace(picture.recipe, setup=another)))
    )
    code, output = redraw([str(file), "--run", str(run_directory)], capsys)
    assert code == 1
    assert "file: its pixels are not those that were saved as png" in output
    assert f"torch: '0.1' in the picture, '{torch.__version__}' here" in output
    wrong = replace(picture, tokens_sha256="0" * 64, pixels_sha256="0" * 64, score=2.0)
    file.write_bytes(encode_image(pixels, "png", recipe=wrong))
    code, output = redraw([str(file), "--run", str(run_directory)], capsys)
    assert [line.split(":")[0].strip() for line in output.splitlines()[1:]] == ["image tokens", "pixels", "score"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no image", "cannot use "),
        (encode_image(np.zeros((8, 8, 3), np.uint8), "png"), "cannot redraw "),
        (None, "cannot read "),
    ],
)
def test_what_cannot_be_redrawn_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes | None, message: str
) -> None:
    if data is not None:
        (tmp_path / "picture").write_bytes(data)
    code, output = redraw([str(tmp_path / "picture")], capsys)
    assert code == 2
    assert output.startswith(f"t2i: {message}{tmp_path / 'picture'}")
    assert output.count("\n") == 1


def test_without_metadata_a_file_has_only_its_pixels(service: Any, pictures: dict[str, Path]) -> None:
    with Client(service.address) as client:
        bare = client.generate("a red taco", metadata=False, **WANTED).images[1]
    assert not Image.open(io.BytesIO(bare.data)).info
    assert np.array_equal(np.asarray(bare.pil()), np.asarray(Image.open(pictures["png"])))


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_what_a_gpu_drew_is_drawn_on_a_gpu_where_there_is_one(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "default_device", lambda: device)
    stage = StageSetup("weights", "float32", "cuda NVIDIA L4", batch=4, threads=1)
    assert ReplicaConfig(**here._settings(stage)).device == device
