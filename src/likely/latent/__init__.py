"""Latent-variable models: a prior, a decoder and an encoder, with bounds of what their integral is."""

from likely.discovery import models_in
from likely.latent.bounds import Estimate, enumeration, importance_sampling, prior_sampling
from likely.latent.latent import LatentVariable
from likely.latent.mixture import MixtureOf
from likely.latent.objectives import OBJECTIVES, TrainedOn
from likely.latent.vq_vae import CodebookUse, codebook_use

globals().update(models_in(__name__))

__all__ = [
    "OBJECTIVES",
    "CodebookUse",
    "Estimate",
    "LatentVariable",
    "MixtureOf",
    "TrainedOn",
    "codebook_use",
    "enumeration",
    "importance_sampling",
    "prior_sampling",
]
