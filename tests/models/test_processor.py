"""Code that was compiled for one kind of processor is not taken from a cache on another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from models import processor


def was_compiled_anew(value: float) -> bool:
    """Compile a function as a new process would, call it, and say whether torch found it in its cache on disk."""
    torch.compiler.reset()
    counters.clear()
    double = torch.compile(lambda x: torch.nn.functional.gelu(x) * 2)
    x = torch.full((37,), value)
    torch.testing.assert_close(double(x), torch.nn.functional.gelu(x) * 2)
    counted = counters["inductor"]
    assert counted["fxgraph_cache_hit"] + counted["fxgraph_cache_miss"] == 1
    return counted["fxgraph_cache_miss"] == 1


@pytest.mark.slow
def test_compiled_code_is_reused_on_the_same_kind_of_processor_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch.compiler.config, "cache_key_tag", "")
    anew = []
    for flags in ("flags: avx2 avx512f", "flags: avx2 avx512f", "flags: avx2", "flags: avx2 avx512f"):
        monkeypatch.setattr(processor, "processor", lambda flags=flags: flags)
        processor.reuse_only_code_for_this_processor()
        anew.append(was_compiled_anew(0.5))
    assert anew == [True, False, True, False]
