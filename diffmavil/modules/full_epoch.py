"""Resuming from a checkpoint that was written when an epoch's batches were done."""

from __future__ import annotations

from typing import Any


def begin_next_epoch(checkpoint: dict[str, Any]) -> None:
    """Make of such a checkpoint one of the start of the next epoch; any other stays as it is.

    Lightning would compare the count of batches with the length of the loader at hand, which may be the next epoch's
    and differ where the batch size changes, and does not count the epoch after it (2.6: a checkpoint that was written
    in the epoch after such a resume begins that epoch anew). The keys are Lightning's own, which is why pyproject.toml
    keeps it below its next version.
    """
    fit_loop = checkpoint.get("loops", {}).get("fit_loop", {})
    batches = fit_loop.get("epoch_loop.batch_progress", {})
    if batches.get("is_last_batch"):
        batches["is_last_batch"] = False
        batches["current"] = dict.fromkeys(batches["current"], 0)
        for counts in (batches["total"], *fit_loop["epoch_progress"].values()):
            counts |= dict.fromkeys(counts, counts["ready"])
        # the step under which is logged
        fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"]
