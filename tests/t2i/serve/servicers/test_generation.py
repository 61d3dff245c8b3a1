"""The four services over gRPC, with the replicas in this process."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncGenerator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from PIL import Image
from ray.serve.exceptions import BackPressureError

from generate import GenerateConfig, read_prefix
from t2i.client import Client, GeneratedImage, GenerationProgress, Preview, ServiceBusyError, ServiceError, Summary
from t2i.data.columns import caption_array
from t2i.data.decode import _square, _to_pixels
from t2i.data.packed_images import decode_rows, pack_images
from t2i.data.pairs import pairs_table
from t2i.data.tensors import column_array
from t2i.data.transforms import centre_square, decode_image
from t2i.engine import TextToImage
from t2i.protos.v1 import decoder_pb2, generation_pb2, prior_pb2, reranker_pb2
from t2i.protos.v1.decoder_pb2_grpc import DecoderStub
from t2i.protos.v1.generation_pb2_grpc import GenerationStub
from t2i.protos.v1.prior_pb2_grpc import PriorStub
from t2i.protos.v1.reranker_pb2_grpc import RerankerStub
from t2i.sampling import SamplingParams
from t2i.serve.messages import CaptionRequest, DecodedImages
from t2i.serve.servicers.errors import LONGEST_PAUSE_S
from tests import waiting

wait_until = partial(waiting.wait_until, limit_s=30.0)


@pytest.fixture(scope="module")
def text_to_image(run_directory: Path) -> TextToImage:
    return TextToImage.load(run_directory, slots=4, rerank=False)


def test_returns_the_best_images_first(service: Any) -> None:
    with Client(service.address) as client:
        answer = client.generate("a red taco", candidates=5, keep=3, seed=7)
    scores = [image.score for image in answer.images]
    assert scores == sorted(scores, reverse=True)
    assert len({image.candidate for image in answer.images}) == 3
    assert answer.images[0].pil().size == (32, 32)
    assert answer.summary.seed == 7
    assert answer.summary.tokens_spent == 5 * 64
    assert not answer.summary.caption_truncated
    assert all(len(answer.summary.models[name]) == 12 for name in ("prior", "decoder", "reranker"))


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_encodes_as_asked(service: Any, image_format: str) -> None:
    with Client(service.address) as client:
        (image,) = client.generate("a red taco", seed=7, format=image_format).images
    assert image.format == image_format
    assert image.pil().format == image_format.upper()


def test_same_seed_same_images_in_other_company(service: Any) -> None:
    with Client(service.address) as client:
        alone = client.generate("a red taco", candidates=2, keep=2, seed=7)
        neighbour = client.generate_stream("a blue cat", candidates=9, seed=1)
        next(neighbour)
        together = client.generate("a red taco", candidates=2, keep=2, seed=7)
        neighbour.close()
        other = client.generate("a red taco", candidates=2, keep=2, seed=8)
    assert [image.data for image in alone.images] == [image.data for image in together.images]
    assert [image.data for image in alone.images] != [image.data for image in other.images]


def test_a_model_is_asked_for_by_its_name(service: Any) -> None:
    with Client(service.address) as client:
        expected = client.generate("a red taco", seed=7)
        assert client.generate("a red taco", seed=7, model="tiny") == expected
        with pytest.raises(ServiceError, match="model 'huge' is not served here: use tiny"):
            client.generate("a red taco", model="huge")


def test_a_drawn_seed_can_be_repeated(service: Any) -> None:
    with Client(service.address) as client:
        drawn = client.generate("a red taco")
        repeated = client.generate("a red taco", seed=drawn.summary.seed)
    assert drawn.images == repeated.images


def test_stream_tells_progress_then_images_then_summary(service: Any) -> None:
    with Client(service.address) as client:
        events = list(client.generate_stream("a red taco", candidates=6, keep=2, seed=7))
        answer = client.generate("a red taco", candidates=6, keep=2, seed=7)
    progress = [event for event in events if isinstance(event, GenerationProgress)]
    done = [event.tokens_done for event in progress]
    assert done == sorted(done)
    assert done[-1] == progress[-1].tokens_total == 6 * 64
    assert [event.stage for event in progress[-2:]] == ["decode", "rank"]
    assert [type(event) for event in events[len(progress) :]] == [GeneratedImage, GeneratedImage, Summary]
    assert events[len(progress) :] == [*answer.images, answer.summary]


def test_says_that_it_waits_for_a_replica(service: Any) -> None:
    stages = []
    with Client(service.address) as client, service.starting() as ready:
        for event in client.generate_stream("a red taco", seed=7):
            if isinstance(event, GenerationProgress):
                stages.append(event.stage)
                if len(stages) == 3:
                    ready.set()
    assert stages[:3] == ["starting"] * 3
    assert stages[-2:] == ["decode", "rank"]


def test_a_lost_replica_is_said_to_be_replaced(service: Any) -> None:
    with Client(service.address) as client, service.starting() as ready:
        ready.set()
        service.prior.losses = [20]
        events = client.generate_stream("a red taco", candidates=6, seed=7)
        progress = (event for event in events if isinstance(event, GenerationProgress))
        next(event for event in progress if event.tokens_done)
        ready.clear()
        waiting = next(event for event in progress if event.stage == "starting")
        ready.set()
        assert waiting.tokens_done > 0
        assert [event.tokens_done for event in progress][-1] == 6 * 64


def test_the_prior_alone_says_so_too(service: Any) -> None:
    with service.starting() as ready:
        events = PriorStub(grpc.insecure_channel(service.address)).Sample(prior_pb2.SampleRequest(caption="a red taco"))
        assert next(events).progress.stage == generation_pb2.STAGE_STARTING
        ready.set()
        assert next(event for event in events if not event.HasField("progress")).HasField("start")


def test_says_when_the_caption_was_cut(service: Any) -> None:
    with Client(service.address) as client:
        assert client.generate("a red taco, " * 30, seed=7).summary.caption_truncated


def test_cancelling_frees_the_engine(service: Any) -> None:
    before = service.activity()["steps"]
    with Client(service.address) as client:
        events = client.generate_stream("a red taco", candidates=64, seed=7)
        next(events)
        events.close()
        wait_until(lambda: service.activity()["requests"] == 0)
        left = service.activity()["steps"]
        client.generate("a red taco", seed=7)
    assert left - before < 64 * 64 / 4
    assert service.activity()["steps"] - left <= 64 + 1


def test_lost_replicas_are_asked_for_again(service: Any) -> None:
    with Client(service.address) as client:
        expected = client.generate("a red taco", candidates=6, keep=6, seed=7)
        service.prior.losses = [40, 20]
        events = list(client.generate_stream("a red taco", candidates=6, keep=6, seed=7))
    images = [event for event in events if isinstance(event, GeneratedImage)]
    done = [event.tokens_done for event in events if isinstance(event, GenerationProgress) and event.stage == "sample"]
    (summary,) = (event for event in events if isinstance(event, Summary))
    assert images == expected.images
    assert done == sorted(done)
    assert summary.tokens_spent > 6 * 64


def test_gives_up_after_three_losses(service: Any) -> None:
    service.prior.losses = [5, 5, 5]
    stub = GenerationStub(grpc.insecure_channel(service.address))
    with pytest.raises(grpc.RpcError) as caught:
        stub.Generate(generation_pb2.GenerateRequest(caption="a red taco"))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "replica was lost" in caught.value.details()
    assert int(dict(caught.value.trailing_metadata())["t2i-tokens-spent"]) > 0


def test_deadline_ends_the_work(service: Any) -> None:
    with Client(service.address) as client, pytest.raises(ServiceError) as caught:
        client.generate("a red taco", candidates=64, timeout=0.2)
    assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: service.activity()["requests"] == 0)


class BrokenReranker:
    """A replica that fails in a way that nobody expects."""

    async def rank(self, *_: object) -> None:
        raise ZeroDivisionError("a secret of the server")


def test_unforeseen_errors_are_logged_not_sent(
    service: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.reranker, "replica", BrokenReranker())
    with Client(service.address) as client, pytest.raises(ServiceError) as caught:
        client.generate("a red taco")
    assert caught.value.code == grpc.StatusCode.INTERNAL
    sent = re.fullmatch(
        rf"{service.address} answered INTERNAL: internal error: the server's log has it under request (\w{{12}})\.",
        str(caught.value),
    )
    assert sent
    (logged,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert logged.getMessage() == f"request {sent[1]} failed"
    assert re.search(r"Traceback.*in rank\n.*ZeroDivisionError: a secret of the server", caplog.text, re.DOTALL)


def test_health_follows_the_deployments(service: Any) -> None:
    with Client(service.address) as client:
        service.set_running({"prior", "decoder"})
        assert [client.is_serving(name) for name in ("", "t2i.v1.Generation", "t2i.v1.Prior")] == [False, False, True]
        service.set_running({"prior", "decoder", "reranker"})
        assert client.is_serving()


def test_the_stages_make_what_generation_makes(service: Any) -> None:
    channel = grpc.insecure_channel(service.address)
    with Client(service.address) as client:
        expected = client.generate("a red taco", candidates=3, keep=3, seed=7, metadata=False)

    request = prior_pb2.SampleRequest(caption="a red taco", candidates=3, seed=7)
    events = list(PriorStub(channel).Sample(request))
    assert events[0].start.seed == 7
    candidates = sorted((e.candidate for e in events if e.HasField("candidate")), key=lambda c: c.index)
    assert [candidate.index for candidate in candidates] == [0, 1, 2]
    assert events[-1].progress.tokens_done == 3 * 64

    grids = [candidate.grid for candidate in candidates]
    decoded = DecoderStub(channel).Decode(decoder_pb2.DecodeRequest(grids=grids))
    ranking = RerankerStub(channel).Rank(reranker_pb2.RankRequest(caption="a red taco", images=decoded.images))
    assert list(ranking.order) == [image.candidate for image in expected.images]
    assert [decoded.images[i] for i in ranking.order] == [image.data for image in expected.images]
    assert np.allclose([ranking.scores[i] for i in ranking.order], [image.score for image in expected.images])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"caption": ""}, "caption"),
        ({"caption": "  \n"}, "caption"),
        ({"caption": "x" * 10_000}, "caption"),
        ({"candidates": 0}, "candidates"),
        ({"candidates": -1}, "candidates"),
        ({"candidates": 65}, "candidates"),
        ({"candidates": 2, "keep": 3}, "keep"),
        ({"keep": 0}, "keep"),
        ({"seed": -1}, "seed"),
        ({"temperature": -0.5}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"format": 9}, "format"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"guidance": -1.0}, "guidance"),
        ({"image": b"no image"}, "image"),
    ],
)
def test_bad_requests_name_the_field(service: Any, fields: dict[str, Any], field: str) -> None:
    request = generation_pb2.GenerateRequest(**{"caption": "a red taco", **fields})
    with pytest.raises(grpc.RpcError) as caught:
        GenerationStub(grpc.insecure_channel(service.address)).Generate(request)
    assert_names(caught.value, field)


def test_drawings_continue_the_top_of_an_image(service: Any) -> None:
    channel = grpc.insecure_channel(service.address)
    with Client(service.address) as client:
        image = client.generate("a red taco", seed=1).images[0].data
        for rows, kept in ((2, 2), (None, 4)):
            encoded = DecoderStub(channel).Encode(decoder_pb2.EncodeRequest(images=[image])).grids[0]
            prefix = list(encoded.image_tokens)[: kept * 8]
            wanted = prior_pb2.SampleRequest(caption="a blue cat", candidates=2, seed=3, prefix=prefix)
            events = PriorStub(channel).Sample(wanted)
            grids = {e.candidate.index: e.candidate.grid for e in events if e.HasField("candidate")}
            assert all(list(grid.image_tokens)[: kept * 8] == prefix for grid in grids.values())
            decoded = DecoderStub(channel).Decode(decoder_pb2.DecodeRequest(grids=[grids[0], grids[1]]))
            settings: dict[str, Any] = {"candidates": 2, "keep": 2, "seed": 3, "image": image, "image_rows": rows}
            answer = client.generate("a blue cat", **settings, metadata=False)
            assert {drawn.candidate: drawn.data for drawn in answer.images} == dict(enumerate(decoded.images))
            assert answer.summary.tokens_spent == 2 * (8 - kept) * 8


def odd_files() -> dict[str, bytes]:
    """Image files that careless decoders read differently."""
    turned = Image.Exif()
    turned[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 4), np.uint8)
    grey = noise[..., 0].astype(np.uint16) << 8
    return {
        "transparent": to_file(Image.fromarray(noise)),
        "turned": to_file(Image.fromarray(noise).convert("RGB"), "JPEG", exif=turned),
        "16 bits": to_file(Image.fromarray(grey)),
        "damaged EXIF": to_file(Image.fromarray(noise).convert("RGB"), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        "CMYK": to_file(Image.fromarray(noise).convert("RGB").convert("CMYK"), "JPEG"),
        "another format": to_file(Image.fromarray(noise).convert("RGB"), "AVIF"),
    }


def to_file(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


@pytest.mark.parametrize("name", list(odd_files()))
def test_a_file_has_the_same_pixels_through_every_door(
    service: Any, run_directory: Path, text_to_image: TextToImage, tmp_path: Path, name: str
) -> None:
    data = odd_files()[name]
    (tmp_path / "file").write_bytes(data)
    pixels = decode_image(data, 32)
    pair = pairs_table(["a"], [data], [["a red taco"]])
    assert np.array_equal(column_array(_to_pixels(32, partial(_square, 32, "centre"), None, pair)["pixels"])[0], pixels)
    _, (whole,) = decode_rows(
        {"id": np.array(["a"]), "captions": caption_array([["x"]]), **pack_images([data])}, np.array([0])
    )
    assert np.array_equal(centre_square(whole, 32), pixels)

    tokens = text_to_image.encode_rows(pixels, 7)
    config = GenerateConfig(run=str(run_directory), captions=["x"], image=str(tmp_path / "file"), image_rows=7)
    assert read_prefix(text_to_image, config) == tokens
    channel = grpc.insecure_channel(service.address)
    encoded = DecoderStub(channel).Encode(decoder_pb2.EncodeRequest(images=[data])).grids[0]
    assert list(encoded.image_tokens)[: len(tokens)] == tokens
    ranked = RerankerStub(channel).Rank(
        reranker_pb2.RankRequest(caption="a red taco", images=[data, to_file(Image.fromarray(whole))])
    )
    assert ranked.scores[0] == pytest.approx(ranked.scores[1], abs=1e-6)


def test_rows_to_keep_are_checked_against_the_grid(service: Any) -> None:
    with Client(service.address) as client:
        image = client.generate("a red taco", seed=1).images[0].data
        with pytest.raises(ServiceError, match="image_rows is 8 of 8: use 1 to 7"):
            client.generate("a blue cat", image=image, image_rows=8)


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(),
        SamplingParams(guidance=100.0),
        SamplingParams(top_k=1),
        SamplingParams(top_p=0.5),
        SamplingParams(0.5),
    ],
)
def test_every_sampling_setting_reaches_the_prior(
    service: Any, text_to_image: TextToImage, sampling: SamplingParams
) -> None:
    request = prior_pb2.SampleRequest(caption="a red taco", candidates=2, seed=1, **asdict(sampling))
    events = PriorStub(grpc.insecure_channel(service.address)).Sample(request)
    tokens = {e.candidate.index: list(e.candidate.grid.image_tokens) for e in events if e.HasField("candidate")}
    (expected,) = text_to_image.sample(["a red taco"], candidates=2, seeds=1, sampling=sampling)
    assert tokens == dict(enumerate(expected.image_tokens.tolist()))


def test_sampling_settings_change_the_images(service: Any) -> None:
    with Client(service.address) as client:
        plain, guided, limited = (
            client.generate("a red taco", seed=1, guidance=guidance, top_k=top_k).images[0].data
            for guidance, top_k in ((1.0, 0), (100.0, 0), (1.0, 1))
        )
    assert len({plain, guided, limited}) == 3


GRID = prior_pb2.TokenGrid(height=2, width=2, image_tokens=[0, 1, 2, 3])


@pytest.mark.parametrize(
    "grids",
    [
        [],
        [GRID] * 65,
        [prior_pb2.TokenGrid(height=2, width=2, image_tokens=[0, 1, 2])],
        [prior_pb2.TokenGrid(height=2, width=2, image_tokens=[0, 1, 2, 32])],
        [prior_pb2.TokenGrid(height=2, width=2, image_tokens=[0, 1, 2, -1])],
        [prior_pb2.TokenGrid(height=0, width=4)],
        [prior_pb2.TokenGrid(height=1, width=1000, image_tokens=[0] * 1000)],
        [GRID, prior_pb2.TokenGrid(height=1, width=4, image_tokens=[0, 1, 2, 3])],
    ],
)
def test_bad_grids_are_refused(service: Any, grids: list[prior_pb2.TokenGrid]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        DecoderStub(grpc.insecure_channel(service.address)).Decode(decoder_pb2.DecodeRequest(grids=grids))
    assert_names(caught.value, "grids")


@pytest.mark.parametrize(
    ("caption", "images", "field"),
    [("a taco", [], "images"), ("a taco", [b"no image"], "images[0]"), ("", [b"no image"], "caption")],
)
def test_bad_rankings_are_refused(service: Any, caption: str, images: list[bytes], field: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        RerankerStub(grpc.insecure_channel(service.address)).Rank(
            reranker_pb2.RankRequest(caption=caption, images=images)
        )
    assert_names(caught.value, field)


def assert_names(error: grpc.RpcError, field: str) -> None:
    """INVALID_ARGUMENT, one sentence, and a BadRequest detail for ``field``."""
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.details().startswith(field)
    assert "\n" not in error.details()
    detail = error_details_pb2.BadRequest()
    assert rpc_status.from_call(error).details[0].Unpack(detail)
    assert [violation.field for violation in detail.field_violations] == [field]


@pytest.mark.parametrize(
    "method", ["Generation/Generate", "Generation/GenerateStream", "Decoder/Decode", "Prior/Sample"]
)
@pytest.mark.parametrize("message", [b"\x0a\x02\xff\xfe", b"\x0a\x7fcut off"], ids=["no UTF-8", "cut"])
def test_malformed_messages_are_refused_in_a_sentence(service: Any, method: str, message: bytes) -> None:
    channel = grpc.insecure_channel(service.address)
    is_stream = method in ("Generation/GenerateStream", "Prior/Sample")
    call = (channel.unary_stream if is_stream else channel.unary_unary)(f"/t2i.v1.{method}")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(message)) if is_stream else call(message)
    assert_names(caught.value, "message")


def test_health_lists_all_services(service: Any) -> None:
    service.set_running({"decoder"})
    listed = health_pb2_grpc.HealthStub(grpc.insecure_channel(service.address)).List(health_pb2.HealthListRequest())
    serving = health_pb2.HealthCheckResponse.SERVING
    assert {name for name, state in listed.statuses.items() if state.status == serving} == {"t2i.v1.Decoder"}
    service.set_running({"prior", "decoder", "reranker"})


def test_previews_grow_row_by_row_and_end_with_the_ranked_image(service: Any) -> None:
    with Client(service.address) as client:
        events = list(
            client.generate_stream("a red taco", candidates=2, keep=2, seed=7, preview_rows=2, metadata=False)
        )
    previews = [event for event in events if isinstance(event, Preview)]
    images = {event.candidate: event for event in events if isinstance(event, GeneratedImage)}
    for candidate in (0, 1):
        own = [preview for preview in previews if preview.candidate == candidate]
        rows = [preview.rows for preview in own]
        assert rows == sorted(set(rows))
        assert set(rows) <= {2, 4, 6, 8}
        assert [Image.open(io.BytesIO(preview.data)).size for preview in own] == [(32, 4 * count) for count in rows]
        assert (own[-1].data, own[-1].score) == (images[candidate].data, images[candidate].score)
        assert all(preview.score is None for preview in own[:-1])
    assert previews[0].rows < 8
    assert next(i for i, e in enumerate(events) if isinstance(e, Preview)) < len(events) - 4


def test_rows_that_come_before_a_preview_has_begun_are_passed_over(service: Any) -> None:
    sample = service.prior.replica.sample

    async def at_once(wanted: CaptionRequest) -> AsyncGenerator[Any]:
        for event in [event async for event in sample(wanted)]:
            yield event

    with Client(service.address) as client, mock.patch.object(service.prior.replica, "sample", at_once):
        events = list(client.generate_stream("a red taco", candidates=2, keep=2, seed=7, preview_rows=1))
    rows = [event.rows for event in events if isinstance(event, Preview) and event.candidate == 0]
    assert rows == [1, 8]
    assert len([event for event in events if isinstance(event, GeneratedImage)]) == 2


def test_previews_are_passed_over_while_the_decoder_is_busy(service: Any) -> None:
    with Client(service.address) as client, mock.patch.object(service.models.stages("tiny").previews, "_value", 0):
        events = list(client.generate_stream("a red taco", candidates=2, keep=2, seed=7, preview_rows=1))
    assert [event.rows for event in events if isinstance(event, Preview)] == [8, 8]  # of ranked images


def test_images_are_ranked_when_others_have_filled_the_queues(service: Any) -> None:
    decoder, full = service.models.stages("tiny").decoder.replica, iter([BackPressureError(1, 1)] * 3)
    decode = decoder.decode

    async def decode_later(grids: list[np.ndarray]) -> DecodedImages:
        if error := next(full, None):
            raise error
        return await decode(grids)

    with Client(service.address) as client, mock.patch.object(decoder, "decode", decode_later):
        answer = client.generate("a red taco", candidates=2, keep=2, seed=7)
    assert len(answer.images) == 2


def test_the_time_that_ranking_takes_is_left_before_the_deadline(service: Any) -> None:
    ranking_time = service.models.stages("tiny").ranking_time
    with Client(service.address) as client:
        client.generate("a red taco", seed=7)
        assert 0 < ranking_time.seconds < 60
        neighbour = client.generate_stream("a blue cat", candidates=64, seed=1)
        next(neighbour)
        with mock.patch.object(ranking_time, "seconds", 1e6), pytest.raises(ServiceBusyError):
            client.generate("a red taco", seed=7, timeout=LONGEST_PAUSE_S)  # too short to ask again
        neighbour.close()


def test_candidates_are_ranked_while_others_are_sampled(service: Any) -> None:
    with Client(service.address) as client:
        events = list(client.generate_stream("a red taco", candidates=16, keep=2, seed=7))
    progress = [event for event in events if isinstance(event, GenerationProgress)]
    early = [event for event in progress if event.tokens_done < event.tokens_total]
    assert max(event.candidates_ranked for event in early) > 0
    assert progress[-1].candidates_ranked == 16


def test_ids_of_requests_are_echoed(service: Any) -> None:
    stub = GenerationStub(grpc.insecure_channel(service.address))
    request = generation_pb2.GenerateRequest(caption="a red taco")
    _, call = stub.Generate.with_call(request, metadata=(("x-request-id", "my-own"),))
    assert dict(call.trailing_metadata())["x-request-id"] == "my-own"
    _, call = stub.Generate.with_call(request)
    assert re.fullmatch("[0-9a-f]{12}", dict(call.trailing_metadata())["x-request-id"])
