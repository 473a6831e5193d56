"""Weights from elsewhere: a ViT of timm, an MAE file, our own checkpoints, and files that do not fit."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from small import learner

from diffmavil.models.checkpoints import (
    CheckpointError,
    mark_checkpoint,
    read_checkpoint,
)
from diffmavil.models.origin import load_pretrained
from diffmavil.models.vit_weights import load_vit
from diffmavil.nn import Encoder
from diffmavil.nn.encoder import Patches
from diffmavil.ops.patches import patchify


def _vit(**kwargs: object) -> torch.nn.Module:
    defaults = {
        "img_size": 48,
        "patch_size": 16,
        "embed_dim": 48,
        "depth": 2,
        "num_heads": 3,
        "num_classes": 7,
    }
    return timm.models.VisionTransformer(**{**defaults, **kwargs}).eval()


def _encoder(channels: int, patch: tuple[int, ...], depth: int = 2) -> Encoder:
    return Encoder(in_channels=channels, patch_size=patch, embed_dim=48, depth=depth, num_heads=3).eval()


def _tokens(vit: torch.nn.Module, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """A timm ViT's tokens without class token, with our positions."""
    tokens = vit.patch_embed(x) + positions
    return vit.norm(vit.blocks(tokens))


def test_a_still_video_is_encoded_as_the_vit_encodes_its_picture(tmp_path: Path) -> None:
    vit = _vit()
    torch.save({"model": vit.state_dict()}, tmp_path / "mae.pth")
    encoder = _encoder(3, (2, 16, 16))
    fit = load_vit(encoder, str(tmp_path / "mae.pth"))
    assert fit.missing == []
    assert sorted(fit.unused) == ["cls_token", "head.bias", "head.weight", "pos_embed"]
    picture = torch.randn(2, 3, 48, 48)
    video = picture[:, :, None].expand(-1, -1, 2, -1, -1)
    patches = encoder.patchify(video, None)
    ours = encoder(patches, patches.all_ids, None)
    positions = encoder.positions(patches.grid, patches.all_ids)
    torch.testing.assert_close(ours, _tokens(vit, picture, positions), atol=1e-4, rtol=1e-4)


def test_a_spectrogram_is_encoded_as_the_vit_encodes_a_grey_picture(tmp_path: Path) -> None:
    vit = _vit()
    torch.save(vit.state_dict(), tmp_path / "vit.pth")
    encoder = _encoder(1, (16, 16))
    load_vit(encoder, str(tmp_path / "vit.pth"))
    spectrogram = torch.randn(2, 1, 48, 48)
    patches = Patches(patchify(spectrogram, (16, 16)), (3, 3), None)
    ours = encoder(patches, patches.all_ids, None)
    positions = encoder.positions((3, 3), patches.all_ids)
    grey = spectrogram.expand(-1, 3, -1, -1) / 3  # averaged weights see a third of each of three equal colours
    torch.testing.assert_close(ours, _tokens(vit, grey, positions), atol=1e-4, rtol=1e-4)


def test_a_deeper_encoder_lists_what_is_missing(tmp_path: Path) -> None:
    torch.save(_vit().state_dict(), tmp_path / "vit.pth")
    fit = load_vit(_encoder(1, (16, 16), depth=3), str(tmp_path / "vit.pth"))
    assert fit.missing and all(name.startswith("transformer.blocks.2.") for name in fit.missing)


@pytest.mark.parametrize(
    ("vit", "message"),
    [
        ({"embed_dim": 96}, r"patch_embed.proj.bias is \(96,\), not \(48,\)|is \(96, 256\), not \(48, 256\)"),
        ({"patch_size": 8}, r"its patches are \(8, 8\), not \(16, 16\)"),
    ],
)
def test_a_vit_of_another_shape_is_refused(tmp_path: Path, vit: dict[str, int], message: str) -> None:
    torch.save(_vit(**vit).state_dict(), tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match=message):
        load_vit(_encoder(1, (16, 16)), str(tmp_path / "vit.pth"))


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    (tmp_path / "empty.ckpt").touch()
    torch.save([1, 2], tmp_path / "list.ckpt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.ckpt")
    for name in ("text.ckpt", "empty.ckpt"):
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(CheckpointError, match="must be a file"):
        read_checkpoint(tmp_path / "absent.ckpt")
    with pytest.raises(CheckpointError, match="holds no dictionary"):
        read_checkpoint(tmp_path / "list.ckpt")
    with pytest.raises(CheckpointError, match="is no checkpoint of diffmavil"):
        load_pretrained(tmp_path / "other.ckpt", learner())
    with pytest.raises(CheckpointError, match="holds no ViT"):
        load_vit(_encoder(1, (16, 16)), str(tmp_path / "other.ckpt"))


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_with_code_in_it_is_refused_and_the_code_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": _Trap(tmp_path / "sprung")}, tmp_path / "trap.ckpt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(tmp_path / "trap.ckpt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_vit(_encoder(1, (16, 16)), str(tmp_path / "trap.ckpt"))
    assert not (tmp_path / "sprung").exists()


def test_files_of_mae_with_its_arguments_and_of_timm_as_safetensors(tmp_path: Path) -> None:
    vit = _vit()
    torch.save({"model": vit.state_dict(), "args": Namespace(lr=1e-3, device="cuda")}, tmp_path / "mae.pth")
    save_file(vit.state_dict(), tmp_path / "model.safetensors")
    for name in ("mae.pth", "model.safetensors"):
        encoder = _encoder(3, (2, 16, 16))
        assert load_vit(encoder, str(tmp_path / name)).missing == []
        assert torch.equal(encoder.transformer.blocks[0].mlp.fc1.weight, vit.blocks[0].mlp.fc1.weight)
    (tmp_path / "bad.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="bad.safetensors cannot be read"):
        load_vit(_encoder(3, (2, 16, 16)), str(tmp_path / "bad.safetensors"))
    with pytest.raises(CheckpointError, match="must be a file"):
        load_vit(_encoder(3, (2, 16, 16)), str(tmp_path / "absent.safetensors"))


def test_our_own_checkpoint_comes_back_and_another_shape_is_refused(tmp_path: Path) -> None:
    source, target = learner(seed=1), learner(seed=2)
    checkpoint: dict[str, object] = {"state_dict": {f"model.{k}": v for k, v in source.state_dict().items()}}
    mark_checkpoint(checkpoint, "PretrainModule", "0")
    torch.save(checkpoint, tmp_path / "own.ckpt")
    load_pretrained(tmp_path / "own.ckpt", target)
    for one, two in zip(source.parameters(), target.parameters(), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(CheckpointError, match="own.ckpt does not fit the config: "):
        load_pretrained(tmp_path / "own.ckpt", learner("mavil"))
    mark_checkpoint(checkpoint, "FineTuneModule", "0")
    torch.save(checkpoint, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="is a checkpoint of FineTuneModule, not of PretrainModule"):
        load_pretrained(tmp_path / "other.ckpt", target)
