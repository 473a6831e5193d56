"""The learner as a whole: what flows where."""

from __future__ import annotations

import pytest
import torch
from small import AUDIO_SIZE, BUILDERS, batch, learner

from diffmavil.losses import info_nce, reconstruction_loss
from diffmavil.models import diffmavil_efficient
from diffmavil.models.mavil import MAViL
from diffmavil.nn import DiffusedPatches
from diffmavil.ops.patches import gather_patches, patchify
from diffmavil.types import Reconstruction

RATIOS = {"audio_mask_ratio": 0.75, "video_mask_ratio": 0.75}


@pytest.mark.parametrize("name", BUILDERS)
def test_every_parameter_learns(name: str) -> None:
    model = learner(name)
    output = model(batch(), **RATIOS, num_views=2)
    loss = output.audio.prediction.square().mean() + output.video.prediction.square().mean()
    loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["diffmavil", "diffmavil_efficient"])
def test_visible_patches_are_never_noised_and_masked_ones_are(name: str) -> None:
    clips = batch()
    output = learner(name)(clips, **RATIOS)
    assert clips.audio is not None and clips.video is not None
    for x, patch, part in (
        (clips.audio, (16, 16), output.audio),
        (clips.video, (2, 16, 16), output.video),
    ):
        clean = patchify(x, patch)
        assert not set(part.ids_keep[0].tolist()) & set(part.ids_decode[0].tolist())
        assert torch.equal(part.target, gather_patches(clean, part.ids_decode))
        assert part.corrupted is not None and part.timesteps is not None
        assert (part.corrupted != part.target).float().mean() > 0.99


STREAMS = pytest.mark.parametrize(("stream", "patch"), [("audio", (16, 16)), ("video", (2, 16, 16))])


@STREAMS
@pytest.mark.parametrize("name", BUILDERS)
def test_the_encoders_embed_clean_visible_patches_only(name: str, stream: str, patch: tuple[int, ...]) -> None:
    model, clips = learner(name), batch()
    seen: list[torch.Tensor] = []
    getattr(model, f"{stream}_encoder").patch_embed.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    part = getattr(model(clips, **RATIOS), stream)
    (values,) = seen
    assert torch.equal(values, gather_patches(patchify(getattr(clips, stream), patch), part.ids_keep))


def _gradient(model: MAViL, stream: str, patch: tuple[int, ...]) -> tuple[torch.Tensor, Reconstruction]:
    """Gradient of all predictions with respect to one stream, in patches, and that stream's reconstruction."""
    clips = batch()
    x = getattr(clips, stream).requires_grad_()
    torch.manual_seed(3)
    output = model(clips, **RATIOS)
    (grad,) = torch.autograd.grad(output.audio.prediction.sum() + output.video.prediction.sum(), x)
    return patchify(grad, patch), getattr(output, stream)


@STREAMS
@pytest.mark.parametrize("name", ["diffmavil", "diffmavil_efficient"])
def test_nothing_leaks_from_masked_content_but_through_the_noised_patch(
    name: str, stream: str, patch: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the noised patches held fixed, the gradient with respect to clean masked content is exactly zero."""
    model = learner(name)
    free = DiffusedPatches.forward

    def held_fixed(self: DiffusedPatches, clean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        _, noised, timesteps = free(self, clean)
        assert noised is not None and timesteps is not None
        return self.tokens(noised.detach(), timesteps), noised.detach(), timesteps

    through, part = _gradient(model, stream, patch)
    assert gather_patches(through, part.ids_decode).abs().max() > 0, "x_t carries the content"
    monkeypatch.setattr(DiffusedPatches, "forward", held_fixed)
    fixed, part = _gradient(model, stream, patch)
    assert gather_patches(fixed, part.ids_decode).abs().max() == 0
    assert gather_patches(fixed, part.ids_keep).abs().max() > 0


@STREAMS
def test_mask_tokens_carry_nothing(stream: str, patch: tuple[int, ...]) -> None:
    grad, part = _gradient(learner("mavil"), stream, patch)
    assert gather_patches(grad, part.ids_decode).abs().max() == 0
    assert gather_patches(grad, part.ids_keep).abs().max() > 0


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", BUILDERS)
def test_trains_in_bf16_with_a_residual_stream_in_float32(name: str, padded: bool) -> None:
    model = learner(name)
    streams: list[torch.dtype] = []
    for block in (model.audio_encoder.transformer.blocks[1], model.video_decoder.trunk.blocks[1]):
        block.register_forward_pre_hook(lambda _, args: streams.append(args[0].dtype))
    clips = batch(audio_frames=[48, 16, 32], video_frames=[4, 2, 4]) if padded else batch()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(clips, **RATIOS, num_views=2)
        loss = sum(
            reconstruction_loss(part.prediction, part.target, part.valid) for part in (output.audio, output.video)
        ) + info_nce(output.audio_embeddings[0], output.video_embeddings[0], temperature=0.1)
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert set(streams) == {torch.float32}


def test_a_ratio_of_nothing_costs_nothing_to_reconstruct() -> None:
    output = learner()(batch(), audio_mask_ratio=0.0, video_mask_ratio=0.5)
    assert output.audio.ids_decode.shape[1] == 0
    assert reconstruction_loss(output.audio.prediction, output.audio.target).item() == 0.0


def test_sound_and_picture_meet_in_the_fusion() -> None:
    model = learner()
    clips = batch()
    assert clips.video is not None
    clips.video.requires_grad_()
    output = model(clips, **RATIOS)
    (grad,) = torch.autograd.grad(output.audio.prediction.sum(), clips.video, retain_graph=True)
    assert grad.abs().max() > 0
    (own,) = torch.autograd.grad(output.audio_embeddings[0].sum(), clips.video, allow_unused=True)
    assert own is None, "what is contrasted comes from one stream"


def test_views_are_masked_independently_and_the_first_is_decoded() -> None:
    model, clips = learner(), batch()
    output = model(clips, **RATIOS, num_views=2)
    for stream in ("audio", "video"):
        first, second = getattr(output, f"{stream}_embeddings")
        encoder = getattr(model, f"{stream}_encoder")
        patches = encoder.patchify(getattr(clips, stream), None)
        decoded = encoder(patches, getattr(output, stream).ids_keep, None).mean(1)
        torch.testing.assert_close(first, decoded)
        assert not torch.allclose(second, decoded, atol=1e-3)


def test_padding_changes_nothing() -> None:
    """A padded clip gives what it gives whatever stands in its padding."""
    model = learner()
    clips, other = (batch(audio_frames=[48, 16, 32], video_frames=[4, 2, 4]) for _ in range(2))
    assert other.audio is not None and other.video is not None
    other.audio[1, :, 16:], other.audio[2, :, 32:], other.video[1, :, 2:] = 9.0, 9.0, 9.0
    outputs = []
    for clip in (clips, other):
        torch.manual_seed(1)
        outputs.append(model(clip, **RATIOS, num_views=2))
    for one, two in zip((outputs[0].audio, outputs[0].video), (outputs[1].audio, outputs[1].video), strict=True):
        assert one.valid is not None and two.valid is not None
        assert torch.equal(one.valid, two.valid)
        torch.testing.assert_close(one.prediction[one.valid], two.prediction[two.valid], atol=1e-5, rtol=1e-5)
    for a, b in zip(outputs[0].audio_embeddings, outputs[1].audio_embeddings, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_a_fraction_of_the_masked_patches_is_decoded() -> None:
    model = diffmavil_efficient(size="nano", decode_fraction=0.5)
    output = model(batch(), **RATIOS)
    total = AUDIO_SIZE[0] * AUDIO_SIZE[1] // 256
    visible = output.audio.ids_keep.shape[1]
    assert output.audio.ids_decode.shape[1] == round((total - visible) / 2)


def test_refuses_what_it_cannot_do() -> None:
    model, clips = learner(), batch()
    with pytest.raises(ValueError, match=r"decode_fraction must be in \(0, 1\], got 0.0"):
        diffmavil_efficient(size="nano", decode_fraction=0.0)
    with pytest.raises(ValueError, match=r"mask_ratio must be in \[0, 1\), got 1.5"):
        model(clips, audio_mask_ratio=1.5, video_mask_ratio=0.5)
    clips.video = None
    with pytest.raises(ValueError, match="batch must hold audio and video, got audio only"):
        model(clips, **RATIOS)
