"""Recipes in image files: nothing is lost, no pixel changes, damaged ones are refused in a sentence."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from t2i.sampling import SamplingParams
from t2i.serve.generation.image_codec import encode_image
from t2i.serve.generation.picture_files import read_picture
from t2i.serve.generation.receipt import PictureRecipe, Prefix, Recipe, RecipeError, Setup, StageSetup, to_json

FORMATS = ["png", "jpeg", "webp"]
STAGE = StageSetup("a" * 64, "float32", "cpu AVX2", 16, 1)
SETUP = Setup("b" * 64, STAGE, STAGE, STAGE, 16, False, 1, "0.1.0", "2.14.1")
RECIPE = PictureRecipe(
    Recipe(
        "a taco, 3D render",
        False,
        2**63 - 1,
        SamplingParams(top_p=0.1),
        8,
        2,
        "small",
        SETUP,
        Prefix.of([1, 2, 3, 4], 2),
    ),
    3,
    0.1 + 0.2,
    (8, 8),
    "png",
    92,
    "c" * 64,
    "d" * 64,
)
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 32, 3), np.uint8)


def in_format(recipe: PictureRecipe, image_format: str) -> PictureRecipe:
    return replace(recipe, file_format=image_format)


def about(caption: str) -> PictureRecipe:
    return replace(RECIPE, recipe=replace(RECIPE.recipe, caption=caption))


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_recipe_comes_back_and_no_pixel_changes(image_format: str) -> None:
    recipe = in_format(RECIPE, image_format)
    pixels, found = read_picture(encode_image(IMAGE, image_format, recipe=recipe))
    assert found == recipe
    bare = np.asarray(Image.open(io.BytesIO(encode_image(IMAGE, image_format))).convert("RGB"))
    assert np.array_equal(pixels, bare)


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=200).filter(str.strip), st.sampled_from(FORMATS))
def test_any_caption_comes_back(caption: str, image_format: str) -> None:
    recipe = in_format(about(caption), image_format)
    assert read_picture(encode_image(IMAGE[:8, :8], image_format, recipe=recipe))[1] == recipe


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("character", ["\U0001f32e", '"', "&", "\x01", "\ufffe"])
def test_the_longest_caption_fits(image_format: str, character: str) -> None:
    recipe = in_format(about(character * 4096), image_format)
    assert read_picture(encode_image(IMAGE, image_format, recipe=recipe))[1] == recipe


@pytest.mark.parametrize("caption", ["a taco, 3D render", "ein süßer Hund", "タコス"])
def test_galleries_find_the_settings_they_know(caption: str) -> None:
    data = encode_image(IMAGE, "png", recipe=about(caption))
    words, settings = Image.open(io.BytesIO(data)).info["parameters"].rsplit("\n", 1)
    found = dict(each.split(": ") for each in settings.split(", "))
    assert words == caption
    assert (found["Steps"], found["Seed"], found["Model hash"]) == ("64", str(2**63 - 1), "a" * 12)


def saved_with(chunk: str) -> bytes:
    info, file = PngInfo(), io.BytesIO()
    info.add_itxt("t2i", chunk)
    Image.fromarray(IMAGE).save(file, "png", pnginfo=info)
    return file.getvalue()


def saved_with_xmp(xmp: bytes) -> bytes:
    file = io.BytesIO()
    Image.fromarray(IMAGE).save(file, "webp", xmp=xmp)
    return file.getvalue()


ELEMENT = f'<x xmlns:r="urn:t2i:v1"><r:recipe>{to_json(RECIPE)}</r:recipe></x>'.replace("&", "&amp;").encode()


def test_xmp_that_another_program_has_rewritten_is_read() -> None:
    assert read_picture(saved_with_xmp(ELEMENT))[1] == RECIPE


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encode_image(IMAGE, "png"), "there is no recipe in it"),
        (encode_image(IMAGE, "jpeg"), "there is no recipe in it"),
        (saved_with(to_json(RECIPE)[:-9]), "the recipe is damaged (Invalid JSON"),
        (saved_with("[]"), "the recipe is damaged (Input should be an object"),
        (saved_with(to_json(RECIPE).replace('"candidate":3', '"candidate":"x"')), "the recipe is damaged (candidate: "),
        (
            saved_with(to_json(RECIPE).replace('"top_p":0.1', '"top_p":7')),
            "the recipe is damaged (recipe.sampling: top_p is 7",
        ),
        (
            saved_with(to_json(RECIPE).replace('"candidate":3', '"candidate":8')),
            "the recipe is damaged (candidate is 8 of 8",
        ),
        (saved_with(to_json(RECIPE).replace('"quality":92', '"quality":101')), "the recipe is damaged (quality is 101"),
        (saved_with_xmp(ELEMENT[:-5]), "the recipe is damaged (its XMP: "),
        (saved_with_xmp(b'<!DOCTYPE x [<!ENTITY a "aa">]>' + ELEMENT), "the recipe is damaged (its XMP has a document"),
    ],
)
def test_what_is_no_recipe_is_refused_in_a_sentence(data: bytes, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_picture(data)
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
