"""The same features through torch-fidelity, beside ours: for a report that a sceptic may check."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from models.errors import UserError
from t2i.metrics.fid import frechet_distance
from t2i.metrics.kid import kernel_distance
from t2i.metrics.statistics import FeatureStatistics


@dataclass(frozen=True)
class Comparison:
    """One metric as we and torch-fidelity compute it from the same features."""

    metric: str
    ours: float
    theirs: float

    @property
    def relative_difference(self) -> float:
        """Return by which part of theirs ours differs."""
        return abs(self.ours - self.theirs) / max(abs(self.theirs), np.finfo(np.float64).tiny)


def compare_with_torch_fidelity(generated: np.ndarray, real: np.ndarray) -> list[Comparison]:
    """Return ``fid`` and ``kid`` of features float32 [n, F] and [m, F], each by our code and by torch-fidelity's.

    Their covariance is a float64 copy of all features, and their eigenvalues are of a matrix that is not symmetric:
    at 2048 features that takes ten times as long as ours.

    Raises:
        UserError: torch-fidelity is not installed.
    """
    try:
        from torch_fidelity import metric_fid, metric_kid
    except ModuleNotFoundError as error:
        raise UserError("torch-fidelity is not installed: install the extra `fidelity` to compare with it.") from error

    fid = frechet_distance(*(FeatureStatistics.of(features) for features in (generated, real)))
    kid = kernel_distance(generated, real)
    tensors = [torch.from_numpy(np.ascontiguousarray(features)) for features in (generated, real)]
    statistics = [metric_fid.fid_features_to_statistics(tensor) for tensor in tensors]
    their_fid = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
    their_kid = metric_kid.kid_features_to_metric(*tensors, kid_subset_size=kid.subset_size, verbose=False)
    return [
        Comparison("fid", fid, their_fid[metric_fid.KEY_METRIC_FID]),
        Comparison("kid", kid.mean, their_kid[metric_kid.KEY_METRIC_KID_MEAN]),
    ]
