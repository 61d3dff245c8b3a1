from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from generate import GenerateConfig, main
from models.errors import UserError
from t2i.config import ConfigError, load_config
from t2i.data.transforms import decode_image
from t2i.engine import PruningParams, TextToImage
from t2i.storage import filesystem_for, read_file, write_file
from tests.kept_models import keep, promote


def test_the_best_are_saved_beside_a_sheet_of_all(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = GenerateConfig(
        run=str(tiny_run), captions=["a Red circle!"], candidates=3, keep=2, slots=4, out=str(tmp_path)
    )
    main(config)
    names = ["000-a-red-circle_1.png", "000-a-red-circle_2.png", "contact_sheet.png"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    (expected,) = TextToImage.load(tiny_run, slots=4).generate(config.captions, candidates=3, seeds=0)
    best = np.asarray(Image.open(tmp_path / names[0]))
    assert np.array_equal(best, expected.images[expected.order[0]])
    assert f"CLIP {expected.scores.max():.3f}" in capsys.readouterr().out


def test_run_image_and_drawings_may_be_in_a_store(
    stored_run: str, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    write_file(*filesystem_for(f"{stored_run}/red.png"), (tmp_path / "red.png").read_bytes())
    settings = ["captions=[a circle]", "candidates=2", "keep=1", "slots=2", "image_rows=3"]
    for run, image in ((stored_run, f"{stored_run}/red.png"), (tiny_run, f"{tmp_path}/red.png")):
        out = [] if run == stored_run else [f"out={tmp_path}/out"]
        main(load_config(GenerateConfig, "generate", [f"run={run}", f"image={image}", *settings, *out]))
    assert f"{stored_run}/generated/contact_sheet.png\n" in capsys.readouterr().out
    for name in ("000-a-circle_1.png", "contact_sheet.png"):
        assert read_file(f"{stored_run}/generated/{name}") == (tmp_path / "out" / name).read_bytes()
    with pytest.raises(UserError, match=r"^image is 'memory://.*absent.png', which cannot be read: "):
        main(GenerateConfig(run=stored_run, captions=["x"], image=f"{stored_run}/absent.png"))


def test_refuses_to_keep_more_than_it_draws() -> None:
    with pytest.raises(ConfigError, match="keep is 9"):
        load_config(GenerateConfig, "generate", ["captions=[x]", "keep=9"])


def test_refuses_to_keep_more_than_pruning_leaves() -> None:
    with pytest.raises(ConfigError, match="keep is 5: use 1 to 4, which pruning leaves of 8"):
        load_config(GenerateConfig, "generate", ["captions=[x]", "keep=5", "pruning.rows=3"])
    with pytest.raises(ConfigError, match=r"pruning\.keep is 2"):
        load_config(GenerateConfig, "generate", ["captions=[x]", "pruning.keep=2"])


def test_what_pruning_leaves_is_saved(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings: dict[str, Any] = {"captions": ["a circle"], "candidates": 4, "keep": 2, "slots": 4, "out": str(tmp_path)}
    main(GenerateConfig(run=str(tiny_run), pruning=PruningParams(rows=2), **settings))
    assert "pruning saved 96 image tokens" in capsys.readouterr().out
    (expected,) = TextToImage.load(tiny_run, slots=4).generate(
        ["a circle"], candidates=4, seeds=0, pruning=PruningParams(rows=2)
    )
    best = np.asarray(Image.open(tmp_path / "000-a-circle_1.png"))
    assert np.array_equal(best, expected.images[expected.order[0]])
    assert len(list(tmp_path.glob("000-*.png"))) == 2


def test_a_version_of_the_model_store_draws_what_its_run_draws(tiny_run: Path, tmp_path: Path) -> None:
    promote(keep("drawn/1", tiny_run))
    words = ["run=models://drawn", "captions=[a circle]", "candidates=2", "keep=1", "slots=4"]
    with pytest.raises(ConfigError, match=r"^out is models://drawn/generated, in the model store"):
        load_config(GenerateConfig, "generate", words)
    config = load_config(GenerateConfig, "generate", [*words, f"out={tmp_path}/named"])
    assert config.run == "models://drawn/1"
    main(config)
    main(replace(config, run=str(tiny_run), out=f"{tmp_path}/run"))
    named, direct = ((tmp_path / out / "contact_sheet.png").read_bytes() for out in ("named", "run"))
    assert named == direct


def test_refuses_an_empty_list() -> None:
    with pytest.raises(ConfigError, match="captions is empty"):
        load_config(GenerateConfig, "generate", [])


def test_drawings_continue_the_top_of_an_image(tiny_run: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "top.png")
    model = TextToImage.load(tiny_run, slots=4)
    prefix = model.encode_rows(decode_image((tmp_path / "top.png").read_bytes(), 32), 3)
    (expected,) = model.generate(["a circle"], candidates=2, seeds=0, prefix=prefix)
    assert all(tokens[:24].tolist() == prefix for tokens in expected.image_tokens)
    settings: dict[str, Any] = {
        "captions": ["a circle"],
        "candidates": 2,
        "keep": 1,
        "slots": 4,
        "out": str(tmp_path / "out"),
    }
    main(GenerateConfig(run=str(tiny_run), image=str(tmp_path / "top.png"), image_rows=3, **settings))
    drawn = np.asarray(Image.open(tmp_path / "out" / "000-a-circle_1.png"))
    assert np.array_equal(drawn, expected.images[expected.order[0]])


@pytest.mark.parametrize(
    ("image", "rows", "message"),
    [
        ("absent.png", None, "image is '.*absent.png'"),
        ("text.png", None, "no image"),
        ("top.png", 8, "image_rows is 8 of 8"),
    ],
)
def test_an_image_that_cannot_be_continued_is_refused(
    tiny_run: Path, tmp_path: Path, image: str, rows: int | None, message: str
) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "top.png")
    (tmp_path / "text.png").write_text("no picture")
    config = GenerateConfig(run=str(tiny_run), captions=["x"], image=str(tmp_path / image), image_rows=rows)
    with pytest.raises(UserError, match=message):
        main(config)
