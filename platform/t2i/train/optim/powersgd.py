"""PowerSGD: gradients averaged over workers as products of two thin matrices (Vogels et al. 2019; paper section 2.4).

As the paper has it: each matrix has one random Gaussian Q that never changes (to start from the last step's Q is
unnecessary, to draw a new one hurts), P is orthogonalised by Householder reflections of P + 1e-6 I, and what the
product leaves out of a worker's gradient stays in its error buffer and is added to its next gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:  # torch.distributed has it too, but not for type checkers
    from torch._C._distributed_c10d import GradBucket

EPSILON = 1e-6
"""Added to the diagonal of P, so that a gradient of zeros can be orthogonalised too."""


@dataclass
class Compression:
    """A matrix [rows, columns]: its fixed Q [columns, rank] and this worker's error buffer [rows, columns]."""

    q: Tensor
    error: Tensor


class PowerSGD:
    """A communication hook of DistributedDataParallel that compresses the gradients of large matrices.

    Parameters of two or more dimensions are taken as matrices [rows, columns], and compressed if the two factors have
    less than half as many numbers as the matrix; all others are averaged as they are.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], rank: int, seed: int) -> None:
        self._compressions: dict[Tensor, Compression] = {}
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in parameters.items()}
        for index, parameter in enumerate(parameters.values()):
            rows, columns = _matrix_shape(parameter)
            if parameter.ndim >= 2 and rank * (rows + columns) < rows * columns / 2:
                generator = torch.Generator().manual_seed(seed + index)  # the same Q on every worker
                q = torch.randn(columns, rank, generator=generator).to(parameter.device)
                self._compressions[parameter] = Compression(q, torch.zeros(rows, columns, device=parameter.device))

    def attach(self, module: DistributedDataParallel) -> None:
        """Make ``module`` average its gradients by :meth:`average`."""
        module.register_comm_hook(self, lambda state, bucket: state.average(bucket))

    def settle_errors(self) -> dict[str, Tensor]:
        """Replace every worker's error by the mean over workers; return these by parameter name.

        Only the mean over workers of gradient + error is ever sent, which this does not change. But now one error is
        enough to resume with, on any number of workers.
        """
        _all_reduce_mean([compression.error for compression in self._compressions.values()]).wait()
        return {self._names[p]: compression.error for p, compression in self._compressions.items()}

    def average(self, bucket: GradBucket) -> Future[Tensor]:
        """Replace the bucket's gradients by their means over workers, which are approximate for matrices.

        With M = gradient + error of one worker, and mean() an all-reduce::

            P = mean(M Q)                 [rows, rank]
            P = orthogonal(P)             the same on every worker, since its input is
            Q' = mean(Mᵀ P)               [columns, rank]
            gradient = P Q'ᵀ              mean(P Pᵀ M): the mean of all M, projected onto the columns of P
            error = M - gradient          what this worker has not seen applied; next time it is in M

        So the bucket takes two messages one after the other, the first of which carries the uncompressed gradients
        too. The steps are chained to futures: DDP goes on with its backward pass meanwhile.
        """
        pairs = list(zip(bucket.parameters(), bucket.gradients(), strict=True))
        plain = [gradient for p, gradient in pairs if p not in self._compressions]
        matrices = [(self._compressions[p], gradient) for p, gradient in pairs if p in self._compressions]
        with_errors = [gradient.reshape(c.error.shape) + c.error for c, gradient in matrices]
        ps = [matrix @ c.q for matrix, (c, _) in zip(with_errors, matrices, strict=True)]

        def average_qs(_: Future[None]) -> list[Tensor]:
            for p in ps:
                p.copy_(_orthogonal(p))
            qs = [matrix.mT @ p for matrix, p in zip(with_errors, ps, strict=True)]
            _all_reduce_mean(qs).wait()
            return qs

        def write_gradients(qs: Future[list[Tensor]]) -> Tensor:
            for (c, gradient), matrix, p, q in zip(matrices, with_errors, ps, qs.value(), strict=True):
                mean = p @ q.mT
                gradient.copy_(mean.view_as(gradient))
                # An update whose gradient overflowed is skipped, and its gradient dropped: the error stays as it was.
                c.error = torch.where(mean.isfinite().all(), matrix - mean, c.error)
            return bucket.buffer()

        return _all_reduce_mean([*plain, *ps]).then(average_qs).then(write_gradients)


def _matrix_shape(parameter: Tensor) -> tuple[int, int]:
    """Return the shape [rows, columns] of a parameter [rows, ...] as a matrix."""
    return (len(parameter), parameter[0].numel()) if parameter.ndim else (1, 1)


def _orthogonal(p: Tensor) -> Tensor:
    """Return orthonormal columns [rows, rank] with the same span as the columns of P + 1e-6 I, by QR decomposition."""
    orthogonal: Tensor = torch.linalg.qr(p + EPSILON * torch.eye(*p.shape, device=p.device)).Q
    return orthogonal


def _all_reduce_mean(tensors: Sequence[Tensor]) -> Future[None]:
    """Replace every tensor by its mean over workers, in one message; the future is done when they are."""
    if not tensors:
        nothing: Future[None] = Future()
        nothing.set_result(None)
        return nothing
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors]) / dist.get_world_size()

    def unpack(_: Future[list[Tensor]]) -> None:
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    return dist.all_reduce(flat, async_op=True).get_future().then(unpack)
