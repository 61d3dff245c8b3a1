"""Image files that are made to hurt, through every door: refused in a sentence or read as others read them."""

from __future__ import annotations

import io
import struct
import zlib

import grpc
import httpx
import pytest
from PIL import Image

from t2i.protos.v1 import decoder_pb2, generation_pb2, reranker_pb2
from t2i.protos.v1.decoder_pb2_grpc import DecoderStub
from t2i.protos.v1.generation_pb2_grpc import GenerationStub
from t2i.protos.v1.reranker_pb2_grpc import RerankerStub
from tests.images import encode
from tests.t2i.serve.soak.conftest import Note
from tests.t2i.serve.soak.service import SoakService

pytestmark = [pytest.mark.ray, pytest.mark.soak, pytest.mark.timeout(3600)]
SIDE = 4000
LARGE = 16
MB = 300
"""Megabytes by which a process may grow: of the pixels of LARGE files one after the other, not all of them."""


def large_file() -> bytes:
    """A PNG of 16 megapixels in a few kilobytes."""
    return encode(Image.new("RGB", (SIDE, SIDE)))


def lying_png(width: int, height: int) -> bytes:
    """A PNG whose header promises more than there is."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def animated() -> bytes:
    frames = [Image.new("RGB", (16, 16), (grey, grey, grey)) for grey in (0, 255)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


REFUSED = {
    "a bomb of 50 000 x 50 000": lying_png(50_000, 50_000),
    "a header that promises too much": lying_png(4000, 4000),
    "no image": b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>",
    "nothing": b"",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(/etc/passwd) (r) file",
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_no_usable_image_is_refused_through_every_door(service: SoakService, name: str) -> None:
    data, channel = REFUSED[name], grpc.insecure_channel(service.grpc)
    calls = {
        "images[0]": [
            lambda: DecoderStub(channel).Encode(decoder_pb2.EncodeRequest(images=[data])),
            lambda: RerankerStub(channel).Rank(reranker_pb2.RankRequest(caption="a red taco", images=[data])),
        ],
        "image": [
            lambda: GenerationStub(channel).Generate(generation_pb2.GenerateRequest(caption="a red taco", image=data))
        ],
    }
    for field, doors in calls.items():
        for door in doors:
            with pytest.raises(grpc.RpcError) as caught:
                door()
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert caught.value.details().startswith(f"{field} cannot be used: ")
    answer = httpx.post(
        f"{service.http}/v1/images/edits", data={"prompt": "a red taco"}, files={"image": data}, timeout=60
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "image"


def test_an_animation_is_its_first_frame(service: SoakService) -> None:
    stub = DecoderStub(grpc.insecure_channel(service.grpc))
    still = encode(Image.new("RGB", (16, 16)))
    first, second = stub.Encode(decoder_pb2.EncodeRequest(images=[animated(), still])).grids
    assert first == second


def test_many_large_images_take_the_memory_of_one(service: SoakService, note: Note) -> None:
    channel, files = grpc.insecure_channel(service.grpc), [large_file()] * LARGE
    before = service.megabytes()
    DecoderStub(channel).Encode(decoder_pb2.EncodeRequest(images=files))
    RerankerStub(channel).Rank(reranker_pb2.RankRequest(caption="a red taco", images=files))
    growth = {name: megabytes - before[name] for name, megabytes in service.megabytes().items()}
    most = max(growth, key=growth.__getitem__)
    told = f"{most.split()[0]} keeps most of them afterwards: {growth[most]:.0f} MB"
    note(f"PNGs of {SIDE} x {SIDE} in one request ({LARGE * 48} MB of pixels)", f"{LARGE} to Encode and Rank", told)
    assert growth[most] <= MB
