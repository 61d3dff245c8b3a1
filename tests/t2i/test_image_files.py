"""Files of every format and mode, as they come: decoded alike, or refused in a sentence."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from t2i.image_files import ImageError, decode_rgb, image_suffix, on_white, suffixes
from tests.images import encode, random_pixels

COLOUR = (200, 100, 50)


def of_mode(mode: str) -> Image.Image:
    image = Image.new("RGB", (8, 6), COLOUR)
    return image.quantize(4) if mode == "P" else image.convert(mode)


def png(bits: int, colour_type: int, row: bytes, transparent: bytes) -> bytes:
    """A PNG of one row of two pixels, with a transparent colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 2, 1, bits, colour_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"tRNS", transparent) + chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "file_format",
    ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "JPEG2000", "TGA", "PPM", "ICO", "QOI", "PCX", "SGI", "DDS"],
)
def test_formats_are_decoded_and_have_a_suffix(file_format: str) -> None:
    data = encode(of_mode("RGB"), file_format)
    assert np.abs(decode_rgb(data).astype(int) - COLOUR).max() <= 4
    assert decode_rgb(data).shape == (6, 8, 3)
    assert image_suffix(data) in suffixes()


@pytest.mark.parametrize(
    ("file_format", "mode"),
    [
        *[("PNG", mode) for mode in ("P", "RGBA")],
        *[("TIFF", mode) for mode in ("P", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB")],
        *[("JPEG", mode) for mode in ("CMYK", "YCbCr")],
        ("WEBP", "HSV"),
    ],
)
def test_modes_of_colour_keep_their_colour(file_format: str, mode: str) -> None:
    decoded = decode_rgb(encode(of_mode(mode), file_format))
    assert np.abs(decoded.astype(int) - COLOUR).max() <= 6


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_modes_of_grey_keep_their_brightness(mode: str) -> None:
    image = Image.new("L", (4, 4), 255).convert(mode)
    assert (decode_rgb(encode(image)) == 255).all()


@pytest.mark.parametrize(
    "data",
    [
        encode(Image.fromarray(np.full((4, 4), 0x8012, np.uint16))),
        encode(Image.fromarray(np.full((4, 4), 0x8012, np.uint16)), "TIFF"),
        encode(Image.fromarray(np.full((4, 4), 0x8012, np.uint16)), "JPEG2000"),
        b"P5 2 1 65535\n" + struct.pack(">HH", 0x8012, 0x8012),
        b"P5 2 1 4095\n" + struct.pack(">HH", 0x801, 0x801),
    ],
    ids=["png", "tiff", "jpeg 2000", "pgm", "pgm of 12 bits"],
)
def test_more_bits_keep_their_brightness(data: bytes) -> None:
    assert (decode_rgb(data) == 0x80).all()


@pytest.mark.parametrize(("mode", "dtype"), [("F", np.float32), ("I", np.int32)])
def test_numbers_of_unknown_range_are_refused_by_name(mode: str, dtype: type) -> None:
    data = encode(Image.fromarray(np.full((4, 4), 100, dtype)), "TIFF")
    with pytest.raises(ImageError, match=rf"^its pixels \(mode {mode}\) have 32 bits and no known range: save it with"):
        decode_rgb(data)


def faded(mode: str) -> Image.Image:
    """Two pixels, the left one opaque and grey 100, the right one black and transparent."""
    pixels = np.array([[[100, 100, 100, 255], [0, 0, 0, 0]]], np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize(
    "data",
    [
        encode(faded("RGBA")),
        encode(faded("LA")),
        encode(faded("RGBA"), "WEBP", lossless=True),
        encode(faded("RGBA"), "TIFF"),
        encode(faded("RGBA").convert("PA"), "TIFF"),
        encode(faded("RGB").quantize(2), "PNG", transparency=faded("RGB").quantize(2).getpixel((1, 0))),
        encode(faded("RGB").quantize(2), "GIF", transparency=faded("RGB").quantize(2).getpixel((1, 0))),
        png(8, 0, bytes([100, 0]), struct.pack(">H", 0)),
        png(8, 2, bytes([100, 100, 100, 9, 8, 7]), struct.pack(">HHH", 9, 8, 7)),
        png(16, 0, struct.pack(">HH", 100 << 8, 0x1234), struct.pack(">H", 0x1234)),
        png(16, 2, struct.pack(">6H", *[100 << 8] * 3, *[0x1234] * 3), struct.pack(">HHH", *[0x1234] * 3)),
    ],
    ids=["RGBA", "LA", "webp", "tiff", "PA", "P", "gif", "L tRNS", "RGB tRNS", "16 bits tRNS", "48 bits tRNS"],
)
def test_transparency_becomes_white(data: bytes) -> None:
    left, right = decode_rgb(data)[0]
    assert np.abs(left.astype(int) - 100).max() <= 1
    assert right.tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied_transparency_becomes_white(mode: str) -> None:
    left, right = np.asarray(on_white(faded("LA" if mode == "La" else "RGBA").convert(mode)))[0]
    assert (left.tolist(), right.tolist()) == ([100] * 3, [255] * 3)


@pytest.mark.parametrize(("bits", "row", "dark"), [(4, 0x70, 0), (2, 0x40, 0)], ids=["4 bits", "2 bits"])
def test_transparent_greys_of_few_bits_are_found(bits: int, row: int, dark: int) -> None:
    """The left pixel has the transparent level (7 of 15, 1 of 3), the right one is black."""
    transparent = struct.pack(">H", row >> (8 - bits))
    assert decode_rgb(png(bits, 0, bytes([row]), transparent))[0, :, 0].tolist() == [255, dark]


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    pixels = np.full((1, 1, 4), (0, 0, 0, 51), np.uint8)
    assert decode_rgb(encode(Image.fromarray(pixels)))[0, 0].tolist() == [204, 204, 204]


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, -1), (8, 1)])
def test_the_exif_rotation_is_applied(file_format: str, orientation: int, turns: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 16:] = 255
    decoded = decode_rgb(encode(Image.fromarray(pixels), file_format, exif=exif))
    assert np.abs(decoded.astype(int) - np.rot90(pixels, turns)).max() <= 4


@pytest.mark.parametrize("junk", [b"junk", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff" + b"\x07" * 40])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_is_ignored(file_format: str, junk: bytes) -> None:
    decoded = decode_rgb(encode(Image.new("RGB", (8, 6), COLOUR), file_format, exif=b"Exif\0\0" + junk))
    assert np.abs(decoded.astype(int) - COLOUR).max() <= 4


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_frame_counts(file_format: str) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in (COLOUR, (0, 0, 0))]
    data = encode(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert np.abs(decode_rgb(data).astype(int) - COLOUR).max() <= 4


def icon_of(picture: bytes) -> bytes:
    """An ICO whose header says 16 x 16 pixels, with any picture inside."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(picture), 22) + picture


BMP = encode(Image.new("RGB", (8, 8)), "BMP")
LARGE = encode(Image.new("1", (5000, 4000)))
HUGE = encode(Image.new("1", (9000, 9000)))


@pytest.mark.filterwarnings("ignore:Image was not the expected size")
@pytest.mark.parametrize(
    "data",
    [BMP[:18] + struct.pack("<ii", 5000, 4000) + BMP[26:], LARGE, HUGE, icon_of(LARGE), icon_of(HUGE)],
    ids=["by the header alone", "20 megapixels", "a bomb", "in an icon", "a bomb in an icon"],
)
def test_too_many_pixels_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^it has (20|over 32) megapixels: the most is 16$"):
        decode_rgb(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it has no bytes"),
        (b"no image at all", "it is no image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no image of a known format"),
        (b"%PDF-1.4\n", "it is no image of a known format"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "it is no image of a known format"),
        (b"\xd7\xcd\xc6\x9a" + bytes(64), "it is no image of a known format"),
        (b"\0\0\1\xb3" + bytes(64), "it is no image of a known format"),
        (b"SIMPLE  =                    T" + bytes(64), "it is no image of a known format"),
    ],
    ids=["empty", "text", "postscript", "pdf", "hdf5", "wmf", "mpeg", "fits"],
)
def test_what_is_no_image_gives_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=f"^{reason}"):
        decode_rgb(data)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "TGA", "PPM", "QOI"])
def test_truncated_files_are_refused(file_format: str) -> None:
    whole = encode(Image.fromarray(random_pixels(32, 32)), file_format)
    with pytest.raises(ImageError, match=r"^it cannot be decoded: "):
        decode_rgb(whole[: len(whole) * 2 // 3])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "ICO", "TGA", "PPM", "PCX"]), st.data())
def test_no_damage_raises_anything_else(file_format: str, data: st.DataObject) -> None:
    damaged = bytearray(encode(Image.fromarray(random_pixels(12, 12)), file_format))
    for _ in range(3):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ImageError):
        assert decode_rgb(bytes(damaged)).shape[2] == 3
