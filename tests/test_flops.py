"""The FLOPs formula against PyTorch's counter on the meta device, and against DESIGN.md's independent figures."""

from __future__ import annotations

import pytest
import torch
from small import AUDIO_SIZE, BUILDERS, VIDEO_SIZE
from torch.utils.flop_counter import FlopCounterMode

from diffmavil.flops import (
    TRAINING_FACTOR,
    block_flops,
    classifier_flops,
    corruption_flops,
    learner_flops,
    trunk_flops,
)
from diffmavil.models import Classifier
from diffmavil.nn import Corruption
from diffmavil.types import Batch


def _meta_batch(audio_size: tuple[int, ...], video_size: tuple[int, ...]) -> Batch:
    return Batch(
        index=torch.zeros(1, dtype=torch.long, device="meta"),
        audio=torch.zeros(1, 1, *audio_size, device="meta"),
        video=torch.zeros(1, 3, *video_size, device="meta"),
    )


@pytest.mark.parametrize("num_views", [1, 2])
@pytest.mark.parametrize("ratios", [(0.8, 0.8), (0.9, 0.75)])
@pytest.mark.parametrize("name", BUILDERS)
def test_the_formula_is_what_the_counter_counts(name: str, ratios: tuple[float, float], num_views: int) -> None:
    model = BUILDERS[name](size="nano").to("meta")
    masks = {"audio_mask_ratio": ratios[0], "video_mask_ratio": ratios[1], "num_views": num_views}
    with FlopCounterMode(display=False) as counter:
        output = model(_meta_batch(AUDIO_SIZE, VIDEO_SIZE), **masks)
    parts = learner_flops(model, audio_size=AUDIO_SIZE, video_size=VIDEO_SIZE, **masks)
    assert sum(parts.values()) == pytest.approx(counter.get_total_flops(), rel=1e-3)
    with FlopCounterMode(display=False) as backward:
        (output.audio.prediction.sum() + output.video.prediction.sum()).backward()
    # no gradient of the clips themselves: a little less than twice the forward pass
    total = counter.get_total_flops() + backward.get_total_flops()
    assert total <= TRAINING_FACTOR * sum(parts.values())


@pytest.mark.parametrize("modalities", ["audio", "video", "audio_video"])
def test_a_classifiers_formula_is_what_the_counter_counts(modalities: str) -> None:
    model = Classifier(
        backbone=BUILDERS["diffmavil"](size="nano"),
        modalities=modalities,
        num_classes=7,
        token_mask_ratio=0.2,
    ).to("meta")
    with FlopCounterMode(display=False) as counter:
        model(_meta_batch(AUDIO_SIZE, VIDEO_SIZE))
    parts = classifier_flops(model, audio_size=AUDIO_SIZE, video_size=VIDEO_SIZE)
    assert sum(parts.values()) == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_vit_b_costs_what_is_known() -> None:
    """ViT-B/16 on 224 pixels with a class token: 35.1 GFLOPs of blocks, patches and head (STACK.md's count)."""
    blocks = 12 * block_flops(197, 768)
    patches, head = 2 * 196 * 768 * 768, 2 * 768 * 1000
    assert (blocks + patches + head) / 1e9 == pytest.approx(35.128, rel=1e-3)


@pytest.mark.parametrize(("frames", "gflops"), [(8, 136.0), (16, 243.1)])
def test_the_baseline_costs_what_an_independent_count_gave(frames: int, gflops: float) -> None:
    model = BUILDERS["mavil"](size="base").to("meta")
    parts = learner_flops(
        model,
        audio_size=(1024, 128),
        video_size=(frames, 224, 224),
        audio_mask_ratio=0.8,
        video_mask_ratio=0.8,
    )
    assert sum(parts.values()) / 1e9 == pytest.approx(gflops, rel=0.015)


class OwnCorruption(Corruption):
    """Nothing that flops.py knows."""

    def forward(self, clean: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return clean, None, None


def test_a_part_without_a_formula_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="formula registered with corruption_flops, got OwnCorruption"):
        corruption_flops(OwnCorruption(), 4, 4, 4)
    with pytest.raises(ValueError, match="formula registered with trunk_flops, got Linear"):
        trunk_flops(torch.nn.Linear(1, 1), 4, 4)
