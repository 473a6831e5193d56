"""The packaged configs, found by their bare names from any folder."""

from __future__ import annotations

from pathlib import Path


def _configs_dir() -> Path:
    """Where the packaged configs are: in the package when it was installed from a wheel, else beside it."""
    package = Path(__file__).absolute().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def packaged_configs() -> list[str]:
    """Names of the packaged configs, as ``--config`` takes them."""
    root = _configs_dir()
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.yaml"))


def find_config(name: str) -> str:
    """Path of a config: a file seen from the working directory, or else the packaged one of that name.

    Args:
        name: A path, or the name of a packaged config: ``pretrain.yaml``, ``demo/pretrain_grid.yaml``.

    Raises:
        FileNotFoundError: If there is neither.
        ConfigTextError: If a file is refused for what is in it.
    """
    if Path(name).is_file():
        from diffmavil.commands.config_text import read_text  # the help needs no parser

        read_text(Path(name))
        return name
    names = packaged_configs()
    if name in names:
        return str(_configs_dir() / name)
    from diffmavil.commands.suggest import did_you_mean, near_config  # nor this

    meant = did_you_mean(near_config(name, names))
    raise FileNotFoundError(f"--config must be a file or one of {', '.join(names)}; got {name}{meant}")


def find_configs(args: list[str]) -> list[str]:
    """The command line with every value of ``--config`` or ``-c`` replaced by the path that it stands for."""
    found = list(args)
    for i, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if flag not in ("--config", "-c"):
            continue
        if equals:
            found[i] = f"{flag}={find_config(value)}"
        elif i + 1 < len(args):
            found[i + 1] = find_config(args[i + 1])
    return found
