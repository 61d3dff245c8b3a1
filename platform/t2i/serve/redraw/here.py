"""Draws a picture again in this process, from a run directory, by the settings that its recipe names."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from models.checkpoint import load_model
from models.devices import default_device, device_of
from models.dvae import DVAE, DVAEConfig
from models.images import to_float, to_uint8
from models.prior import Prior, PriorConfig
from models.reranker import CLIPConfig, CLIPReranker, encode_filled, rank
from models.run_layout import RunLayout
from models.tokenizer import CaptionTokenizer
from t2i.engine import Engine, encode_request
from t2i.serve.config import PriorReplicaConfig, ReplicaConfig, ServeConfig
from t2i.serve.generation.receipt import PictureRecipe, RecipeError, Setup, StageSetup
from t2i.serve.redraw.drawing import Drawn
from t2i.serve.replicas.setup import setup_of
from t2i.serve.runs import check_run
from t2i.storage import exact_run, fetch_run

MOST = 4096
"""Rows that a stage may compute at once: recipes come from strangers, and memory grows with it."""


class DrawnHere:
    """Loads the models of a run as a service with the recipe's settings does.

    Raises:
        UserError: the run lacks a model or cannot be read, or a setting of the recipe is impossible.
        CheckpointError: a model is damaged.
    """

    def __init__(self, run: str, recipe: Setup) -> None:
        run = exact_run(run)
        check_run(run)
        self._config = _config(fetch_run(run), recipe)
        self.setup = setup_of(self._config)

    def draw(self, picture: PictureRecipe) -> Drawn:
        """Draw the candidate of a picture again, and none of the others."""
        image_tokens, grid = self._sample(picture)
        image = self._decode(image_tokens.reshape(grid))
        return Drawn(image_tokens, image, self._score(picture.recipe.caption, image))

    def _sample(self, picture: PictureRecipe) -> tuple[np.ndarray, tuple[int, int]]:
        """Return the image tokens int32 [N] of the candidate, and the rows and columns of their grid."""
        recipe, prior, layout = picture.recipe, self._config.prior, RunLayout(self._config.run)
        settings = prior.settings
        torch.set_num_threads(settings.threads)
        model = load_model(Prior, PriorConfig, layout.prior, prior.device, settings.dtype)
        engine = Engine(model, settings.slots, prior.captions, window=prior.window)
        if prior.compile:
            engine.compile()
        request, _ = encode_request(
            CaptionTokenizer.load(layout.tokenizer),
            engine.layout.text_length,
            "redraw",
            recipe.caption,
            candidates=picture.candidate + 1,
            seed=recipe.seed,
            sampling=recipe.sampling,
            prefix=recipe.prefix.image_tokens if recipe.prefix else (),
        )
        engine.add(request)
        engine.drop(request.id, range(picture.candidate))
        while engine.has_work:
            for finished in engine.step().finished:
                return finished.image_tokens, engine.layout.grid
        raise AssertionError("unreachable: a request that nobody cancels is finished")

    @torch.inference_mode()
    def _decode(self, grid: np.ndarray) -> np.ndarray:
        """Return the image of a grid [h, w] of tokens, decoded as a replica does: in a batch that is filled up."""
        decoder = self._config.decoder
        torch.set_num_threads(decoder.threads_used)
        dvae = load_model(DVAE, DVAEConfig, RunLayout(self._config.run).dvae, decoder.device, decoder.dtype)
        batch = np.zeros((self._config.decode_batch_used, *grid.shape), np.int64)
        batch[0] = grid
        tokens = torch.from_numpy(batch).flatten(1).to(device_of(dvae))
        image: np.ndarray = to_uint8(dvae.decode(tokens, grid.shape))[0]
        return image

    @torch.inference_mode()
    def _score(self, caption: str, image: np.ndarray) -> float:
        reranker = self._config.reranker
        torch.set_num_threads(reranker.threads_used)
        clip = load_model(CLIPReranker, CLIPConfig, RunLayout(self._config.run).clip, reranker.device, reranker.dtype)
        features = encode_filled(clip, clip.prepare(to_float(image[None])), self._config.rank_batch)
        return float(rank(features, clip.encode_captions([caption])[0]).scores[0])


def _config(run: str, recipe: Setup) -> ServeConfig:
    """Return the settings of a service that would compute as the recipe says, as far as this machine can.

    Raises:
        UserError: a setting of the recipe is impossible.
    """
    for name in ("prior", "decoder", "reranker"):
        stage: StageSetup = getattr(recipe, name)
        if not (1 <= stage.batch <= MOST and 1 <= stage.threads <= MOST and 1 <= recipe.captions <= MOST):
            raise RecipeError(f"the recipe is damaged ({name}: batch, threads or captions is not 1 to {MOST}).")
    prior = PriorReplicaConfig(
        **_settings(recipe.prior), slots=recipe.prior.batch, captions=recipe.captions, compile=recipe.compiled
    )
    return ServeConfig(
        run=run,
        decode_batch=recipe.decoder.batch,
        rank_batch=recipe.reranker.batch,
        prior=prior,
        decoder=ReplicaConfig(**_settings(recipe.decoder)),
        reranker=ReplicaConfig(**_settings(recipe.reranker)),
    )


def _settings(stage: StageSetup) -> dict[str, Any]:
    on_gpu = stage.device.startswith("cuda") and default_device() == "cuda"
    return {"dtype": stage.dtype, "threads": stage.threads, "gpus": float(on_gpu)}
