"""Losses and gradients on a GPU: those of the CPU, and the same compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from gpu_device import DEVICE, NEEDS_GPU, DrawnOnCPU
from ranks import environment
from small import BUILDERS, batch, learner
from torch import Tensor

from diffmavil.modules import FineTuneModule, PretrainModule
from diffmavil.modules.compilation import CompiledBlocks
from diffmavil.types import Batch

pytestmark = NEEDS_GPU

CPU = torch.device("cpu")
PADDED = {"audio_frames": [48, 16, 32, 40, 48], "video_frames": [4, 2, 4, 3, 4]}
Result = tuple[dict[str, float], dict[str, Tensor]]


@pytest.fixture(autouse=True)
def _without_tf32(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    yield
    torch.set_float32_matmul_precision(before)


def clips(padded: bool, device: torch.device) -> Batch:
    whole = batch(5, **PADDED) if padded else batch(5)
    return Batch(**{name: None if value is None else value.to(device) for name, value in vars(whole).items()})


def pretraining(
    name: str, padded: bool, device: torch.device, *, autocast: bool = False, compiled: bool = False
) -> Result:
    """Loss terms, and the gradient of each parameter."""
    module = PretrainModule(model=learner(name)).to(device)
    if compiled:
        CompiledBlocks(module)
    torch.manual_seed(1)
    with DrawnOnCPU(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        terms = module.losses(module(clips(padded, device)))
        total = module.total(terms)
    total.backward()  # type: ignore[no-untyped-call]
    return {key: float(value.detach()) for key, (_, value) in terms.items()}, gradients(module)


def fine_tuning(device: torch.device) -> Result:
    module = FineTuneModule(backbone=learner(), num_classes=2, token_mask_ratio=0.25).to(device)
    torch.manual_seed(1)
    with DrawnOnCPU():
        given = clips(True, device)
        scores = module(given)
        loss = torch.nn.functional.cross_entropy(scores, given.labels)
    loss.backward()  # type: ignore[no-untyped-call]
    return {"loss": float(loss.detach())}, gradients(module)


def gradients(module: torch.nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {name: value.double().cpu() for name, value in found.items()}


def error_of(got: Result, wanted: Result) -> tuple[float, float, float]:
    """Of a loss, of all gradients together and of the worst of them; relative, and of norms for the gradients."""
    assert got[0].keys() == wanted[0].keys() and got[1].keys() == wanted[1].keys()
    losses = max(abs(got[0][name] / value - 1) for name, value in wanted[0].items())
    whole = torch.stack([value.norm() for value in wanted[1].values()]).norm()
    errors = {name: (got[1][name] - value).norm() for name, value in wanted[1].items()}
    # a gradient can be nothing but rounding
    worst = max(float(errors[name] / value.norm().clamp(min=1e-2 * whole)) for name, value in wanted[1].items())
    return losses, float(torch.stack(list(errors.values())).norm() / whole), worst


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", BUILDERS)
def test_float32_is_that_of_the_cpu(name: str, padded: bool) -> None:
    wanted = pretraining(name, padded, CPU)
    assert max(error_of(pretraining(name, padded, DEVICE), wanted)) <= 1e-4


def test_fine_tuning_in_float32_is_that_of_the_cpu() -> None:
    assert max(error_of(fine_tuning(DEVICE), fine_tuning(CPU))) <= 1e-4


@pytest.mark.parametrize("name", BUILDERS)
def test_half_precision_stays_near(name: str) -> None:
    wanted = pretraining(name, False, CPU)
    losses, whole, worst = error_of(pretraining(name, False, DEVICE, autocast=True), wanted)
    assert losses <= 1e-2 and whole <= 3e-2 and worst <= 1e-1


def compiled_is_as_it_is() -> None:
    for autocast, bound in ((False, 1e-4), (True, 5e-2)):
        plain, compiled = (
            pretraining("diffmavil", False, DEVICE, autocast=autocast, compiled=compiled) for compiled in (False, True)
        )
        assert max(error_of(compiled, plain)) <= bound, f"autocast {autocast}: {error_of(compiled, plain)}"


def test_compiled_is_as_it_is() -> None:
    """In a process of its own: the checks of shapes that the tests put into every function are not to be compiled."""
    variables = environment(PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    subprocess.run([sys.executable, str(Path(__file__))], env=variables, check=True, timeout=240)


if __name__ == "__main__":
    torch.set_float32_matmul_precision("highest")
    compiled_is_as_it_is()
