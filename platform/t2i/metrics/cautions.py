"""What a reader of the figures has to be told, in words."""

from __future__ import annotations

from collections.abc import Iterator

COCO_2017_VALIDATION = 5_000
"""Images of COCO 2017's validation set; published figures on COCO mostly use 30 000 of COCO 2014's."""

ENOUGH = 10_000
"""Images below which the Fréchet distance's bias is usually larger than the difference between two models."""


def cautions(
    n_generated: int,
    n_reference: int,
    dimension: int,
    *,
    generated_jpeg: bool | None = None,
    reference_jpeg: bool | None = None,
    reference_name: str = "",
    kid_subset: int | None = None,
    splits: int | None = None,
) -> list[str]:
    """Return one sentence for each reason to read the distances between two image sets with care.

    Args:
        n_generated: images of the one side.
        n_reference: images of the other side.
        dimension: features of an image.
        generated_jpeg: whether that side's images were ever stored as JPEG; None: not known.
        reference_jpeg: the same of the reference.
        reference_name: what the reference is called, such as ``coco2017-val``.
        kid_subset: images of a subset of the kernel distance.
        splits: parts of the inception score.
    """
    few = min(n_generated, n_reference)
    return [
        *_of_sizes(n_generated, n_reference, dimension),
        *_of_subsets(n_generated, few, kid_subset, splits),
        *_of_sources(n_reference, generated_jpeg, reference_jpeg, reference_name),
    ]


def _of_sizes(n_generated: int, n_reference: int, dimension: int) -> Iterator[str]:
    few = min(n_generated, n_reference)
    if few < dimension:
        yield (
            f"There are {few} images for {dimension} features: a covariance lacks rank and the Fréchet distance is"
            " mostly bias, so read the kernel distance instead."
        )
    elif few < ENOUGH:
        yield f"The Fréchet distance of {few} images is biased upwards: compare it only at the same number of images."
    if n_generated != n_reference:
        yield (
            f"The sides have {n_generated} and {n_reference} images: the Fréchet distance is comparable only with"
            " figures of the same two numbers."
        )


def _of_subsets(n_generated: int, few: int, kid_subset: int | None, splits: int | None) -> Iterator[str]:
    if kid_subset and 2 * kid_subset > few:
        yield (
            f"The kernel distance's subsets of {kid_subset} are more than half of {few} images: they overlap so much"
            " that their standard deviation understates the error."
        )
    if splits and n_generated < 1000 * splits:
        yield (
            f"The inception score has {n_generated // splits} images in each of {splits} parts, and grows with that"
            " number: compare it only at the same one."
        )


def _of_sources(
    n_reference: int, generated_jpeg: bool | None, reference_jpeg: bool | None, reference_name: str
) -> Iterator[str]:
    if None not in (generated_jpeg, reference_jpeg) and generated_jpeg != reference_jpeg:
        side = "generated" if generated_jpeg else "reference"
        yield f"Only the {side} images were stored as JPEG, whose artefacts alone shift distances, by tens of points."
    if "2017" in reference_name and n_reference <= COCO_2017_VALIDATION:
        yield (
            f"The reference is COCO 2017's validation set, of {COCO_2017_VALIDATION} images at most: published figures"
            " mostly are against 30 000 images of COCO 2014's."
        )
