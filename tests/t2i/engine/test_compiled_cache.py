"""What one process compiles, the next takes from torch's cache on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMPILE = """
import torch
from torch._dynamo.utils import counters
from models.prior import Prior, PriorConfig
from t2i.engine import Engine

config = PriorConfig(layers=4, heads=1, head_width=16, text_length=4, text_vocabulary=20, grid_height=3, grid_width=4,
    codebook_size=16)
Engine(Prior(config).eval(), 2).compile()
print(counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"])
"""


@pytest.mark.slow
def test_the_step_is_the_same_graph_in_every_process(tmp_path: Path) -> None:
    """Text hashes differently in each process, and with it the order of a set of the layers' kinds."""
    found = []
    for seed in (0, 1):
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONHASHSEED": str(seed)}
        command = [sys.executable, "-c", COMPILE]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.append(ended.stdout.split())
    assert found == [["0", "1"], ["1", "0"]]
