from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coco_eval import CocoEval
from t2i.config import CONFIGS, ConfigError, describe, load_config
from t2i.data import SourceConfig
from t2i.evaluate.caption_sets import CaptionSet
from t2i.evaluate.config import EvaluateConfig
from t2i.evaluate.protocols import (
    SENTENCES,
    departures,
    full_name,
    protocol_names,
    protocol_sentences,
    read_protocol,
    short_count,
)

COCO = "sets=[{name: coco2014-val, source: {path: captions_val2014.json}, reference: {path: train2014}}]"

WEIGHTS = "extractor.weights=inception.pth"


def load(*words: str) -> CocoEval:
    return load_config(CocoEval, "coco_eval", [COCO, WEIGHTS, *words])


@pytest.mark.parametrize("name", protocol_names())
def test_every_protocol_can_be_asked_for_and_says_what_it_sets(name: str) -> None:
    config = load(f"protocol={name}")
    assert departures(config) == []
    settings = read_protocol(name)
    assert config.conventions == settings["conventions"]
    assert {"captions", "pick", "reference_images", "image_size", "crop", "candidates", "extractor"} <= settings.keys()


def test_the_papers_protocol_is_the_papers() -> None:
    config = load("protocol=dalle")
    assert (config.captions, config.candidates, config.blur_radii) == (30000, 512, [0, 1, 2, 4, 8])
    assert (config.image_size, config.sampling.temperature, config.extractor.preset) == (256, 1.0, "dmgan")


def test_what_the_user_says_wins_and_is_named() -> None:
    config = load("protocol=dalle", "candidates=8", "extractor.preset=tf", "pick=first")
    assert (config.candidates, config.captions) == (8, 30000)
    assert departures(config) == [
        "pick is first instead of random",
        "candidates is 8 instead of 512",
        "extractor.preset is tf instead of dmgan",
    ]


def test_a_protocol_asks_for_the_weights_that_it_is_measured_by() -> None:
    with pytest.raises(ConfigError, match=r"extractor\.weights is empty"):
        load_config(CocoEval, "coco_eval", ["protocol=glide"])
    config = load_config(CocoEval, "coco_eval", ["protocol=glide", "extractor.name=efficientnet_lite0"])
    assert departures(config) == ["extractor.name is efficientnet_lite0 instead of inception"]


def test_without_a_protocol_there_is_nothing_to_depart_from() -> None:
    assert departures(EvaluateConfig(candidates=3)) == []


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"protocol is 'dale': use dalle, dm-gan, .*mosaic\.$"):
        load("protocol=dale")


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("pick=best", "pick is 'best': use first, random, all"),
        ("reference_images=val", "reference_images is 'val': use same, all, train"),
        ("crop=corner", "crop is 'corner': use centre, squash"),
    ],
)
def test_other_choices_are_refused(word: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load(word)


def test_training_images_are_compared_with_only_where_they_are_given() -> None:
    with pytest.raises(ConfigError, match="reference_images is 'train': give val of sets a reference, the training im"):
        load_config(CocoEval, "coco_eval", ["protocol=lafite", WEIGHTS])


def test_a_reference_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match="x has a reference and images=false: leave one of them out"):
        CaptionSet("x", SourceConfig("prompts.txt"), images=False, reference=SourceConfig("val2014"))


def test_help_lists_every_protocol_with_its_conventions() -> None:
    text = describe(CocoEval, "coco_eval")
    assert all(f"  {name}" in text for name in protocol_names())
    assert "arXiv:2102.12092" in text
    assert len(protocol_names()) == len(list((CONFIGS / "coco_eval").iterdir()))


def test_an_evaluation_is_told_in_sentences() -> None:
    config = EvaluateConfig(captions=30000, candidates=512, pick="random", reference_images="all", image_size=256)
    assert protocol_sentences(config) == [
        "30000 captions, chosen by the seed, are drawn, the best of 512 images by CLIP for each.",
        "Of the captions of an image one is drawn, chosen by the seed.",
        "They are compared with all images of the set, whichever captions were drawn.",
        "Real images are cut to their centre square.",
        "Both sides are brought to 256 px before features are taken.",
    ]


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in SENTENCES for value in SENTENCES[field]])
def test_every_choice_has_its_sentence(field: str, value: str) -> None:
    sets = [CaptionSet("x", SourceConfig("x.csv"), reference=SourceConfig("train2014"))]
    values: dict[str, Any] = {field: value}
    assert SENTENCES[field][value] in protocol_sentences(replace(EvaluateConfig(sets=sets), **values))


def test_full_names() -> None:
    name = full_name("fid", "coco2014-val", 30000, 256, "centre", "tf", "1f2e3d4c5b6a")
    assert name == "fid-coco2014-val30k-256cc-tf-1f2e3d4c"
    name = full_name("kid", "val", 866, 64, "squash", "clean", "1f2e3d4c5b6a", reference_images="train")
    assert name == "kid-val866-train-64sq-clean-1f2e3d4c"
    assert [short_count(count) for count in (30000, 5000, 40504, 999)] == ["30k", "5k", "40504", "999"]
