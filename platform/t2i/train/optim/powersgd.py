"""PowerSGD: gradients between workers as products of two thin matrices (Vogels et al. 2019; paper section 2.4).

As the paper has it: Q is one fixed random Gaussian for each matrix (to go on with the last step's is unnecessary, to
draw a new one hurts), P is made orthogonal by Householder reflections of P + 1e-6 I, and what a worker could not send
stays in its error buffer, to be sent with its next gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

EPSILON = 1e-6


@dataclass
class Compression:
    """What one matrix [n, m] needs: its fixed Q [m, rank] and this worker's error [n, m]."""

    q: Tensor
    error: Tensor


class PowerSGD:
    """A communication hook of DistributedDataParallel.

    It compresses parameters of two or more dimensions, as matrices [n, m], where both factors of ``rank`` are less than
    half of the matrix; all others are averaged as they are.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], rank: int, seed: int) -> None:
        self._compressions: dict[Tensor, Compression] = {}
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in parameters.items()}
        for index, parameter in enumerate(parameters.values()):
            n, m = _matrix_shape(parameter)
            if parameter.ndim >= 2 and rank * (n + m) < n * m / 2:
                generator = torch.Generator().manual_seed(seed + index)
                q = torch.randn(m, rank, generator=generator).to(parameter.device)
                self._compressions[parameter] = Compression(q, torch.zeros(n, m, device=parameter.device))

    def attach(self, module: DistributedDataParallel) -> None:
        """Have ``module`` average its gradients by this."""
        module.register_comm_hook(self, lambda state, bucket: state.average(bucket))

    def settle_errors(self) -> dict[str, Tensor]:
        """Every worker's error becomes the mean over workers, which changes nothing in what is sent in all; returned
        by parameter name, it is the state to resume with, on any number of workers."""
        _mean([compression.error for compression in self._compressions.values()]).wait()
        return {self._names[p]: compression.error for p, compression in self._compressions.items()}

    def average(self, bucket: dist.GradBucket) -> Future[Tensor]:
        """Replace the bucket's gradients by the mean over workers, of matrices an approximation."""
        pairs = list(zip(bucket.parameters(), bucket.gradients(), strict=True))
        plain = [gradient for p, gradient in pairs if p not in self._compressions]
        matrices = [(self._compressions[p], gradient) for p, gradient in pairs if p in self._compressions]
        with_errors = [gradient.reshape(c.error.shape) + c.error for c, gradient in matrices]
        ps = [matrix @ c.q for matrix, (c, _) in zip(with_errors, matrices, strict=True)]

        def send_q(_: Future[None]) -> list[Tensor]:
            for p in ps:
                p.copy_(_orthogonal(p))
            qs = [matrix.mT @ p for matrix, p in zip(with_errors, ps, strict=True)]
            _mean(qs).wait()
            return qs

        def restore(qs: Future[list[Tensor]]) -> Tensor:
            for (c, gradient), matrix, p, q in zip(matrices, with_errors, ps, qs.value(), strict=True):
                mean = p @ q.mT
                gradient.copy_(mean.view_as(gradient))
                # A gradient that overflowed is not applied, so it is not owed either.
                c.error = torch.where(mean.isfinite().all(), matrix - mean, c.error)
            return bucket.buffer()

        return _mean([*plain, *ps]).then(send_q).then(restore)


def _matrix_shape(parameter: Tensor) -> tuple[int, int]:
    """[n, ...] as [n, m]."""
    return (len(parameter), parameter[0].numel()) if parameter.ndim else (1, 1)


def _orthogonal(p: Tensor) -> Tensor:
    """Orthonormal columns that span those of P + 1e-6 I, [n, rank]; LAPACK's QR reflects by Householder's method."""
    return torch.linalg.qr(p + EPSILON * torch.eye(*p.shape, device=p.device)).Q


def _mean(tensors: Sequence[Tensor]) -> Future[None]:
    """Replace every tensor by its mean over workers, all of them in one message."""
    if not tensors:
        nothing: Future[None] = Future()
        nothing.set_result(None)
        return nothing
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors]) / dist.get_world_size()

    def unpack(_: Future[list[Tensor]]) -> None:
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    return dist.all_reduce(flat, async_op=True).get_future().then(unpack)
