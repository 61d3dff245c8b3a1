#!/usr/bin/env python
"""Generate images for captions with a trained run, rank them, and save the best with a contact sheet of all.

    python jobs/generate.py run=runs/tiny captions='["a taco, 3D render"]' candidates=8 keep=2

Writes <number>-<caption>_<rank>.png, best first, and contact_sheet.png to <run>/generated.
"""

from __future__ import annotations

import _source  # noqa: F401  isort: skip

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from PIL import Image
from tqdm import tqdm

from models.dtypes import COMPILE_MEANING, PRIOR_DTYPE_MEANING, PRIOR_DTYPES, check_dtype
from models.errors import UserError
from models.settings import AUTO, setting
from t2i.config import run_job
from t2i.contact_sheet import SheetRow, contact_sheet
from t2i.data.transforms import decode_image
from t2i.engine import (
    PARALLEL_MEANING,
    GenerationResult,
    PruningParams,
    TextToImage,
    TokenProgress,
    rows_to_keep,
    window_of,
)
from t2i.image_files import ImageError
from t2i.sampling import SamplingParams
from t2i.storage import fetch_run, filesystem_for, new_directory, read_path, run_setting


@dataclass
class GenerateConfig:
    """Which images to generate, how, and how many of them to save."""

    run: str = run_setting("runs/tiny")
    captions: list[str] = setting(list, "what the images should show")
    candidates: int = setting(8, "images generated per caption", at_least=1)
    keep: int = setting(2, "best candidates saved per caption; the contact sheet shows all", at_least=1)
    seed: int = setting(0, "the same seed gives the same images", at_least=0)
    sampling: SamplingParams = setting(SamplingParams, "how image tokens are sampled")
    pruning: PruningParams = setting(PruningParams, "when candidates with low CLIP scores are stopped part-way")
    image: str | None = setting(None, "an image file whose top every generated image continues", path="read")
    image_rows: int | None = setting(
        None, "rows of its image tokens to keep; empty: 15 of 32, as the paper", at_least=1
    )
    slots: int = setting(32, "candidates that are sampled at once", at_least=1)
    device: str = setting("cpu", "cpu or cuda")
    dtype: str = setting("float32", PRIOR_DTYPE_MEANING)
    parallel: str = setting(AUTO, PARALLEL_MEANING)
    compile: bool = setting(False, COMPILE_MEANING)
    out: str = setting("${run}/generated", "directory for the images, local or s3://", path="written")

    def __post_init__(self) -> None:
        check_dtype(self.dtype, PRIOR_DTYPES)
        window_of(self.parallel)  # raises if it is none
        if not self.captions:
            raise ValueError("captions is empty: give at least one, as captions='[\"a taco, 3D render\"]'.")
        if self.keep > self.candidates:
            raise ValueError(f"keep is {self.keep}: use 1 to candidates, which is {self.candidates}.")
        if self.keep > (finished := self.pruning.count(self.candidates)):
            raise ValueError(f"keep is {self.keep}: use 1 to {finished}, which pruning leaves of {self.candidates}.")


def main(config: GenerateConfig) -> None:
    """Generate the images, save them, and print where they are."""
    model = TextToImage.load(
        fetch_run(config.run),
        config.slots,
        config.device,
        dtype=config.dtype,
        compiled=config.compile,
        window=window_of(config.parallel),
    )
    with tqdm(unit="token", desc="sampling") as bar:
        generations = model.generate(
            config.captions,
            candidates=config.candidates,
            seeds=config.seed,
            sampling=config.sampling,
            prefix=read_prefix(model, config),
            pruning=config.pruning,
            on_progress=lambda progress: advance(bar, progress),
        )
    rows = [SheetRow.ranked(g.caption, g.images[g.order], g.scores[g.order]) for g in generations]
    with new_directory(config.out) as local:
        for number, generation in enumerate(generations):
            save_best(generation, number, local, config)
        contact_sheet(rows).save(local / "contact_sheet.png")
    if saved := sum(generation.tokens_saved for generation in generations):
        print(f"pruning saved {saved} image tokens.")
    print(f"{config.out}/contact_sheet.png")


def read_prefix(model: TextToImage, config: GenerateConfig) -> list[int]:
    """Return the image tokens of the top rows of ``config.image``, or none if no image is given.

    Raises:
        UserError: the file cannot be read, is no image, or all or none of its rows are to be kept.
    """
    if config.image is None:
        return []
    rows = rows_to_keep(config.image_rows, model.grid[0])
    try:
        return model.encode_rows(decode_image(read_path(*filesystem_for(config.image)), model.image_size), rows)
    except OSError as error:
        raise UserError(f"image is {config.image!r}, which cannot be read: {error.strerror or error}.") from error
    except ImageError as error:
        raise UserError(f"image is {config.image!r}: {error}.") from error


def advance(bar: tqdm[NoReturn], progress: TokenProgress) -> None:
    """Show ``progress`` on the bar; pruning may have lowered the total."""
    bar.total = progress.tokens_total
    bar.update(progress.tokens_done - bar.n)


def save_best(generation: GenerationResult, number: int, local: Path, config: GenerateConfig) -> None:
    """Save the best images of one caption in the folder ``local``, and print where in ``config.out`` they will be."""
    if generation.truncated:
        print(f"{generation.caption!r} is too long for the prior: its end was not read.")
    words = re.sub(r"[^a-z0-9]+", "-", generation.caption.lower()).strip("-")[:48]
    for place, candidate in enumerate(generation.order[: config.keep], start=1):
        name = f"{number:03d}-{words}_{place}.png"
        Image.fromarray(generation.images[candidate]).save(local / name)
        print(f"{config.out}/{name}  CLIP {generation.scores[candidate]:.3f}")


if __name__ == "__main__":
    run_job(main, GenerateConfig, "generate")
