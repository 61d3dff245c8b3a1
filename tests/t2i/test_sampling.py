"""The sampling settings are declared once; what must repeat them repeats them exactly."""

from __future__ import annotations

from dataclasses import fields
from typing import get_type_hints

import pytest

from t2i.protos.v1.generation_pb2 import GenerateRequest
from t2i.protos.v1.prior_pb2 import SampleRequest
from t2i.sampling import SamplingOptions, SamplingParams

NAMES = [field.name for field in fields(SamplingParams)]


@pytest.mark.parametrize("message", [GenerateRequest, SampleRequest])
def test_requests_have_every_setting(message: type[GenerateRequest | SampleRequest]) -> None:
    assert set(NAMES) <= set(message.DESCRIPTOR.fields_by_name)


def test_the_client_takes_every_setting_with_its_type() -> None:
    assert get_type_hints(SamplingOptions) == {name: get_type_hints(SamplingParams)[name] for name in NAMES}
