"""A small evaluation on disk, made without models: random pixels and features, and the receipt of their figures."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from t2i.data import Caption
from t2i.data.part_files import SetManifest
from t2i.evaluate.candidates import CaptionCandidates, encode_shard, shard_record, to_png
from t2i.evaluate.config import CaptionSet, EvaluateConfig
from t2i.evaluate.evaluation import MeasuredSet, Measuring
from t2i.evaluate.features import SUFFIX, FeatureFolder, ImageFeatures, encode_features, hash_images
from t2i.evaluate.gallery import Galleries
from t2i.evaluate.image_sets import ImageSet
from t2i.evaluate.image_store import ImageStore
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.measure import ImageCaptions, measure
from t2i.evaluate.prepare import PreparedSet
from t2i.evaluate.receipts.make import write_receipt
from t2i.evaluate.reference import Reference
from t2i.evaluate.selection import write_captions
from t2i.evaluate.shards import ShardFolder
from t2i.evaluate.summary import summarise
from t2i.evaluate.work_list import WorkList, make_work_list, write_work_list
from t2i.metrics.features import ExtractorProtocol

N, SHARD, PROTOCOL = 34, 17, "0badcafe"
EXTRACTOR = ExtractorProtocol("small", "0" * 64, "none", "none")
CAPTIONS = [Caption(f"c{i:02}", f"a caption, number {i}", f"i{i:02}") for i in range(N)]
SETS = ("best", "first")


def images(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (N, 8, 8, 3), np.uint8)


def measured_images(ids: list[str], pixels: np.ndarray, seed: int) -> ImageFeatures:
    random = np.random.default_rng(seed)
    clip = random.normal(size=(len(ids), 4)).astype(np.float32)
    arrays = {name: random.normal(size=(len(ids), 6)).astype(np.float32) for name in ("features", "logits")}
    unit = clip / np.linalg.norm(clip, axis=1, keepdims=True)
    return ImageFeatures(ids, hash_images(pixels), unit, {0.0: arrays["features"]}, {0.0: arrays["logits"]})


def write_drawn(work_list: WorkList, layout: SetLayout) -> None:
    """Candidates and features in two shards; the second candidate of each caption is its best and has its PNG."""
    best, first = images(1), images(2)
    for shard, items in enumerate(work_list.shards):
        rows = slice(shard * SHARD, (shard + 1) * SHARD)
        tables = [
            CaptionCandidates(item, False, np.arange(2), np.full((2, 4), row), np.array([0.1, 0.2], np.float32)).table(
                np.stack([first[row], best[row]]), keep="best"
            )
            for row, item in enumerate(items, rows.start)
        ]
        ShardFolder(layout.candidates, ".parquet").write(shard, encode_shard(tables), shard_record(tables))
        ids = [item.id for item in items]
        sets = {
            name: measured_images(ids, pixels[rows], seed + shard)
            for name, pixels, seed in (("best", best, 10), ("first", first, 20))
        }
        captions = {"captions": measured_images(ids, best[rows], 30 + shard).clip}
        record = {"images": {"best": len(ids)}, "measured": 2 * len(ids), "seconds": {"extract_seconds": 1.0}}
        folder = ShardFolder(layout.features(PROTOCOL, "drawn"), SUFFIX)
        folder.write(shard, encode_features(sets, captions), record)


def write_real(layout: SetLayout) -> ImageStore:
    ids, pixels = [caption.image_id for caption in CAPTIONS], images(3)
    folder = Path(layout.images("real"))
    (folder / "attempt-1").mkdir(parents=True)
    name = "attempt-1/part-1.parquet"
    pq.write_table(pa.table({"id": ids, "image": [to_png(image) for image in pixels]}), folder / name)
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(asdict(SetManifest(files, N, {}))))
    record = {"images": {"real": N}, "measured": N, "seconds": {"controls_seconds": 1.0}}
    data = encode_features({"real": measured_images(ids, pixels, 40)}, {})
    ShardFolder(layout.features(PROTOCOL, "real"), SUFFIX).write(0, data, record)
    return ImageStore(ids, [str(folder / name)] * N)


def evaluate(out: Path, run: Path, reference: str | None = None) -> Path:
    """Write an evaluation into ``out``, compared with the file ``reference`` if it is given; return its receipt."""
    config = EvaluateConfig(run=str(run), out=str(out), candidates=2, shard=SHARD, reference=reference)
    work_list, layout = make_work_list(CAPTIONS, config, {"clip": "500d3d42a4af"}), SetLayout(f"{out}/val")
    write_work_list(work_list, layout)
    write_captions(layout.captions, CAPTIONS)
    write_drawn(work_list, layout)
    real = write_real(layout)
    drawn = FeatureFolder(layout.features(PROTOCOL, "drawn"), 2)
    folders = dict.fromkeys(SETS, drawn) | {"real": FeatureFolder(layout.features(PROTOCOL, "real"), 1)}
    sets = {name: ImageSet(name, folder, layout, PROTOCOL) for name, folder in folders.items()}
    captions = ImageCaptions(drawn, [caption.id for caption in CAPTIONS], [caption.image_id for caption in CAPTIONS])
    figures = measure(list(sets.values()), Reference(sets["real"], reference), captions, EXTRACTOR, [0.0], config.seed)
    prepared = PreparedSet(CaptionSet("val"), work_list, layout, real)
    galleries = Galleries([], [], [], [])
    measured = MeasuredSet(prepared, summarise(layout, 2), sets, figures, galleries, {}, "none")
    return Path(write_receipt([measured], Measuring(EXTRACTOR, PROTOCOL), {"clip": "500d3d42a4af"}, config))
