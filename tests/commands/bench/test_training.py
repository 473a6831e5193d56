"""``diffmavil bench``: its arithmetic in closed form, and its figures against those of other commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from diffmavil import cli
from diffmavil.commands.bench import growth, training
from diffmavil.commands.bench.growth import attention_share, slope
from diffmavil.commands.bench.page import table
from diffmavil.commands.bench.recipe import Point, choose_points, load_recipe
from diffmavil.commands.bench.settings import Settings
from diffmavil.commands.bench.step import TrainingStep, first_clips, noise_clips, saved, seconds_per_clip
from diffmavil.commands.configs import find_config
from diffmavil.commands.plan import EpochPlan

CPU = torch.device("cpu")
SMALL = """
trainer:
  max_epochs: 3
data:
  clip_s: 0.48
  num_mel_bins: 32
  num_frames: 4
  fps: 10.0
  image_size: 32
"""


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The three packaged recipes on the smallest clips, each with three epochs."""
    root = tmp_path_factory.mktemp("recipes")
    names = []
    for name in ("pretrain_mavil.yaml", "pretrain.yaml", "pretrain_efficient.yaml"):
        config = yaml.safe_load(Path(find_config(name)).read_text())
        for section, keys in yaml.safe_load(SMALL).items():
            config[section].update(keys)
        (root / name).write_text(yaml.safe_dump(config))
        names.append(str(root / name))
    return names


def said(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    capsys.readouterr()
    assert cli.main([*args, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# --- arithmetic ---


def _plan(ratios: list[float], sizes: list[int]) -> list[EpochPlan]:
    return [
        EpochPlan(audio_mask_ratio=ratio, video_mask_ratio=ratio, batch_size=size, forward_flops={"heads": 1.0})
        for ratio, size in zip(ratios, sizes, strict=True)
    ]


def test_points_stand_for_the_whole_run() -> None:
    ratios = [0.9 - 0.1 * epoch / 19 for epoch in range(20)]
    points = choose_points(_plan(ratios, [64] * 20), 4, scale=0.125)
    assert [p.epoch for p in points] == [0, 6, 13, 19]
    assert sum(p.weight for p in points) == pytest.approx(1)
    assert sum(p.weight * p.audio_mask_ratio for p in points) == pytest.approx(sum(ratios) / 20), "exact for a line"
    assert {p.clips for p in points} == {8}
    assert [p.weight for p in choose_points(_plan([0.8, 0.6], [3, 3]), 9)] == [0.5, 0.5], "no epoch twice"
    assert choose_points(_plan([0.8, 0.6], [3, 3]), 1)[0].epoch == 1


def test_a_run_takes_the_mean_of_its_epochs() -> None:
    points = [
        Point(epoch=k, weight=weight, audio_mask_ratio=0.8, video_mask_ratio=0.8, clips=clips)
        for k, (weight, clips) in enumerate([(0.25, 8), (0.75, 4)])
    ]
    assert seconds_per_clip(points, [4.0, 1.0]) == pytest.approx(0.25 * 0.5 + 0.75 * 0.25)


def test_what_is_saved_is_compared_round_by_round() -> None:
    """A machine that is twice as slow in the second round changes nothing."""
    assert saved([1.0, 2.0, 1.0], [0.8, 1.6, 0.7]) == pytest.approx({"median": 0.2, "min": 0.2, "max": 0.3})


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_slope_of_a_power_law_is_its_exponent(power: float) -> None:
    x = [1.0, 3.0, 5.0, 11.0]
    assert slope(x, [7 * value**power for value in x]) == pytest.approx(power)


def test_a_table_has_one_width_and_a_cell_for_each_column() -> None:
    lines = table(["recipe", "s"], [["a", "1.25"], ["longer name", "3"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "| ----------- | ---: |"
    assert lines[3] == "| longer name |    3 |"


# --- the step ---


def test_a_step_trains_at_the_point_in_force(recipes: list[str]) -> None:
    recipe = load_recipe(recipes[1], size="nano", batch_size=4, points=3)
    assert [p.clips for p in recipe.points] == [8, 5, 4], "128, 80 and 64 at full size"
    raw = noise_clips(recipe.data, 8)
    assert raw.frames is not None and raw.frames.dtype == torch.uint8
    step = TrainingStep(recipe, device=CPU, precision="32-true")
    before = {name: p.detach().clone() for name, p in recipe.module.named_parameters()}
    step.set_ratios(recipe.points[0])
    loss = float(step.loss(first_clips(raw, 2)).detach())
    assert step.seconds(first_clips(raw, 2)) > 0
    assert float(step.loss(first_clips(raw, 2)).detach()) < loss, "the same masks and noise, better weights"
    assert all(not torch.equal(p, before[name]) for name, p in recipe.module.named_parameters())
    few, many = (step.saved_bytes(first_clips(raw, clips)) for clips in (2, 6))
    assert many == pytest.approx(3 * few, rel=0.05)
    step.set_ratios(replace(recipe.points[0], audio_mask_ratio=0.3, video_mask_ratio=0.3))
    assert step.saved_bytes(first_clips(raw, 6)) > many, "more is visible"


def test_half_precision_keeps_less(recipes: list[str]) -> None:
    recipe = load_recipe(recipes[0], size="nano")
    raw = noise_clips(recipe.data, 8)
    kept = []
    for precision in ("32-true", "bf16-mixed"):
        step = TrainingStep(recipe, device=CPU, precision=precision)
        kept.append(step.saved_bytes(raw) - step.saved_bytes(first_clips(raw, 4)))  # less what is not the clips'
    assert kept[1] < 0.8 * kept[0]


def test_the_counter_counts_what_flops_py_says(recipes: list[str]) -> None:
    step = TrainingStep(load_recipe(recipes[0], size="nano"), device=CPU, precision="32-true")
    total, share = attention_share(step)
    module, data = step.module, step.data
    assert total == pytest.approx(sum(module.forward_flops(data.audio_size, data.video_size).values()), rel=1e-3)
    # 4 n^2 d for each block: encoders of 1 of 6 and 1 of 8 patches (two views), fusion of 2, decoders of 6 and 8
    attention = 128 * 4 * (2 * 3 * (1 + 1) + 4) + 64 * 4 * 2 * (36 + 64)
    assert share == pytest.approx(attention / total, rel=1e-3)


# --- the command ---


@pytest.fixture(scope="module")
def page(recipes: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """One run with everything, as JSON and as a page."""
    settings = training.with_defaults(
        Settings(
            recipes=tuple(recipes),
            size="nano",
            device="cpu",
            batch_size=2,
            rounds=2,
            points=2,
            profile=True,
        )
    )
    result = training.measure(settings)
    return json.loads(json.dumps(result)), training.as_markdown(result)


def test_flops_are_those_of_the_other_commands(
    page: tuple[dict[str, Any], str], recipes: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = page[0]["recipes"]
    for name, row in zip(recipes, rows, strict=True):
        planned = said(capsys, "flops", "--config", name, "--model.model.size", "nano")
        assert row["training_gflops_per_clip"] == pytest.approx(planned["training_gflops_per_clip"]["total"])
        assert row["gflops_per_s"] == pytest.approx(row["training_gflops_per_clip"] / row["seconds_per_clip"]["median"])
        assert row["utilisation"] == pytest.approx(row["gflops_per_s"] / 1e3 / page[0]["matmul_tflops_per_s"])
        assert row["clips_per_s"] == pytest.approx(1 / row["seconds_per_clip"]["median"])


def test_every_recipe_has_its_figures(page: tuple[dict[str, Any], str]) -> None:
    result, text = page
    assert [Path(row["recipe"]).name for row in result["recipes"]] == [
        "pretrain_mavil.yaml",
        "pretrain.yaml",
        "pretrain_efficient.yaml",
    ]
    first = result["recipes"][0]
    assert first["wall_clock_reduction"] == {"median": 0, "min": 0, "max": 0} and first["flops_reduction"] == 0
    for row in result["recipes"]:
        assert [p["epoch"] for p in row["points"]] == [0, 2]
        assert row["saved_bytes"] > 0 and row["peak_memory_bytes"] is None
        low, middle, high = (row["seconds_per_clip"][key] for key in ("min", "median", "max"))
        assert 0 < low <= middle <= high
    assert [p["clips"] for p in result["recipes"][1]["points"]] == [4, 2], "the batch follows the ratio"
    assert len(result["profiles"]) == 3
    for profile in result["profiles"]:
        shares = [entry["share"] for entry in profile["operations"]]
        assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
        assert any("mm" in entry["name"] for entry in profile["operations"])
    assert "--batch_size 2" in text and "--size nano" in text
    assert "Where the time goes" in text


def test_nothing_but_the_logits_is_quadratic_in_the_batch(recipes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "REPEATS", 1)
    monkeypatch.setattr(growth, "LOGITS_BATCHES", (64, 256))
    settings = Settings(recipes=(recipes[1],), size="nano", device="cpu", batch_size=2, rounds=1, points=1, growth=True)
    result = training.measure(training.with_defaults(settings))
    (entry,) = result["growth"]
    by_batch, by_tokens, by_share = entry["series"]
    assert by_batch["slopes"]["saved_bytes"] == pytest.approx(1, abs=0.05)
    assert by_batch["slopes"]["training_gflops"] == pytest.approx(1)
    assert [row["x"] for row in by_batch["rows"]] == [1, 2, 4]
    assert [row["x"] for row in by_tokens["rows"]] == [6 + 8, 6 + 16, 6 + 32]
    shares = [row["attention_share"] for row in by_tokens["rows"]]
    assert shares == sorted(shares) and 0 < shares[0]
    assert [row["x"] for row in by_share["rows"]] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert entry["logits"]["slopes"]["training_gflops"] == pytest.approx(2)
    # three contrasts of width 128, each of two products of 2 n^2 d; three times that in training
    assert entry["logits"]["rows"][0]["training_gflops"] == pytest.approx(3 * 3 * 2 * 2 * 64**2 * 128 / 1e9)
    assert "| clips of a batch |" in training.as_markdown(result)


def test_a_page_is_written_and_json_printed(
    recipes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "benchmarks" / "here.md"
    flags = ("--size", "nano", "--device", "cpu", "--batch_size", "1", "--rounds", "1", "--points", "1")
    result = said(capsys, "bench", "--recipes", json.dumps(recipes[:1]), *flags, "--out", str(out))
    assert out.read_text().startswith("# Training step, nano model, ")
    assert result["command"] in out.read_text()
    assert result["settings"]["precision"] == "32-true" and result["growth"] == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--recipes", '["nothing.yaml"]'], "--config must be a file or one of"),
        (["--recipes", '["linear_probe.yaml"]'], "model"),
        (["--recipes", "[]"], "recipes must name at least one config, got none"),
        (["--rounds", "0"], "rounds must be at least 1, got 0"),
        (["--batch_size", "-1"], "batch_size must be at least 1, got -1"),
        (["--batch_size", "10000000", "--recipes", '["demo/pretrain.yaml"]'], "batch_size must be at most"),
        (["--recipes", '["pretrain.yaml", "demo/pretrain.yaml"]'], "recipes must read clips of one size"),
        (["--precision", "half"], "precision must be"),
    ],
)
def test_a_mistake_is_one_line(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--size", "nano", "--device", "cpu", *args]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_peak_is_measured(recipes: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--size", "nano", "--batch_size", "4", "--rounds", "1", "--profile", "true")
    result = said(capsys, "bench", "--recipes", json.dumps(recipes), *flags)
    for row in result["recipes"]:
        assert row["peak_memory_bytes"] > row["saved_bytes"]
    assert result["settings"]["precision"] == "bf16-mixed"
