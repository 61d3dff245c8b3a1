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
from models.settings import setting
from t2i.config import run_job
from t2i.contact_sheet import SheetRow, contact_sheet
from t2i.data.transforms import decode_image
from t2i.engine import GenerationResult, PruningParams, TextToImage, TokenProgress, rows_to_keep
from t2i.image_files import ImageError
from t2i.sampling import SamplingParams
from t2i.storage import fetch_run, run_setting


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
    compile: bool = setting(False, COMPILE_MEANING)
    out: str = setting("${run}/generated", "directory for the images", path="written")

    def __post_init__(self) -> None:
        check_dtype(self.dtype, PRIOR_DTYPES)
        if not self.captions:
            raise ValueError("captions is empty: give at least one, as captions='[\"a taco, 3D render\"]'.")
        if self.keep > self.candidates:
            raise ValueError(f"keep is {self.keep}: use 1 to candidates, which is {self.candidates}.")
        if self.keep > (finished := self.pruning.count(self.candidates)):
            raise ValueError(f"keep is {self.keep}: use 1 to {finished}, which pruning leaves of {self.candidates}.")


def main(config: GenerateConfig) -> None:
    """Generate the images, save them, and print where they are."""
    model = TextToImage.load(
        fetch_run(config.run), config.slots, config.device, dtype=config.dtype, compiled=config.compile
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
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    for number, generation in enumerate(generations):
        save_best(generation, number, out, config.keep)
    if saved := sum(generation.tokens_saved for generation in generations):
        print(f"pruning saved {saved} image tokens.")
    rows = [SheetRow.ranked(g.caption, g.images[g.order], g.scores[g.order]) for g in generations]
    contact_sheet(rows).save(out / "contact_sheet.png")
    print(out / "contact_sheet.png")


def read_prefix(model: TextToImage, config: GenerateConfig) -> list[int]:
    """Return the image tokens of the top rows of ``config.image``, or none if no image is given.

    Raises:
        UserError: the file cannot be read, is no image, or all or none of its rows are to be kept.
    """
    if config.image is None:
        return []
    rows = rows_to_keep(config.image_rows, model.grid[0])
    try:
        return model.encode_rows(decode_image(Path(config.image).read_bytes(), model.image_size), rows)
    except OSError as error:
        raise UserError(f"image is {config.image!r}, which cannot be read: {error.strerror}.") from error
    except ImageError as error:
        raise UserError(f"image is {config.image!r}: {error}.") from error


def advance(bar: tqdm[NoReturn], progress: TokenProgress) -> None:
    """Show ``progress`` on the bar; pruning may have lowered the total."""
    bar.total = progress.tokens_total
    bar.update(progress.tokens_done - bar.n)


def save_best(generation: GenerationResult, number: int, out: Path, keep: int) -> None:
    """Save the ``keep`` best images of one caption and print where they are."""
    if generation.truncated:
        print(f"{generation.caption!r} is too long for the prior: its end was not read.")
    words = re.sub(r"[^a-z0-9]+", "-", generation.caption.lower()).strip("-")[:48]
    for place, candidate in enumerate(generation.order[:keep], start=1):
        path = out / f"{number:03d}-{words}_{place}.png"
        Image.fromarray(generation.images[candidate]).save(path)
        print(f"{path}  CLIP {generation.scores[candidate]:.3f}")


if __name__ == "__main__":
    run_job(main, GenerateConfig, "generate")
