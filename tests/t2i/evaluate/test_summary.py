from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from t2i.evaluate.layout import SetLayout
from t2i.evaluate.shards import ShardFolder
from t2i.evaluate.summary import summarise
from tests.processes import ROOT


def write_records(root: Path, shards: int, captions: int, candidates: int) -> SetLayout:
    """Write done-records of shards as the drawing stage does, without their files."""
    layout = SetLayout(str(root))
    Path(layout.candidates).mkdir(parents=True)
    folder = ShardFolder(layout.candidates, ".parquet")
    for shard in range(shards):
        scores = -np.sort(-np.random.default_rng(shard).normal(size=(captions, candidates)), axis=1)
        ids = [f"{shard}-{caption}" for caption in range(captions)]
        record = {"ids": ids, "truncated": 1, "best": scores[:, 0].tolist(), "score_sums": scores.sum(axis=0).tolist()}
        folder.write(shard, b"", record)
    return layout


def test_records_add_up_in_the_order_of_the_shards(tmp_path: Path) -> None:
    summary = summarise(write_records(tmp_path, shards=3, captions=2, candidates=4), 3)
    scores = [-np.sort(-np.random.default_rng(shard).normal(size=(2, 4)), axis=1) for shard in range(3)]
    assert summary.ids == [f"{shard}-{caption}" for shard in range(3) for caption in range(2)]
    np.testing.assert_allclose(summary.best, np.concatenate(scores)[:, 0])
    np.testing.assert_allclose(summary.mean_by_rank, np.concatenate(scores).mean(axis=0))
    assert summary.truncated == 3


PEAK = """
import resource, sys
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.summary import summarise
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
summarise(SetLayout(sys.argv[1]), int(sys.argv[2]))
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.soak
def test_the_papers_30_000_times_512_scores_take_no_more_memory_than_a_tenth_of_them(tmp_path: Path) -> None:
    peaks = []
    for name, shards in (("tenth", 188), ("all", 1875)):
        write_records(tmp_path / name, shards, captions=16, candidates=512)
        words = [sys.executable, "-c", PEAK, str(tmp_path / name), str(shards)]
        environment = {"PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.split()[1]))
    assert peaks[1] < 1.1 * peaks[0]
