"""A replica of the decoder: image tokens to images, and images to image tokens for prompts to continue."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from models.checkpoint import CONFIG, load_config_file, load_model
from models.devices import device_of
from models.dvae import DVAE, DVAEConfig
from models.images import to_float, to_uint8
from models.manifest import verify, weights_hash
from models.prior import PriorConfig
from models.run_layout import RunLayout
from t2i.data.transforms import centre_square
from t2i.sampling import RequestError
from t2i.serve.config import ServeConfig
from t2i.serve.messages import DecodedImages, EncodedImages
from t2i.serve.monitoring.origin import for_request
from t2i.serve.monitoring.setup import set_up_monitoring
from t2i.serve.replicas.batches import Batches
from t2i.serve.replicas.uploads import Uploads
from t2i.serve.runs import fetched


class DecoderReplica:
    """Holds the dVAE; images of concurrent requests are decoded in one batch."""

    def __init__(self, config: ServeConfig) -> None:
        set_up_monitoring(config, "decoder")
        config = fetched(config)
        torch.set_num_threads(config.decoder.threads_used)
        directory = RunLayout(config.run).dvae
        self._dvae = load_model(DVAE, DVAEConfig, directory, config.decoder.device, config.decoder.dtype)
        self._model = weights_hash(verify(directory))
        prior: PriorConfig = load_config_file(Path(RunLayout(config.run).prior) / CONFIG, PriorConfig)
        self._image_size = prior.grid_height * self._dvae.config.downsample
        self._uploads = Uploads()
        self._batch = config.decode_batch_used
        self._decode_one = Batches(self._decode_batch, self._batch, "decoder")

    @for_request("decoder")
    async def decode(self, grids: Sequence[np.ndarray]) -> DecodedImages:
        """Decode image tokens int [h, w], of one shape for all images.

        Raises:
            RequestError: a token is not in the codebook.
        """
        codebook = self._dvae.config.codebook_size
        if any(grid.min() < 0 or grid.max() >= codebook for grid in grids):
            raise RequestError("grids", f"grids has tokens outside of the codebook: use 0 to {codebook - 1}.")
        images = await asyncio.gather(*(self._decode_one(grid) for grid in grids))
        return DecodedImages(np.stack(images), self._model)

    @for_request("decoder")
    async def encode(self, files: Mapping[str, bytes]) -> EncodedImages:
        """Encode the centre square of each image file, of any size, scaled to fit the prior's grid.

        Raises:
            RequestError: a file cannot be used; the message names the field, which is its key.
        """
        squares = await self._uploads.shrink(files, self._square)
        return EncodedImages(await self._decode_one.run(self._encode_all, squares), self._model)

    def _square(self, image: np.ndarray) -> np.ndarray:
        return centre_square(image, self._image_size)

    @torch.inference_mode()
    def _encode_all(self, squares: list[np.ndarray]) -> np.ndarray:
        pixels = np.stack(squares)
        image_tokens = self._dvae.encode(to_float(pixels).to(device_of(self._dvae)))
        side = self._image_size // self._dvae.config.downsample
        return image_tokens.view(-1, side, side).cpu().numpy()

    def _decode_batch(self, grids: list[np.ndarray]) -> list[np.ndarray]:
        """Decode up to a batch of image tokens [h, w], whose shapes may differ."""
        # With another batch size the library may choose another algorithm, whose rounding differs in the last bits.
        # So that the pixels of a request are the same whoever asks at the same time, whole images are decoded in
        # batches of always the same size, filled up with token 0, and all others (previews are) one by one:
        #
        #     [a b c 0]  32 x 32        [d]  8 x 32        [e]  16 x 16
        side = self._image_size // self._dvae.config.downsample
        whole = [row for row, grid in enumerate(grids) if grid.shape == (side, side)]
        images = dict(zip(whole, self._decode_filled([grids[row] for row in whole]), strict=True))
        return [images[row] if row in images else self._decode(grid[None])[0] for row, grid in enumerate(grids)]

    def _decode_filled(self, grids: list[np.ndarray]) -> np.ndarray:
        """Return the images of up to a batch of image tokens of one shape."""
        if not grids:
            return np.empty(0)
        tokens = np.zeros((self._batch, *grids[0].shape), np.int64)
        tokens[: len(grids)] = grids
        return self._decode(tokens)[: len(grids)]

    @torch.inference_mode()
    def _decode(self, tokens: np.ndarray) -> np.ndarray:
        """Return images uint8 [n, H, W, 3] of image tokens [n, h, w]."""
        batch = torch.from_numpy(tokens.astype(np.int64)).flatten(1).to(device_of(self._dvae))
        return to_uint8(self._dvae.decode(batch, tokens.shape[1:]))
