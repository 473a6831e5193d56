"""The device of the tests that need a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

DEVICE = torch.device("cuda")

NEEDS_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("default"),  # what a driver or a kernel remarks on is no failure
]


class DrawnOnCPU(TorchFunctionMode):
    """Draws random numbers on the CPU in float32, whatever device and type they are for.

    A GPU draws others from the same seed; so masks, steps and noise are the same, and the rest can be compared.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn_like:
            return torch.randn(args[0].shape).to(args[0])
        if func in (torch.rand, torch.randint):
            device = kwargs.pop("device", None)
            drawn: Tensor = func(*args, **kwargs)
            return drawn.to(device)
        return func(*args, **kwargs)
