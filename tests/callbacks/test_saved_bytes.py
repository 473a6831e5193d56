"""What autograd keeps of a pass whose arithmetic is known."""

from __future__ import annotations

import gc
import weakref

import torch
from small import AUDIO_SIZE, VIDEO_SIZE, learner

from diffmavil.callbacks.saved_bytes import saved_bytes, saved_bytes_per_clip
from diffmavil.modules import PretrainModule


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


def test_a_module_that_halves_its_batches_is_measured_whole() -> None:
    whole, halved = (PretrainModule(model=learner(), halved=halved) for halved in (False, True))
    assert saved_bytes_per_clip(halved, AUDIO_SIZE, VIDEO_SIZE) == saved_bytes_per_clip(whole, AUDIO_SIZE, VIDEO_SIZE)
    assert halved.halved
