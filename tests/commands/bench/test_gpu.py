"""``diffmavil bench gpu``, rehearsed on the CPU at the smallest size: the first run on a GPU is not the first."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from diffmavil import cli
from diffmavil.commands.bench.gpu.kernels import is_product
from diffmavil.commands.bench.gpu.runner import run_parts
from diffmavil.commands.bench.gpu.suite import read_junit
from diffmavil.commands.bench.settings import PARTS, GpuSettings
from diffmavil.commands.configs import find_config

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two packaged recipes on the smallest clips."""
    root = tmp_path_factory.mktemp("recipes")
    names = []
    for name in ("pretrain_mavil.yaml", "pretrain_efficient.yaml"):
        config = yaml.safe_load(Path(find_config(name)).read_text())
        config["data"] |= {"clip_s": 0.48, "num_mel_bins": 32, "num_frames": 4, "fps": 10.0, "image_size": 32}
        config["model"]["init_args"]["lr"] = 2e-3
        config["trainer"]["max_epochs"] = 3
        (root / name).write_text(yaml.safe_dump(config))
        names.append(str(root / name))
    return names


@pytest.fixture(scope="module")
def settings(recipes: list[str]) -> GpuSettings:
    return GpuSettings(
        device="cpu",
        recipes=tuple(recipes),
        recipe=recipes[1],
        size="nano",
        trained_size="nano",
        num_frames=4,
        batch_size=4,
        rounds=1,
        steps=20,
        seconds=1.0,
        clips=40,
        workers=1,
        minutes=30.0,
    )


def _words(settings: GpuSettings) -> list[str]:
    """The settings as a command line."""
    words = []
    for name, value in vars(settings).items():
        if value != getattr(GpuSettings(), name):
            words += [f"--{name}", json.dumps(value) if isinstance(value, tuple) else str(value)]
    return words


@pytest.mark.slow
def test_every_part_has_its_figures(settings: GpuSettings, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "here.md"
    assert cli.main(["bench", "gpu", *_words(settings), "--out", str(page)]) == 0
    text, result = page.read_text(), json.loads(page.with_suffix(".json").read_text())
    assert {name: part["state"] for name, part in result["parts"].items()} == dict.fromkeys(PARTS, "ok")
    device, tests, recipes, profile, path, training = (result["parts"][name]["figures"] for name in PARTS)

    assert device["machine"]["torch"] == str(torch.__version__) and device["packages"]["pytest"] == pytest.__version__
    assert device["matmul_flops_per_s"] > 1e9 and device["copy_bytes_per_s"] > 1e8

    if not torch.cuda.is_available():
        assert {test["outcome"] for test in tests["tests"]} == {"skipped"}
    found = {test["name"].partition(":")[0] for test in tests["tests"]}
    assert found == {f"gpu.{path.stem}" for path in (ROOT / "tests" / "gpu").glob("test_*.py")} | {
        "commands.bench.test_training",
        "data.test_fbank",
    }

    rows = recipes["recipes"]
    assert [(Path(row["recipe"]).name, row["compiled"]) for row in rows] == [
        (name, compiled) for compiled in (False, True) for name in ("pretrain_mavil.yaml", "pretrain_efficient.yaml")
    ]
    for row in rows:
        assert row["clips"] == 4 and [point["epoch"] for point in row["points"]] == [0, 2]
        assert row["clips_per_s"] == pytest.approx(1 / row["seconds_per_clip"]["median"])
        flops_per_s = row["training_gflops_per_clip"] * 1e9 * row["clips_per_s"]
        assert row["mfu"] == pytest.approx(flops_per_s / device["matmul_flops_per_s"]) and 0 < row["mfu"] < 1
    assert rows[1]["points"][0]["clips"] > 4, "a larger batch while less is visible"

    slowest = max(rows[:2], key=lambda row: row["seconds_per_clip"]["median"])
    assert profile["recipe"] == slowest["recipe"] and profile["clips"] == 4
    assert len(profile["kernels"]) == 15 and any("mm" in kernel["name"] for kernel in profile["kernels"])
    products = sum(kernel["share"] for kernel in profile["kernels"] if kernel["name"] in ("aten::mm", "aten::addmm"))
    assert 0 < profile["outside_products"] <= 1 - products
    assert profile["synchronisations"] and all(count > 0 for count in profile["synchronisations"].values())

    assert path["steps"] == 20 and path["batch_size"] == 4 and path["made_clips"] == 40
    assert path["data_share"] == pytest.approx(path["data_s"] / (path["data_s"] + path["step_s"]))
    assert path["data_s"] > 0 and path["clips_per_s"] == pytest.approx(18 * 4 / (path["data_s"] + path["step_s"]))

    first, last = training["tenths"]["loss"]
    assert training["steps"] >= 20 and last < 0.95 * first and training["fell"] == pytest.approx(1 - last / first)
    assert len(training["held_out"]) == 2

    assert text.startswith("# On a GPU: ") and "A rehearsal on a CPU" in text and result["command"] in text
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "The device",
        "Tests that need a GPU",
        "The recipes",
        "Where the time of the slowest goes",
        "From clips to steps",
        "A loss that falls",
    ]
    assert f"the device waited for data (data workers, transfer, spectrograms) in **{path['data_share']:.1%}**" in text
    assert f"The loss fell by **{training['fell']:.1%}**" in text


@pytest.mark.slow
def test_a_part_that_fails_is_reported_and_the_next_one_runs(
    settings: GpuSettings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = replace(settings, parts=("recipes", "profile"), recipes=(settings.recipes[0], "nothing.yaml"))
    page = tmp_path / "here.md"
    assert cli.main(["bench", "gpu", *_words(broken), "--out", str(page)]) == 1
    said = capfd.readouterr().err
    assert "recipes: failed" in said and "profile: ok" in said and "failed or not run: recipes\n" in said
    text, parts = page.read_text(), json.loads(page.with_suffix(".json").read_text())["parts"]
    assert [part["state"] for part in parts.values()] == ["failed", "ok"]
    assert "nothing.yaml" in parts["recipes"]["error"]["line"] and "Traceback" in parts["recipes"]["error"]["tail"]
    assert f"**failed**: {parts['recipes']['error']['line']}" in text
    (row,) = parts["recipes"]["figures"]["recipes"]
    assert row["recipe"] == parts["profile"]["figures"]["recipe"] == settings.recipes[0], "what was found before stays"


def test_a_part_is_ended_at_its_bound(settings: GpuSettings, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    short = replace(settings, parts=("device", "training"), minutes=1.5 / 60)
    results = run_parts(short, tmp_path, lambda parts: seen.append(dict(parts)))
    assert [list(parts) for parts in seen] == [["device"], ["device", "training"]], "told after each"
    training = results["training"]
    assert training["state"] in ("failed", "not run") and training["seconds"] < 15
    assert re.match(r"ended at its bound of \d+ s|no time was left of 0\.025 minutes", training["error"]["line"])


def test_without_a_gpu_it_says_so_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bench", "gpu"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "bench gpu needs a CUDA device, got none" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--parts ['device','sky']", "parts must be some of device, tests, recipes, profile, path, training"),
        ("--recipes []", "recipes must name at least one config, got none"),
        ("--steps 1", "steps must be at least 2, got 1"),
        ("--batch_size 1", "batch_size must be at least 2, got 1"),
        ("--minutes 0", "minutes must be above 0, got 0.0"),
        ("--device tpu", "device must be one of"),
    ],
)
def test_a_mistake_is_one_line(args: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "gpu", *args.split()]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_what_became_of_each_test_is_read(tmp_path: Path) -> None:
    """As pytest's documentation describes the file."""
    (tmp_path / "tests.xml").write_text(
        '<testsuites><testsuite><testcase classname="tests.gpu.test_a" name="test_one[x]" time="1.5"/>'
        '<testcase classname="tests.gpu.test_a" name="test_two" time="0.1"><failure message="assert 1 &lt; 0&#10;end">'
        "...</failure></testcase>"
        '<testcase classname="tests.test_b" name="test_three" time="0"><skipped message="needs a GPU"/></testcase>'
        "</testsuite></testsuites>"
    )
    found = read_junit(tmp_path / "tests.xml")
    assert [tuple(test.values()) for test in found] == [
        ("gpu.test_a: test_one[x]", "passed", 1.5, ""),
        ("gpu.test_a: test_two", "failed", 0.1, "assert 1 < 0 end"),
        ("test_b: test_three", "skipped", 0.0, "needs a GPU"),
    ]


def test_what_is_a_matrix_product() -> None:
    flash = "aten::_scaled_dot_product_flash_attention"
    products = ["aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_addmm_activation", flash]
    others = ["aten::add", "aten::mul", "aten::gelu", "aten::native_layer_norm", "aten::_softmax", "aten::copy_"]
    assert [is_product(name) for name in products + others] == [True] * 6 + [False] * 6
