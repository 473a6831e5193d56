from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import yaml
from command_config import CONFIG, Run
from hostile_calls import BIG, BOMB

from diffmavil.commands import config_text
from diffmavil.commands.config_text import MAX_DEPTH, MAX_VALUES, ConfigTextError, check_text

NO_YAML = ("nul", "not closed", "undefined")
"""Left to the parser, which says where."""


@pytest.mark.parametrize("name", [name for name in BIG if name not in (*NO_YAML, "wide key")])
@pytest.mark.parametrize("place", ["{}", "data: {}", "data: {{source: {} }}"])
def test_yaml_that_is_too_much_is_refused_before_it_is_built(name: str, place: str) -> None:
    text = BIG[name]
    if "\n" in text and place != "{}":
        pytest.skip("of several lines")
    begin = time.process_time()
    with pytest.raises(ConfigTextError) as refused:
        check_text(place.format(text))
    assert time.process_time() - begin < 2
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 200


def test_what_configs_hold_is_let_by() -> None:
    usual = """
        base: &base {lr: 1e-3, betas: [0.9, 0.95], name: &name nano}
        first: {<<: *base, lr: !!float 2}
        second: {<<: [*base, {seed: 1}]}
        third: [*name, *name, ~, "text: with {odd} & letters", 'a', |-, >-]
        base again: &base [1]
        after: *base
        ? [1, 2]
        : key
    """.replace("|-, >-", "1")
    check_text(usual)
    check_text(CONFIG)
    for path in (Path(__file__).parents[2] / "configs").rglob("*.yaml"):
        check_text(path.read_text())


def test_the_limits_themselves_are_let_by() -> None:
    check_text("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    check_text("[" + "1, " * (MAX_VALUES - 2) + "1]")
    check_text("9" * 300)
    shared = "a: &a [" + "1, " * (MAX_VALUES // 4) + "1]\nb: [*a, *a]\n"
    check_text(shared)
    with pytest.raises(ConfigTextError, match="line 2: a config must have at most 10000 values, got more"):
        check_text(shared.replace("*a, *a", "*a, *a, *a"))
    inner = "a: &a " + "[" * 30 + "]" * 30 + "\nb: " + "[" * 30 + "*a" + "]" * 30
    with pytest.raises(ConfigTextError, match="line 2: a config must have at most 50 levels, got more"):
        check_text(inner)


def test_a_key_that_is_there_twice_is_named() -> None:
    with pytest.raises(ConfigTextError, match="line 3: a key must be there once, got 'batch_size' again"):
        check_text("data:\n  batch_size: 6\n  batch_size: 12\n")
    for text, key in (
        ("a: 1\nb: 2\n'a': 3\n", "a"),
        ("trainer:\n  callbacks:\n  - {class_path: A}\n  - class_path: B\n    init_args: {x: 1, y: 2, x: 3}\n", "x"),
        ("[[{a: {b: [{c: 1, c: 2}]}}]]", "c"),
        ("a: &a {b: 1}\nc: {<<: *a, d: 1, d: 2}", "d"),
    ):
        with pytest.raises(ConfigTextError, match=f"a key must be there once, got '{key}' again"):
            check_text(text)
    check_text("a: {b: 1}\nc: {b: 1}\nd: [{b: 1}, {b: 1}, {c: {b: 1}, b: 2}]")


def test_tags_stay_refused_whatever_the_parser_would_make_of_them() -> None:
    for tag in ("!!python/name:os.system", "!!python/tuple []", "!!binary aGk=", "!!set {}", "!!omap []", "!own 1"):
        with pytest.raises(ConfigTextError, match="of a type that a config has"):
            check_text(f"a: {tag}")


COMMANDS = {
    "fit": ["fit", "--config", "bad.yaml"],
    "stats": ["stats", "--config", "bad.yaml"],
    "compare": ["compare", "mine.yaml", "bad.yaml"],
    "cross-validate": ["cross-validate", "--config", "bad.yaml", "--out", "cv"],
    "bench": ["bench", "--recipes", '["bad.yaml"]'],
    "report": ["report", "--run", "run"],
    "a value": ["fit", "--config", "mine.yaml", "--data.source", "{" + BOMB.strip().replace("\n", ", ") + "}"],
    "a value in a file": ["fit", "--config", "mine.yaml", "--data.source", "bad.yaml"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_bomb_is_one_line_in_every_command(name: str, run: Run) -> None:
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/checkpoints/last.ckpt").touch()
    for place in ("bad.yaml", "run/config.yaml"):
        Path(place).write_text(BOMB)
    begin = time.process_time()
    code, _, err = run(*COMMANDS[name])
    assert time.process_time() - begin < 20
    assert code == 2 and err.count("\n") == 1 and "must have at most 10000 values, got more" in err, err
    if name == "a value":
        assert err.startswith("diffmavil: error: data.source: line 1: ")
    if name == "a value in a file":
        assert err.startswith("diffmavil: error: data.source: config bad.yaml, line 4: ")
    assert not Path("cv").exists() and not Path("lightning_logs").exists()


def test_configs_that_are_no_files_or_no_text_are_named(run: Run) -> None:
    os.mkfifo("fifo.yaml")
    Path("device.yaml").symlink_to("/dev/zero")
    Path("utf16.yaml").write_bytes(CONFIG.encode("utf-16"))
    with Path("huge.yaml").open("wb") as file:
        file.truncate(10**10)
    Path("latin.yaml").write_bytes("# größer".encode("latin-1"))
    Path("twice.yaml").write_text("data:\n  source:\n    init_args: {root: a,\n      root: b}\n")
    Path("tab.yaml").write_text("data:\n\tbatch_size: 3\n")
    for name, said in {
        "fifo.yaml": "must be a file",
        "device.yaml": "must be a file",
        "huge.yaml": "config huge.yaml must have at most 1000000 bytes, got 10000000000",
        "utf16.yaml": "config utf16.yaml must be UTF-8, it is UTF-16: ",
        "latin.yaml": "config latin.yaml must be UTF-8: ",
        "tab.yaml": "Problems parsing config tab.yaml: while scanning",
        "twice.yaml": "config twice.yaml, line 4: a key must be there once, got 'root' again",
    }.items():
        code, _, err = run("fit", "--config", "mine.yaml", "--config", name)
        assert code == 2 and err.count("\n") == 1 and said in err and name in err, err


def test_a_pipe_is_not_opened(run: Run) -> None:
    os.mkfifo("pipe")
    code, _, err = run("fit", "--config", "mine.yaml", "--data.source", "pipe")
    assert (code, err) == (2, "diffmavil: error: data.source: a file must be no pipe and no device, got pipe\n")


def test_names_that_no_folder_can_have_are_named(run: Run) -> None:
    for key, value in (("data.source.root", "a\0b"), ("trainer.default_root_dir", "\udcff")):
        code, _, err = run("fit", "--config", "mine.yaml", f"--{key}", value)
        assert code == 2 and err.startswith(f"diffmavil: error: {key}: a "), err


def test_a_long_number_on_the_command_line_is_named(run: Run) -> None:
    for key in ("model.lr", "data.batch_size"):
        code, _, err = run("fit", "--config", "mine.yaml", f"--{key}", "9" * 4000)
        assert (code, err) == (2, f"diffmavil: error: {key}: a number must have at most 300 digits, got 4000\n")


def test_anchors_and_merges_work_on(run: Run) -> None:
    merged = "model:\n  init_args:\n    <<: {lr: 0.5, seed: 3}\n    seed: 4\n"
    Path("more.yaml").write_text(merged)
    code, out, err = run("fit", "--config", "mine.yaml", "--config", "more.yaml", "--print_config")
    model = yaml.safe_load(out)["model"]["init_args"]
    assert (code, model["lr"], model["seed"]) == (0, 0.5, 4), err


def test_the_guard_is_set_once() -> None:
    config_text.guard_parsers()
    config_text.guard_parsers()
    assert len(config_text._loaders) == 1
