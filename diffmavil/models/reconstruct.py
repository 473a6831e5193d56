"""Put a reconstruction's patches back in place, to be looked at."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffmavil.losses.reconstruction import patch_statistics
from diffmavil.nn.encoder import Patches
from diffmavil.ops.patches import unpatchify
from diffmavil.types import Reconstruction


@dataclass
class Views:
    """One stream of some clips, in the model's input units, four times.

    Args:
        original: As it is.
        visible: What the encoder saw; the rest is 0, the mean.
        corrupted: The same, with what the decoder was shown in place of the patches that it decoded.
        predicted: The same, with what it said of them. The network predicts patches with their mean and scale taken
            out; those of the true patch are put back, so the picture shows structure that was found, not brightness.
    """

    original: Float[Tensor, "B C T ..."]
    visible: Float[Tensor, "B C T ..."]
    corrupted: Float[Tensor, "B C T ..."]
    predicted: Float[Tensor, "B C T ..."]


def reconstruction_views(patches: Patches, patch_size: tuple[int, ...], reconstruction: Reconstruction) -> Views:
    """Assemble the four views of a reconstruction of ``patches``."""
    values = patches.values
    keep, decode = _rows(reconstruction.ids_keep, values), _rows(reconstruction.ids_decode, values)
    visible = torch.zeros_like(values).scatter(1, keep, values.gather(1, keep))
    corrupted = visible
    if reconstruction.corrupted is not None:
        corrupted = visible.scatter(1, decode, reconstruction.corrupted.to(values.dtype))
    mean, scale = patch_statistics(reconstruction.target)
    predicted = visible.scatter(1, decode, (reconstruction.prediction * scale + mean).to(values.dtype))

    def whole(rows: Tensor) -> Tensor:
        return unpatchify(rows, patch_size, patches.grid)

    return Views(whole(values), whole(visible), whole(corrupted), whole(predicted))


def _rows(ids: Tensor, values: Tensor) -> Tensor:
    return ids[:, :, None].expand(-1, -1, values.shape[2])
