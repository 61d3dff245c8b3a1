"""Compute CLIP embeddings of images, as a step of a Ray Data pipeline."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from models.checkpoint import load_model
from models.devices import default_device
from models.images import to_float
from models.reranker import CLIPConfig, CLIPReranker
from t2i.data.tensors import column_array, tensor_column
from t2i.storage import fetch_directory


class EmbedImages:
    """Replace ``view`` by ``embedding``, unit-norm float16 [F], with the CLIP of a model directory (local or s3://).

    To be used as an actor in ``map_batches`` with ``batch_format="pyarrow"``: it loads the model once, onto its GPU if
    it has one. The same image in another batch may differ by rounding, in the fourth decimal at most.
    """

    def __init__(self, model_dir: str) -> None:
        self.device = default_device()
        self.clip = load_model(CLIPReranker, CLIPConfig, fetch_directory(model_dir), self.device)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return ``table`` with ``embedding`` in place of ``view``."""
        embeddings = tensor_column(self.embed(column_array(table["view"])))
        return table.drop_columns("view").append_column("embedding", embeddings)

    def embed(self, views: np.ndarray) -> np.ndarray:
        """Return the embeddings float16 [B, F] of images uint8 [B, H, W, 3]."""
        return self.clip.encode_images(to_float(views).to(self.device)).cpu().numpy().astype(np.float16)
