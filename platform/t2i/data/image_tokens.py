"""A step of a Ray Data pipeline that encodes images as image tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from models.checkpoint import CONFIG, load_config_file, load_model
from models.devices import default_device
from models.dvae import DVAE, DVAEConfig
from models.errors import UserError
from models.manifest import model_hash
from t2i.data.tensors import column_array, tensor_column
from t2i.storage import fetch_directory


class TokenizeImages:
    """Replaces the column ``pixels`` by ``image_tokens``, int32 [N] a row, using the dVAE in ``model_dir``.

    The directory may be local or on S3. Use this class as an actor in ``map_batches`` with ``batch_format="pyarrow"``:
    each actor loads the model once, onto its GPU if it has one.
    """

    def __init__(self, model_dir: str, dtype: str = "float32") -> None:
        self._device = default_device()
        self._dvae = load_model(DVAE, DVAEConfig, fetch_directory(model_dir), self._device, dtype)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return ``table`` with ``image_tokens`` in place of ``pixels``."""
        image_tokens = self.encode(column_array(table["pixels"]))
        return table.drop_columns("pixels").append_column("image_tokens", tensor_column(image_tokens))

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Return the image tokens int32 [B, N], in raster order, of pixels uint8 [B, H, W, 3]."""
        images = torch.tensor(pixels, device=self._device).permute(0, 3, 1, 2).float().div_(255)
        return self._dvae.encode(images).to(torch.int32).cpu().numpy()


def describe_dvae(model_dir: str, image_size: int | None) -> dict[str, Any]:
    """Return what the metadata of a set of image tokens says of its dVAE: hash, codebook size, grid and image size.

    Raises:
        CheckpointError, DataError: there is no complete dVAE in ``model_dir``.
        UserError: ``image_size`` is not known, or not a whole number of tokens.
    """
    local = fetch_directory(model_dir)
    name = model_hash(local)
    config = load_config_file(local / CONFIG, DVAEConfig)
    if image_size is None or image_size % config.downsample:
        known = "empty, and the run does not record it" if image_size is None else image_size
        raise UserError(
            f"image_size is {known}: set it to a multiple of {config.downsample}, the dVAE's down-sampling."
        )
    side = image_size // config.downsample
    return {"dvae": name, "codebook_size": config.codebook_size, "grid": [side, side], "image_size": image_size}
