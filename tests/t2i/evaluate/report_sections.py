"""Made-up sections of a report, with all that a page can show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from t2i.evaluate.figures import SUBJECT_LABELS, Figure
from t2i.evaluate.gallery import CaptionCard, Galleries
from t2i.evaluate.histograms import count
from t2i.evaluate.sections import Section
from t2i.metrics.features import FID_FILE_HASH, ExtractorProtocol
from t2i.metrics.intervals import Interval

INCEPTION = ExtractorProtocol("inception_v3", FID_FILE_HASH + "0" * 56, "tf", "bilinear to 299 px")
EFFICIENTNET = ExtractorProtocol("efficientnet_lite0", "57" * 32, "efficientnet", "bilinear to 224 px")
RADII = [0.0, 1.0, 2.0, 4.0, 8.0]
IDS = [f"caption-{n}" for n in range(6)]


def protocol(extractor: ExtractorProtocol = EFFICIENTNET, **changes: Any) -> dict[str, Any]:
    """Return the protocol of 30 captions, best of 8, without pruning."""
    return {
        "full_name": "fid-val30-64cc-tf-01234567",
        "conventions": "",
        "departures": [],
        "pick": "first",
        "source": "/data/a-long-folder-name-without-spaces/" * 2 + "captions.json",
        "captions": 30,
        "captions_asked_for": 30,
        "caption_hash": "ab" * 32,
        "captions_truncated": 0,
        "candidates": 8,
        "pruning": None,
        "sampling": {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "guidance": 1.0},
        "seed": 7,
        "models": {"clip": "0123456789ab"},
        "drawn_image_size": [64, 64],
        "image_size": 64,
        "reference": None,
        "reference_images": "same",
        "real_images_source": "/data/val2014",
        "real_images": 30,
        "real_images_left_out": {"count": 0, "first": [], "unreadable": "out/val/images/real/unreadable"},
        "crop": "centre",
        "extractor": asdict(extractor),
        "blur_radii": RADII,
        "training_images": "none: not recorded",
        **changes,
    }


def section(extractor: ExtractorProtocol = EFFICIENTNET, **changes: Any) -> Section:
    """Return a section with figures of every kind; ``changes`` replace its fields."""
    random = np.random.default_rng(0)
    cosines = count({name: random.normal(0.3, 0.1, 30) for name in ("best", "first", "real")})
    made = Section(
        name="val",
        protocol=protocol(extractor),
        cautions=["There are 30 images for 1280 features: read the kernel distance instead."],
        figures=list(_figures(extractor)),
        best_of_n=np.linspace(0.1, 0.3, 8).tolist(),
        cosines=cosines,
        galleries=Galleries(IDS[:3], IDS[:2], IDS[2:4], IDS[4:]),
        cards={name: _card(name, random) for name in IDS},
    )
    return replace(made, **changes)


def _figures(extractor: ExtractorProtocol) -> Iterator[Figure]:
    fid, kid, score = (extractor.metric_name(name) for name in ("fid", "kid", "is"))
    for rank, subject in enumerate([*SUBJECT_LABELS, "best_of_2", "best_of_4"]):
        yield _figure("clip_score", subject, "captions", 0.9 - rank / 10)
        yield _figure("clip_r@1", subject, "captions", 0.5)
        for radius in RADII:
            yield _figure(fid, subject, "real", 20 + rank - radius, radius)
            yield _figure(kid, subject, "real", 0.01 * rank, radius)
            yield _figure(score, subject, None, 9 - rank / 2, radius)
        yield _figure("precision", subject, "real", 0.5)
    yield _figure("elb_total", "real", None, 3.5)
    if extractor.is_fid:
        details = {"ours": 20.125, "relative_difference": 3e-5}
        yield Figure("fid_torch_fidelity", "best", "real", 20.126, None, 30, 29, details=details)


def _figure(metric: str, subject: str, reference: str | None, value: float, radius: float = 0.0) -> Figure:
    interval = Interval(value - 0.125, value + 0.25, 0.95, "bootstrap", 1000)
    details = {"threshold": 0.9, "left_out": 4, "training_images": 1000} if subject == "best_distinct" else {}
    return Figure(metric, subject, reference, value, 0.1, 30, 29 if reference else 0, radius, interval, details)


def _card(name: str, random: np.random.Generator) -> CaptionCard:
    images = random.integers(0, 256, (8, 64, 64, 3), np.uint8)
    caption = f"{name}: a red circle beside a blue square, in the style of an emoji"
    return CaptionCard(caption, images, np.linspace(0.4, 0.1, 8, dtype=np.float32), images[0])
