"""Stage 1: the discrete VAE that turns an image into a grid of image tokens and back (paper section 2.1)."""

from models.dvae.accounting import DVAEFlops, dvae_flops
from models.dvae.dvae import DVAE, DVAEConfig
from models.dvae.loss import ELB, evidence_lower_bound

__all__ = ["DVAE", "ELB", "DVAEConfig", "DVAEFlops", "dvae_flops", "evidence_lower_bound"]
