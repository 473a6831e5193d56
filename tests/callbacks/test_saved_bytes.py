"""What autograd keeps of a pass whose arithmetic is known."""

from __future__ import annotations

import gc
import weakref

import torch

from diffmavil.callbacks.saved_bytes import saved_bytes


def test_inputs_and_outputs_are_kept_but_no_weights_and_nothing_afterwards() -> None:
    model = torch.nn.Linear(3, 5)
    seen = []

    def forward() -> torch.Tensor:
        output = model(torch.ones(2, 3)).exp()
        seen.append(weakref.ref(output))
        return output.sum()

    # the linear layer keeps its input, 2 x 3 numbers of 4 bytes, and exp its output, 2 x 5
    assert saved_bytes(forward, model) == 4 * (2 * 3 + 2 * 5)
    gc.collect()
    assert seen[0]() is None, "a node that holds its own output is never freed"
