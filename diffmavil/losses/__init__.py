"""Losses, one a file, each with its source."""

from diffmavil.losses.contrastive import info_nce
from diffmavil.losses.reconstruction import reconstruction_loss

__all__ = ["info_nce", "reconstruction_loss"]
