"""FSDP2: a network's parameters, gradients and optimiser states spread over the processes."""

from __future__ import annotations

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from diffmavil.nn.encoder import Encoder
from diffmavil.nn.transformer import Block, CrossBlock


def is_sharded(model: nn.Module) -> bool:
    """Whether parameters are spread over the processes."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Spread ``model`` over the processes of ``mesh``, in place; once is enough.

    Each block is gathered when it is called and given up after it. So is what an encoder has beside its blocks, because
    encoders are also called alone; all else is gathered while ``model`` runs.

    Args:
        model: The network that is called, not the LightningModule around it.
        mesh: Processes, along one axis.

    Source: PyTorch FSDP, arXiv:2304.11277.
    """
    if isinstance(model, FSDPModule):
        return
    for part in reversed(list(model.modules())):  # inner parts first
        if part is model or isinstance(part, Block | CrossBlock | Encoder):
            fully_shard(part, mesh=mesh)
