"""ViTs as other projects store them: in dictionaries, behind prefixes, with BEiT's biases, with a Conv3d for video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffmavil.models.checkpoints import CheckpointError
from diffmavil.models.vit_weights import load_vit
from diffmavil.nn import Encoder

WIDTH, HEADS = 48, 3


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    torch.manual_seed(0)
    return timm.models.VisionTransformer(
        img_size=32, patch_size=16, embed_dim=WIDTH, depth=2, num_heads=HEADS, num_classes=7
    ).eval()


def video_encoder(tubelet: int = 2) -> Encoder:
    return Encoder(in_channels=3, patch_size=(tubelet, 16, 16), embed_dim=WIDTH, depth=2, num_heads=HEADS).eval()


def encoded(encoder: Encoder, video: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens of a video, and the positions that were added to its patches."""
    patches = encoder.patchify(video, None)
    with torch.no_grad():
        return encoder(patches, patches.all_ids, None), encoder.positions(patches.grid, patches.all_ids)


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in state.items()}


@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda state: {"state_dict": state, "epoch": 3, "arch": "vit"}, "state_dict"),
        (lambda state: {"module": state}, "module"),
        (lambda state: {"model": prefixed(state, "module.")}, "model.module"),
        (lambda state: prefixed(state, "encoder."), "encoder"),
        (lambda state: {"state_dict": prefixed(state, "module.backbone.")}, "state_dict.module.backbone"),
        (lambda state: {"model": {"state_dict": prefixed(state, "_orig_mod.")}}, "model.state_dict._orig_mod"),
        (lambda state: {"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}, "model": state}, "model"),
    ],
)
def test_a_vit_is_found_wherever_it_lies(wrap: Any, place: str, vit: nn.Module, tmp_path: Path) -> None:
    torch.save(wrap(vit.state_dict()), tmp_path / "vit.pth")
    encoder = video_encoder()
    fit = load_vit(encoder, str(tmp_path / "vit.pth"))
    assert (fit.place, fit.missing, len(fit.loaded)) == (place, [], 2 + 2 * 12 + 2)
    assert sorted(name.rpartition("head")[1] or name.split(".")[-1] for name in fit.unused) == [
        "cls_token", "head", "head", "pos_embed"]  # fmt: skip
    image = torch.randn(2, 3, 32, 32)
    ours, positions = encoded(encoder, image[:, :, None].expand(-1, -1, 2, -1, -1))
    with torch.no_grad():
        theirs = vit.norm(vit.blocks(vit.patch_embed(image) + positions))  # type: ignore[operator]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_of_several_vits_the_average_is_taken_and_said(vit: nn.Module, tmp_path: Path) -> None:
    other = {key: torch.zeros_like(value) for key, value in vit.state_dict().items()}
    for first, second in (("student", "teacher"), ("encoder", "target_encoder")):
        content = {first: prefixed(other, "module."), second: prefixed(vit.state_dict(), "module.")}
        torch.save(content, tmp_path / "two.pth")
        encoder = video_encoder()
        assert load_vit(encoder, str(tmp_path / "two.pth")).place == f"{second}.module"
        assert torch.equal(encoder.transformer.blocks[1].attn.qkv.weight, vit.state_dict()["blocks.1.attn.qkv.weight"])


def test_beit_with_biases_of_query_and_value_alone(tmp_path: Path) -> None:
    """Against timm's own BEiT, whose attention has these two biases."""
    torch.manual_seed(0)
    beit = timm.models.Beit(
        img_size=32, patch_size=16, embed_dim=WIDTH, depth=2, num_heads=HEADS, init_values=None, global_pool="token"
    ).eval()
    for name, parameter in beit.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    torch.save({"model": beit.state_dict()}, tmp_path / "beit.pth")
    encoder = video_encoder()
    fit = load_vit(encoder, str(tmp_path / "beit.pth"))
    assert fit.missing == [] and "transformer.blocks.1.attn.qkv.bias" in fit.loaded
    assert not [name for name in fit.unused if "bias" in name and not name.startswith("head")]
    image = torch.randn(2, 3, 32, 32)
    ours, positions = encoded(encoder, image[:, :, None].expand(-1, -1, 2, -1, -1))
    with torch.no_grad():
        tokens = beit.patch_embed(image) + positions
        for block in beit.blocks:
            tokens = block(tokens)
        theirs = beit.norm(tokens)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def videomae(tubelet: int = 2, prefix: str = "encoder.") -> dict[str, Tensor]:
    """Weights by the names and shapes of VideoMAE's pretraining, with a decoder that is no ViT of ours."""
    torch.manual_seed(1)
    state = {
        "patch_embed.proj.weight": torch.randn(WIDTH, 3, tubelet, 16, 16) / 40,
        "patch_embed.proj.bias": torch.randn(WIDTH),
        "norm.weight": torch.rand(WIDTH) + 0.5,
        "norm.bias": torch.randn(WIDTH),
    }
    for k in range(2):
        shapes = {
            "norm1.weight": (WIDTH,), "norm1.bias": (WIDTH,), "norm2.weight": (WIDTH,), "norm2.bias": (WIDTH,),
            "attn.q_bias": (WIDTH,), "attn.v_bias": (WIDTH,), "attn.qkv.weight": (3 * WIDTH, WIDTH),
            "attn.proj.weight": (WIDTH, WIDTH), "attn.proj.bias": (WIDTH,), "mlp.fc1.weight": (4 * WIDTH, WIDTH),
            "mlp.fc1.bias": (4 * WIDTH,), "mlp.fc2.weight": (WIDTH, 4 * WIDTH), "mlp.fc2.bias": (WIDTH,),
        }  # fmt: skip
        state |= {f"blocks.{k}.{name}": torch.randn(shape) / shape[-1] ** 0.5 for name, shape in shapes.items()}
    decoder = {f"decoder.blocks.0.{name}": torch.randn(3) for name in ("norm1.weight", "attn.q_bias", "attn.v_bias")}
    return prefixed(state, prefix) | decoder | {"mask_token": torch.randn(1, 1, 4)}


def by_hand(state: dict[str, Tensor], video: Tensor, positions: Tensor) -> Tensor:
    """VideoMAE's encoder in plain operations: a strided Conv3d, and three biased products per block."""
    w = {key.removeprefix("encoder."): value for key, value in state.items()}
    kernel = w["patch_embed.proj.weight"]
    x = F.conv3d(video, kernel, w["patch_embed.proj.bias"], stride=kernel.shape[2:]).flatten(2).transpose(1, 2)
    x = x + positions
    for k in range(2):
        p = {key.removeprefix(f"blocks.{k}."): value for key, value in w.items() if key.startswith(f"blocks.{k}.")}
        y = F.layer_norm(x, (WIDTH,), p["norm1.weight"], p["norm1.bias"], 1e-6)
        wq, wk, wv = p["attn.qkv.weight"].split(WIDTH)
        heads = []
        for q, key, v in zip(
            (y @ wq.T + p["attn.q_bias"]).chunk(HEADS, -1),
            (y @ wk.T).chunk(HEADS, -1),
            (y @ wv.T + p["attn.v_bias"]).chunk(HEADS, -1),
            strict=True,
        ):
            heads.append(torch.softmax(q @ key.transpose(1, 2) / (WIDTH / HEADS) ** 0.5, -1) @ v)
        x = x + torch.cat(heads, -1) @ p["attn.proj.weight"].T + p["attn.proj.bias"]
        y = F.layer_norm(x, (WIDTH,), p["norm2.weight"], p["norm2.bias"], 1e-6)
        x = x + F.gelu(y @ p["mlp.fc1.weight"].T + p["mlp.fc1.bias"]) @ p["mlp.fc2.weight"].T + p["mlp.fc2.bias"]
    return F.layer_norm(x, (WIDTH,), w["norm.weight"], w["norm.bias"], 1e-6)


def test_videomae_is_the_video_encoder_of_its_tubelet(tmp_path: Path) -> None:
    state = videomae()
    torch.save({"model": state, "epoch": 1}, tmp_path / "videomae.pth")
    encoder = video_encoder()
    fit = load_vit(encoder, str(tmp_path / "videomae.pth"))
    assert (fit.place, fit.missing) == ("model.encoder", [])
    assert sorted(fit.unused) == [
        "decoder.blocks.0.attn.q_bias", "decoder.blocks.0.attn.v_bias", "decoder.blocks.0.norm1.weight", "mask_token",
    ]  # fmt: skip
    video = torch.randn(2, 3, 4, 32, 48)
    ours, positions = encoded(encoder, video)
    torch.testing.assert_close(ours, by_hand(state, video, positions), atol=1e-4, rtol=1e-4)


def test_videomae_fine_tuned_has_no_last_norm(tmp_path: Path) -> None:
    state = videomae(prefix="") | {"fc_norm.weight": torch.ones(WIDTH), "head.weight": torch.randn(5, WIDTH)}
    del state["norm.weight"], state["norm.bias"]
    torch.save({"module": state}, tmp_path / "tuned.pth")
    fit = load_vit(video_encoder(), str(tmp_path / "tuned.pth"))
    assert fit.missing == ["transformer.norm.bias", "transformer.norm.weight"]
    assert {"fc_norm.weight", "head.weight"} <= set(fit.unused)


def test_another_tubelet_and_a_spectrogram_are_refused(tmp_path: Path) -> None:
    torch.save({"model": videomae()}, tmp_path / "videomae.pth")
    with pytest.raises(CheckpointError, match=r"its patches are \(2, 16, 16\), not \(4, 16, 16\)"):
        load_vit(video_encoder(tubelet=4), str(tmp_path / "videomae.pth"))
    audio = Encoder(in_channels=1, patch_size=(16, 16), embed_dim=WIDTH, depth=2, num_heads=HEADS)
    with pytest.raises(CheckpointError, match=r"its patches are \(2, 16, 16\), not \(16, 16\)"):
        load_vit(audio, str(tmp_path / "videomae.pth"))


def test_a_weight_that_is_no_number_is_refused(vit: nn.Module, tmp_path: Path) -> None:
    state = {key: value.clone() for key, value in vit.state_dict().items()}
    state["blocks.1.mlp.fc1.weight"][0, 0] = torch.nan
    torch.save(state, tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match="vit.pth: blocks.1.mlp.fc1.weight holds a value that is not finite"):
        load_vit(video_encoder(), str(tmp_path / "vit.pth"))
