"""Draws a picture again at a service, by its three stages."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from models.errors import UserError
from t2i.client import Client
from t2i.client.models import list_models
from t2i.image_files import decode_rgb
from t2i.protos.v1 import decoder_pb2, generation_pb2, models_pb2, prior_pb2, reranker_pb2
from t2i.protos.v1.decoder_pb2_grpc import DecoderStub
from t2i.protos.v1.prior_pb2_grpc import PriorStub
from t2i.protos.v1.reranker_pb2_grpc import RerankerStub
from t2i.serve.generation.receipt import PictureRecipe, Recipe, RecipeError, Setup, from_message
from t2i.serve.redraw.drawing import Drawn

TIMEOUT_S = 600.0


class DrawnAtServer:
    """Asks the model of a service that a recipe names, or another with the same prior, or else its default.

    Raises:
        ServiceError: the service answers with an error, or not at all.
        UserError: none of its models is ready.
    """

    def __init__(self, client: Client, recipe: Recipe) -> None:
        self._client = client
        ready = [model for model in list_models(client).models if model.HasField("setup")]
        if not ready:
            raise UserError(f"{client.address} has no model that is ready: wait until `t2i models list` shows one.")
        self._model = min(ready, key=lambda model: _distance(model, recipe))
        self.setup = from_message(Setup, self._model.setup)

    def draw(self, picture: PictureRecipe) -> Drawn:
        """Draw the candidate of a picture again; those with smaller numbers are sampled with it."""
        with self._client.translated_errors():
            grid = self._sample(picture)
            data = self._decode(grid)
            score = self._score(picture.recipe.caption, data)
        return Drawn(np.array(grid.image_tokens, np.int32), decode_rgb(data), score)

    def _sample(self, picture: PictureRecipe) -> prior_pb2.TokenGrid:
        request, metadata = self._sample_request(picture), self._client.metadata
        call = PriorStub(self._client.channel).Sample(request, timeout=TIMEOUT_S, metadata=metadata)
        try:
            for event in call:
                if event.HasField("candidate") and event.candidate.index == picture.candidate:
                    grid: prior_pb2.TokenGrid = event.candidate.grid
                    return grid
        finally:
            call.cancel()
        raise UserError(f"{self._client.address} ended the stream too early: ask again.")

    def _sample_request(self, picture: PictureRecipe) -> prior_pb2.SampleRequest:
        recipe = picture.recipe
        try:
            return prior_pb2.SampleRequest(
                caption=recipe.caption,
                candidates=picture.candidate + 1,
                seed=recipe.seed,
                prefix=recipe.prefix.image_tokens if recipe.prefix else (),
                model=self._model.name,
                **asdict(recipe.sampling),
            )
        except ValueError as error:
            raise RecipeError(f"the recipe is damaged ({error}).") from error

    def _decode(self, grid: prior_pb2.TokenGrid) -> bytes:
        request = decoder_pb2.DecodeRequest(
            grids=[grid], format=generation_pb2.IMAGE_FORMAT_PNG, model=self._model.name
        )
        stub = DecoderStub(self._client.channel)
        answer: decoder_pb2.DecodeResponse = stub.Decode(request, timeout=TIMEOUT_S, metadata=self._client.metadata)
        return answer.images[0]

    def _score(self, caption: str, data: bytes) -> float:
        request = reranker_pb2.RankRequest(caption=caption, images=[data], model=self._model.name)
        stub = RerankerStub(self._client.channel)
        answer: reranker_pb2.RankResponse = stub.Rank(request, timeout=TIMEOUT_S, metadata=self._client.metadata)
        return answer.scores[0]


def _distance(model: models_pb2.Model, recipe: Recipe) -> tuple[bool, bool, bool]:
    same_prior = model.setup.prior.weights == recipe.setup.prior.weights
    return not same_prior, model.name != recipe.model, not model.is_default
