from __future__ import annotations

import pytest
import torch

from t2i.evaluate.receipts.circumstances import hardware


@pytest.mark.gpu
@pytest.mark.ray
def test_gpus_are_named(ray_cluster: None) -> None:  # noqa: ARG001  it is asked
    assert hardware()["gpus"] == [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
