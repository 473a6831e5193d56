"""Small modules that models are assembled from."""

from diffmavil.nn.corruption import Corruption, DiffusedPatches, MaskTokens
from diffmavil.nn.decoder import CrossAttentionTrunk, Decoder, DecoderTrunk, SelfAttentionTrunk
from diffmavil.nn.encoder import Encoder
from diffmavil.nn.fusion import Fusion

__all__ = [
    "Corruption",
    "CrossAttentionTrunk",
    "Decoder",
    "DecoderTrunk",
    "DiffusedPatches",
    "Encoder",
    "Fusion",
    "MaskTokens",
    "SelfAttentionTrunk",
]
