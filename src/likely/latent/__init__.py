"""Latent-variable models: a prior, a decoder and an encoder, and bounds of ln p(x)."""

from likely.latent.beta_vae import BetaVAE
from likely.latent.bounds import Estimate, enumeration, importance_sampling, prior_sampling
from likely.latent.discrete_vae import DiscreteVAE
from likely.latent.hierarchical_vae import HierarchicalVAE
from likely.latent.iaf_vae import IAFVAE
from likely.latent.iwae import IWAE
from likely.latent.latent import LatentVariable
from likely.latent.mixture import Mixture, MixtureOf
from likely.latent.objectives import OBJECTIVES, TrainedOn
from likely.latent.pixel_vae import PixelVAE
from likely.latent.vae import VAE
from likely.latent.vq_vae import VQVAE, CodebookUse, codebook_use
from likely.latent.wake_sleep import WakeSleep

__all__ = [
    "IAFVAE",
    "IWAE",
    "OBJECTIVES",
    "VAE",
    "VQVAE",
    "BetaVAE",
    "CodebookUse",
    "DiscreteVAE",
    "Estimate",
    "HierarchicalVAE",
    "LatentVariable",
    "Mixture",
    "MixtureOf",
    "PixelVAE",
    "TrainedOn",
    "WakeSleep",
    "codebook_use",
    "enumeration",
    "importance_sampling",
    "prior_sampling",
]
