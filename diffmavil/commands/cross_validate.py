"""``diffmavil cross-validate``: train and test with every fold as the test split once."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path


def cross_validate(args: list[str]) -> None:
    """Fit and test once for each fold, and print each fold's figures, their mean and standard deviation.

    A fold's training is ``diffmavil fit`` with ``--data.source.fold``, in a folder of its own. The same command again
    goes on where it was stopped or killed; folds that are done are not done again.

    Args:
        args: The command line after ``diffmavil cross-validate``: ``--folds``, ``--out``, and what ``fit`` takes.

    Raises:
        ArgumentError: If an argument is of the wrong type, or none that ``fit`` knows.
        ValueError: If the folder holds the folds of something else, if the clips carry no folds, or if one is chosen
            with ``--data.source.fold``.
    """
    parser = ArgumentParser(
        prog="diffmavil cross-validate",
        description="Fit and test once for each fold; print each fold's figures, their mean and standard deviation.",
        epilog="All other arguments are those of diffmavil fit. The same command again goes on where it was stopped.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("--folds", type=_numbers, help="folds to test on, such as 1,2,3; without it, all of the data's")
    parser.add_argument("--out", type=Path, default=Path("runs/cross_validate"), help="folder to write into")
    options, settings = parser.parse_known_args(args)
    if fold := [word for word in settings if word.partition("=")[0] == "--data.source.fold"]:
        raise ValueError(f"data.source.fold must be left out, as each fold is tested on; see --folds; got {fold[0]}")
    from diffmavil.commands.folds import CrossValidation  # all of torch, which --help need not wait for
    from diffmavil.commands.launcher import leave_group

    run = CrossValidation(options.out, settings)
    wanted = options.folds or run.folds or [1]  # after the first fold it is known which there are
    while pending := [fold for fold in wanted if fold not in run.scores]:
        run.fold(pending[0])
        wanted = options.folds or run.folds
    run.print_table(wanted)
    leave_group()


def _numbers(text: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError:
        raise ArgumentTypeError(f"must be numbers with commas between them, got {text!r}") from None
