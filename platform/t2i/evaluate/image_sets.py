"""Image sets on disk as the metrics take them: columns of features, and statistics that are kept as files."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from t2i.evaluate.features import FeatureFolder, column_at, npz_bytes
from t2i.evaluate.layout import SetLayout
from t2i.evaluate.receipts.merkle import merkle_root
from t2i.metrics.blocks import row_blocks
from t2i.metrics.statistics import FeatureStatistics, merge_statistics
from t2i.storage import as_data_error, file_info, filesystem_for, read_file, write_file

CHUNK = 1024
"""Images that are summarised at once: of fixed number and order, so that sums never depend on workers."""


@dataclass(frozen=True)
class ImageSet:
    """The measured images of one set, such as ``best``; arrays are read when they are asked for.

    ``layout`` and ``protocol`` say where its statistics are kept. Features are cut to a multiple of ``multiple_of``
    images, as some tools drop the last, smaller batch.
    """

    name: str
    folder: FeatureFolder
    layout: SetLayout
    protocol: str
    multiple_of: int = 1

    @property
    def ids(self) -> list[str]:
        """Ids of the images, in their order."""
        ids: list[str] = self.folder.column(f"{self.name}/ids").tolist()
        return ids

    @property
    def hashes(self) -> np.ndarray:
        """SHA-256 of the images' bytes, uint8 [n, 32]."""
        return self.folder.column(f"{self.name}/hashes")

    @property
    def merkle_root(self) -> str:
        """Merkle root of the images' bytes, which tells sets of images apart."""
        return merkle_root([row.tobytes() for row in self.hashes])

    @property
    def clip(self) -> np.ndarray:
        """Unit-norm CLIP features of the images without blur, float32 [n, F]."""
        return self.folder.column(f"{self.name}/clip")

    def features(self, radius: float) -> np.ndarray:
        """Return the extractor's features at a radius of blur, float32 [n, D]."""
        features = self.folder.column(f"{self.name}/{column_at('features', radius)}")
        return features[: len(features) // self.multiple_of * self.multiple_of]

    def logits(self, radius: float) -> np.ndarray:
        """Return the extractor's class logits at a radius of blur, float32 [n, classes]."""
        return self.folder.column(f"{self.name}/{column_at('logits', radius)}")

    def statistics(self, radius: float) -> FeatureStatistics:
        """Return the statistics of the features at a radius of blur: from their file, which is written if missing."""
        file = self.layout.statistics(self.protocol, self.name, radius)
        filesystem, path = filesystem_for(file)
        with as_data_error(file):
            if not file_info(filesystem, path).is_file:
                write_file(filesystem, path, statistics_bytes(self.made_statistics(radius)))
        return read_statistics(file)  # also what was just written: the same bits as in a run that finds the file

    def made_statistics(self, radius: float) -> FeatureStatistics:
        """Return the statistics of the features at a radius of blur, computed anew."""
        features = self.features(radius)
        return merge_statistics(FeatureStatistics.of(features[rows]) for rows in row_blocks(len(features), CHUNK))


def statistics_bytes(statistics: FeatureStatistics) -> bytes:
    """Return statistics as an .npz file's content: ``mu`` and ``sigma``, which pytorch-fid reads, and ``n``."""
    return npz_bytes({"n": statistics.count, "mu": statistics.mean, "sigma": statistics.covariance})


def read_statistics(uri: str) -> FeatureStatistics:
    """Return the statistics in a file that :func:`statistics_bytes` made.

    Raises:
        DataError: it is missing or cannot be read.
    """
    with np.load(io.BytesIO(read_file(uri)), allow_pickle=False) as arrays:
        return FeatureStatistics.of_covariance(int(arrays["n"]), arrays["mu"], arrays["sigma"])
