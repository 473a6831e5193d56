"""``torch.compile`` for networks whose numbers of tokens and of clips change in the course of a training."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch._dynamo import lookup_backend  # where torch's page on custom backends imports it from

from diffmavil.nn.transformer import Block, CrossBlock

RECOMPILE_LIMIT: Final = 256
"""Kernels of one block's kind; beyond, torch would warn and run it as if not compiled. Its own 8 are soon reached:
two widths, padded batches or not, training or evaluation, and in fine-tuning a drop path rate for each block."""


class CompiledBlocks:
    """Compiles a network's transformer blocks in place, for any number of tokens and clips, and counts compilations.

    Blocks of one kind and width share their kernels, in which the numbers of tokens and clips are variables. So a new
    mask ratio or batch size brings no compilation; batches with padding, evaluation, and a single token do, once each.
    What is drawn at random (masks, diffusion steps, noise) is drawn outside the blocks and is what it is without.
    The names of the weights stay as they are.

    Args:
        network: Where the blocks are.
        backend: torch.compile's backend.
    """

    def __init__(self, network: nn.Module, *, backend: str = "inductor") -> None:
        self.count = 0
        """Graphs compiled so far, each with its backward pass."""
        self._compile = lookup_backend(backend)
        torch.compiler.config.recompile_limit = RECOMPILE_LIMIT
        for block in network.modules():
            if isinstance(block, (Block, CrossBlock)):
                block.compile(backend=self._counted, dynamic=True)

    def _counted(self, graph: torch.fx.GraphModule, example_inputs: list[Any]) -> Any:
        self.count += 1
        return self._compile(graph, example_inputs)
