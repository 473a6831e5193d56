"""Parameter groups: every parameter once, with the step size its layer should have."""

from __future__ import annotations

import pytest
from small import learner

from diffmavil.models import Classifier
from diffmavil.optim import parameter_groups


def test_layer_decay_by_hand() -> None:
    model = Classifier(backbone=learner(), modalities="audio_video", num_classes=5)
    groups = parameter_groups(model, lr=1.0, weight_decay=0.05, layer_decay=0.5, depth=3, head_lr_scale=10.0)
    place = {id(p): group for group in groups for p in group["params"]}
    assert len(place) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    expected = {
        "audio_encoder.patch_embed.weight": 0.5**4,
        "audio_encoder.transformer.blocks.0.attn.qkv.weight": 0.5**3,
        "video_encoder.transformer.blocks.2.mlp.fc1.bias": 0.5,
        "audio_encoder.transformer.norm.weight": 1.0,
        "fusion.transformer.blocks.0.attn.qkv.weight": 1.0,
        "norm.weight": 1.0,
        "head.weight": 10.0,
    }
    named = dict(model.named_parameters())
    for name, lr in expected.items():
        assert place[id(named[name])]["peak_lr"] == pytest.approx(lr), name
        assert place[id(named[name])]["weight_decay"] == (0.05 if named[name].ndim > 1 else 0.0), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, "lr must be above 0, got 0.0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0, got -1.0"),
        ({"layer_decay": 1.5}, r"layer_decay must be in \(0, 1\], got 1.5"),
        ({"head_lr_scale": 0.0}, "head_lr_scale must be above 0, got 0.0"),
    ],
)
def test_refuses_values_outside_their_range(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parameter_groups(learner(), **{"lr": 1.0, "weight_decay": 0.0, **change})
