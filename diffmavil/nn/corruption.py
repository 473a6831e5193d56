"""What the decoder is shown in place of a masked patch: a mask token (MAViL) or its noised self (DiffMAViL)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffmavil.checks import MAX_PATCH_VALUES, MAX_WIDTH, check_number
from diffmavil.nn.transformer import init_weights
from diffmavil.ops import diffusion
from diffmavil.ops.positions import timestep_embedding


class Corruption(nn.Module, ABC):
    """Turns masked patches into decoder tokens. Subclass it to hide patches in another way.

    Called with clean patches ``(B, M, P)`` it returns tokens ``(B, M, D)``, what they were made from ``(B, M, P)``
    and the diffusion step of each clip ``(B,)``; the last two are ``None`` where there are none.
    """

    @abstractmethod
    def forward(
        self, clean: Float[Tensor, "B M P"]
    ) -> tuple[Float[Tensor, "B M D"], Float[Tensor, "B M P"] | None, Int[Tensor, " B"] | None]:
        """Hide ``clean`` patches."""


class MaskTokens(Corruption):
    """One learned vector for every masked patch; nothing of the patch is left.

    Args:
        embed_dim: Width D of the decoder.

    Source: MAE, arXiv:2111.06377, section 3.
    """

    def __init__(self, *, embed_dim: int) -> None:
        super().__init__()
        check_number("embed_dim", embed_dim, at_least=1, limit=MAX_WIDTH)
        self.token = nn.Parameter(torch.zeros(embed_dim))
        nn.init.normal_(self.token, std=0.02)

    def forward(
        self, clean: Float[Tensor, "B M P"]
    ) -> tuple[Float[Tensor, "B M D"], Float[Tensor, "B M P"] | None, Int[Tensor, " B"] | None]:
        """The token, once for each patch."""
        return self.token.expand(*clean.shape[:2], -1), None, None


class DiffusedPatches(Corruption):
    """Masked patches at a random step of the forward diffusion process, embedded together with that step.

    Args:
        patch_values: Values P of a patch.
        embed_dim: Width D of the decoder; even.
        timesteps: Steps T of the process; one is drawn uniformly for each clip.
        beta_start: Noise variance of the first step, before ``rho``.
        beta_end: Noise variance of the last step, before ``rho``.
        rho: Exponent on every beta; below 1 means more noise.

    Source: DiffMAE, arXiv:2304.03283, section 3.1; DDPM, arXiv:2006.11239, for the process.
    """

    alphas_cumprod: Tensor

    def __init__(
        self,
        *,
        patch_values: int,
        embed_dim: int,
        timesteps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        rho: float = 0.8,
    ) -> None:
        super().__init__()
        check_number("patch_values", patch_values, at_least=1, limit=MAX_PATCH_VALUES)
        check_number("embed_dim", embed_dim, at_least=1, limit=MAX_WIDTH)
        kept = diffusion.alphas_cumprod(timesteps=timesteps, beta_start=beta_start, beta_end=beta_end, rho=rho)
        self.register_buffer("alphas_cumprod", kept, persistent=False)
        self.embed = nn.Linear(patch_values, embed_dim)
        self.embed_timestep = nn.Sequential(nn.Linear(embed_dim, embed_dim), nn.SiLU(), nn.Linear(embed_dim, embed_dim))
        self.embed_dim = embed_dim
        self.apply(init_weights)

    def forward(
        self, clean: Float[Tensor, "B M P"]
    ) -> tuple[Float[Tensor, "B M D"], Float[Tensor, "B M P"] | None, Int[Tensor, " B"] | None]:
        """Draw a step for each clip and noise for each value, and embed the result."""
        timesteps = torch.randint(len(self.alphas_cumprod), (len(clean),), device=clean.device)
        noised = diffusion.q_sample(clean, timesteps, torch.randn_like(clean), self.alphas_cumprod)
        return self.tokens(noised, timesteps), noised, timesteps

    def tokens(self, noised: Float[Tensor, "B M P"], timesteps: Int[Tensor, " B"]) -> Float[Tensor, "B M D"]:
        """Decoder tokens of patches that already carry the noise of their step."""
        step: Tensor = self.embed_timestep(timestep_embedding(timesteps.float(), self.embed_dim))
        out: Tensor = self.embed(noised) + step[:, None]
        return out
