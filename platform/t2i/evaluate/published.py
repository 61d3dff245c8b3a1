"""Published figures on COCO, each with the protocol behind it: for comparison by eye, never for a ranking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedFigures:
    """What was published of one model.

    ``fid`` maps the radius of blur in pixels to FID; ``inception_score`` is without blur, None if there is none.
    """

    model: str
    fid: Mapping[float, float]
    inception_score: float | None
    protocol: str
    source: str


BLUR_RADII = (0.0, 1.0, 2.0, 4.0, 8.0)
TABLE_1 = "CogView, table 1 (arXiv 2105.13290)"
TRAINED = "trained on COCO; one image a caption"
GUIDED = "zero-shot; 30 000 validation captions, one guided image each, 256 px"


def _blurred(
    model: str, fid: tuple[float, ...], inception_score: float, images: str, source: str = TABLE_1
) -> PublishedFigures:
    """Return figures by the paper's protocol: FID at each of :data:`BLUR_RADII`."""
    protocol = f"{images}; 30 000 validation captions; both sides blurred"
    return PublishedFigures(model, dict(zip(BLUR_RADII, fid, strict=True)), inception_score, protocol, source)


def _plain(model: str, fid: float, protocol: str, source: str) -> PublishedFigures:
    return PublishedFigures(model, {0.0: fid}, None, protocol, source)


PUBLISHED = (
    _blurred("AttnGAN", (35.2, 44.0, 72.0, 108.0, 100.0), 23.3, TRAINED),
    _blurred("DM-GAN", (26.5, 39.0, 73.0, 119.0, 112.3), 32.2, TRAINED),
    _blurred("DF-GAN", (26.5, 33.8, 55.9, 91.0, 97.0), 18.7, TRAINED),
    _blurred(
        "DALL·E",
        (27.5, 28.0, 45.5, 83.5, 85.0),
        17.9,
        "zero-shot; best of 512 by CLIP at temperature 1; DM-GAN's code; read off a plot",
        f"arXiv 2102.12092, figure 9, as in {TABLE_1}",
    ),
    _blurred(
        "CogView",
        (27.1, 19.4, 13.9, 19.4, 23.6),
        18.2,
        "zero-shot, captions translated into Chinese; best of 60 by its own caption loss",
    ),
    _plain("minDALL-E", 14.7, "best of 32 by CLIP; validation images of COCO 2017", "kakaobrain/minDALL-E"),
    _plain("LAFITE", 26.94, "zero-shot; 30 000 validation captions, one image each", "arXiv 2111.13792"),
    _plain("GLIDE", 12.24, GUIDED, "arXiv 2112.10741"),
    _plain("LDM-KL-8-G", 12.63, GUIDED, "arXiv 2112.10752"),
    _plain("DALL·E 2", 10.39, GUIDED, "arXiv 2204.06125"),
    _plain("Imagen", 7.27, GUIDED, "arXiv 2205.11487"),
)


def published_curves(metric: str) -> dict[str, Mapping[float, float]]:
    """Return model -> (radius of blur -> value) of what was published of a metric, for a plot beside ours.

    It is empty unless the metric is FID or the inception score itself, by the network that defines them.
    """
    if metric == "fid":
        return {each.model: each.fid for each in PUBLISHED if len(each.fid) > 1}
    if metric == "is":
        return {each.model: {0.0: each.inception_score} for each in PUBLISHED if each.inception_score is not None}
    return {}
