from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import prepare_pairs
from models.manifest import CheckpointError
from prepare_pairs import PreparePairsConfig
from t2i.config import run_job
from t2i.curate import CaptionRules, CLIPSettings, DuplicateRules, EvaluationSet, OverlapRules
from t2i.data import SourceConfig, read_pairs
from t2i.storage import DataError
from tests.images import encode

Row = dict[str, Any]


BOATS = ("red", "blue", "small", "old", "many", "few", "fishing", "sailing", "wooden", "moored", "painted", "rowing")


def picture(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def row(row_id: str, image: bytes, *captions: str) -> Row:
    return {"id": row_id, "image": image, "captions": list(captions)}


def good(i: int) -> Row:
    return row(f"good/{i:02}", encode(picture(i)), f"a quiet harbour with {BOATS[i]} boats at dawn", "harbour")


PLANTED = {
    "torn": ("unreadable", row("torn", encode(picture(100))[:300], "a quiet harbour")),
    "empty": ("unreadable", row("empty", b"", "a quiet harbour")),
    "tiny": ("small", row("tiny", encode(picture(101, (24, 40))), "a quiet harbour")),
    "wide": ("aspect", row("wide", encode(picture(102, (130, 64))), "a quiet harbour")),
    "mute": ("caption", row("mute", encode(picture(103)))),
    "dated": ("caption", row("dated", encode(picture(104)), "photographed on 12 May 2009", "dog")),
    "foreign": ("caption", row("foreign", encode(picture(105)), "ein ruhiger Hafen mit kleinen Fischerbooten")),
    "same": ("identical", row("same", encode(picture(0), "WEBP", lossless=True), "another harbour with boats")),
    "saved": ("alike", row("saved", encode(picture(1), "JPEG", quality=70), "yet another harbour with boats")),
    "seen": ("eval_identical", row("seen", encode(picture(200)), "a harbour that is evaluated on")),
    "like": ("eval_alike", row("like", encode(picture(201), "JPEG", quality=70), "one more of these harbours")),
}
"""Rows beside the good ones -> the filter that has to drop them."""
LARGER = row("larger", encode(picture(2, (128, 128))), "a larger picture of the same harbour")
REPEATED = [row(f"repeat/{i}", encode(picture(300 + i)), f"my holiday album {i}") for i in range(4)]
GOOD = [good(i) for i in range(12)]
ROWS = [*GOOD[:5], *(planted for _, planted in PLANTED.values()), *REPEATED, LARGER, *GOOD[5:]]
KEPT = [r["id"] for r in ROWS if r["id"].startswith(("good", "larger")) and r["id"] != "good/02"]
REASONS = {row_id: reason for row_id, (reason, _) in PLANTED.items()} | {r["id"]: "caption" for r in REPEATED}
REASONS |= {"good/02": "alike"}


def write(path: Path, rows: list[Row], row_group_size: int = 1000) -> str:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=row_group_size)
    return str(path)


@pytest.fixture
def config(tmp_path: Path) -> PreparePairsConfig:
    evaluated = write(tmp_path / "val.parquet", [row("x/1", encode(picture(200))), row("x/2", encode(picture(201)))])
    sets = [EvaluationSet("val", SourceConfig(path=evaluated))]
    return PreparePairsConfig(
        source=SourceConfig(path=write(tmp_path / "pairs.parquet", ROWS)),
        out=str(tmp_path / "out"),
        captions=CaptionRules(max_repeats=3),
        overlap=OverlapRules(sets=sets),
    )


def taken(path: str) -> list[Row]:
    return [row | {"captions": list(row["captions"])} for row in read_pairs(SourceConfig(path=path)).take_all()]


def dropped(out: str) -> dict[str, str]:
    return {row["id"]: row["filter"] for row in pq.read_table(f"{out}/dropped.parquet").to_pylist()}


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_what_is_planted_is_found_and_the_rest_kept(config: PreparePairsConfig) -> None:
    prepare_pairs.main(config)
    expected = {r["id"]: r for r in ROWS}
    pairs = taken(f"{config.out}/pairs")
    assert [r["id"] for r in pairs] == KEPT
    for pair in pairs:
        assert pair["image"] == expected[pair["id"]]["image"]
        assert pair["captions"] == expected[pair["id"]]["captions"][:1]  # "harbour" is too short
    assert dropped(config.out) == REASONS
    report = json.loads(Path(config.out, "report.json").read_text())
    assert (report["images"], report["kept"]) == (len(ROWS), len(KEPT))
    assert report["dropped"] == {
        **{"unreadable": 2, "small": 1, "aspect": 1, "caption": 7, "identical": 1, "alike": 2, "near": 0},
        **{"eval_identical": 1, "eval_alike": 1, "eval_near": 0},
    }
    assert report["captions"] == {"short": 13, "boilerplate": 1, "language": 1, "frequent": 4, "kept": 17}
    assert report["evaluation"] == {"val": {"images": 2, "found": 2, "identical": 1, "alike": 1, "clip": 0}}
    assert report["caption_examples"]["boilerplate"] == ["photographed on 12 May 2009"]
    overlap = pq.read_table(f"{config.out}/overlap.parquet").to_pylist()
    assert [(m["eval_set"], m["eval_id"], m["train_id"], m["method"]) for m in overlap] == [
        ("val", "x/1", "seen", "identical"),
        ("val", "x/2", "like", "alike"),
    ]
    page = Path(config.out, "report.html").read_text()
    assert f"{len(KEPT)} of {len(ROWS)} pairs kept" in page
    assert "Pairs next to the threshold" not in page


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_result_does_not_depend_on_order_or_blocks(config: PreparePairsConfig) -> None:
    results = []
    for name, rows, group in (("a", ROWS, 3), ("b", ROWS[::-1], 7), ("c", ROWS[1::2] + ROWS[::2], 1)):
        source = SourceConfig(path=write(Path(config.out).parent / f"{name}.parquet", rows, group))
        prepare_pairs.main(replace(config, source=source, out=f"{config.out}-{name}"))
        pairs = {row["id"]: row for row in taken(f"{config.out}-{name}/pairs")}
        results.append((pairs, dropped(f"{config.out}-{name}")))
    assert set(results[0][0]) == set(KEPT)
    assert results[0] == results[1] == results[2]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_webdataset_is_written_that_reads_the_same(config: PreparePairsConfig) -> None:
    captions = ("One line\nand another", "two words", "half a \x00 pair")
    rows = [*GOOD, row("a.b/c.d", encode(picture(50), "JPEG"), *captions)]
    rows.append(row("odd/format", encode(picture(51), "AVIF"), "a quiet harbour in another format"))
    source = SourceConfig(path=write(Path(config.out).parent / "dots.parquet", rows))
    asked = replace(config, source=source, format="webdataset", rows_per_part=5)
    prepare_pairs.main(asked)
    assert len(list(Path(asked.out, "pairs").glob("attempt-*/part-*.tar"))) > 1
    pairs = {row["id"]: row for row in taken(f"{asked.out}/pairs")}
    assert pairs["a%2Eb/c%2Ed"]["captions"] == ["One line and another", "two words", "half a pair"]
    expected = {row["id"].replace(".", "%2E"): row["image"] for row in rows}
    assert {row_id: row["image"] for row_id, row in pairs.items()} == expected


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_finished_set_is_kept_and_thresholds_change_without_measuring_again(
    config: PreparePairsConfig,
    capfd: pytest.CaptureFixture[str],
) -> None:
    prepare_pairs.main(config)
    prepare_pairs.main(config)
    assert "already complete" in capfd.readouterr().out
    index = Path(config.out, "index", "source", "manifest.json").stat().st_mtime_ns
    prepare_pairs.main(replace(config, duplicates=DuplicateRules(bits=-1)))
    assert Path(config.out, "index", "source", "manifest.json").stat().st_mtime_ns == index
    assert {"saved", "good/02", "like"} <= {row["id"] for row in taken(f"{config.out}/pairs")}
    write(Path(config.source.path), GOOD)
    prepare_pairs.main(replace(config, duplicates=DuplicateRules(bits=3)))
    assert len(taken(f"{config.out}/pairs")) == len(GOOD)


def interrupt(config: PreparePairsConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the job and kill it when all parts are written, but not the manifest."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare_pairs, "write_report", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare_pairs.main(config)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_an_interrupted_run_is_not_complete(config: PreparePairsConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(config, monkeypatch)
    assert list(Path(config.out, "pairs").glob("attempt-*/part-*.parquet"))
    with pytest.raises(DataError, match=r"out/pairs': it is not complete, so run the job that writes it to its end"):
        read_pairs(SourceConfig(path=f"{config.out}/pairs"))
    prepare_pairs.main(config)
    assert [row["id"] for row in taken(f"{config.out}/pairs")] == KEPT
    interrupt(replace(config, duplicates=DuplicateRules(bits=-1)), monkeypatch)
    assert [row["id"] for row in taken(f"{config.out}/pairs")] == KEPT  # the older set, until there is a newer


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.slow
def test_a_clip_finds_what_hashes_cannot(config: PreparePairsConfig, tiny_run: Path) -> None:
    """A mirror image and a brighter one; the bounds are those of an untrained head."""
    mirrored = encode(picture(3).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    evaluated = encode(picture(4).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    folder = Path(config.out).parent
    write(folder / "val.parquet", [row("x", evaluated)])
    write(Path(config.source.path), [*GOOD, row("mirror", mirrored, "a mirrored picture of a harbour")])
    clip = CLIPSettings(model=str(tiny_run / "clip" / "model"), batch_size=4)
    asked = replace(config, clip=clip, duplicates=DuplicateRules(cosine=0.9999))
    prepare_pairs.main(replace(asked, overlap=replace(config.overlap, cosine=1.0)))
    [pair] = [m for m in pq.read_table(f"{config.out}/overlap.parquet").to_pylist() if m["method"] == "clip"]
    assert not pair["dropped"]
    overlap = replace(config.overlap, cosine=pair["similarity"] - 1e-3)
    prepare_pairs.main(replace(asked, overlap=overlap))
    assert dropped(config.out)[pair["train_id"]] == "eval_near"
    assert "Pairs next to the threshold" in Path(config.out, "report.html").read_text()


def test_an_id_that_comes_twice_is_refused(config: PreparePairsConfig) -> None:
    write(Path(config.source.path), [*GOOD, GOOD[3]])
    with pytest.raises(DataError, match=r"id good/03 comes twice \(in pairs\.parquet\), so make ids unique"):
        prepare_pairs.main(config)
    assert not Path(config.out).exists()


def test_a_directory_that_is_no_clip_is_refused(config: PreparePairsConfig, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a complete checkpoint"):
        prepare_pairs.main(replace(config, clip=CLIPSettings(model=str(tmp_path))))
    assert not Path(config.out).exists()


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("source.path=/nowhere.parquet", "path is '/nowhere.parquet': there is no such file or folder."),
        ("format=zip", "format is 'zip': use parquet or webdataset."),
        ("rows_per_part=0", "rows_per_part is 0: use at least 1."),
        ("duplicates.bits=99", "duplicates.bits is 99: use -1 to 16."),
        ("captions.odd=3", "captions.odd is not a known key: did you mean captions.odds?"),
    ],
)
def test_the_command_ends_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, word: str, sentence: str
) -> None:
    monkeypatch.setattr("sys.argv", ["prepare_pairs.py", f"out={tmp_path}/out", word])
    with pytest.raises(SystemExit, match="2"):
        run_job(prepare_pairs.main, PreparePairsConfig, "prepare_pairs")
    assert capsys.readouterr().err == f"prepare_pairs: {sentence}\n"
    assert not (tmp_path / "out").exists()
