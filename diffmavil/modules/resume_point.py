"""Where a run that is resumed begins: exactly after what its checkpoint holds, be that in an epoch or at its end.

Lightning (2.6) leaves out a validation where the checkpoint was written right before it, and the end of the epoch, too,
where that followed the last batch; begins an epoch anew, or counts one too few, where a checkpoint was written at its
end and the next batches have another size; skips the rest of an epoch that ``max_steps`` or ``max_time`` cut off.
So the counts in a checkpoint are set to ones that it resumes rightly. The keys are Lightning's own, which is why
pyproject.toml keeps it below its next version.
"""

from __future__ import annotations

from typing import Any, Final

import lightning as L

from diffmavil.models.checkpoints import MARK

VALIDATION_DUE: Final = "validation_due"
"""Where a checkpoint keeps that a validation follows the batches that are done."""


def mark_validation(trainer: L.Trainer, checkpoint: dict[str, Any]) -> None:
    """Keep in a checkpoint whether a validation follows the batches that are done, or has followed them."""
    every, interval = trainer.check_val_every_n_epoch, getattr(trainer, "val_check_batch", None)
    if not trainer.enable_validation or interval is None or (every and (trainer.current_epoch + 1) % every):
        return
    batches = trainer.fit_loop.epoch_loop.batch_progress.state_dict()
    done = batches["total" if every is None else "current"]["processed"]
    if batches["is_last_batch"] if interval == float("inf") else done % interval == 0:
        checkpoint[MARK][VALIDATION_DUE] = True


def set_resume_point(checkpoint: dict[str, Any]) -> None:
    """Set the counts of a checkpoint's loops to those of a run that stands after the batches that are done."""
    fit_loop = checkpoint.get("loops", {}).get("fit_loop", {})
    if not fit_loop:
        return
    batches, epochs = fit_loop["epoch_loop.batch_progress"], fit_loop["epoch_progress"]
    epoch, batch = epochs["current"], batches["current"]
    ended = epoch["processed"] == epoch["ready"]
    if epoch["started"] < epoch["ready"] or (ended and batches["is_last_batch"]) or not batches["total"]["ready"]:
        _at_epoch_start(checkpoint, fit_loop)
        return
    failed = batch["ready"] > batch["processed"]  # an exception had the checkpoint written
    due = checkpoint[MARK].get(VALIDATION_DUE, False)
    validation = fit_loop["epoch_loop.val_loop.batch_progress"]
    unfinished = not validation["is_last_batch"] or validation["current"]["completed"] < validation["current"]["ready"]
    before_validation = batch["completed"] < batch["processed"]
    if due and not failed and batch["processed"] and (before_validation or unfinished):
        validation["is_last_batch"] = False
        validation["current"] = dict.fromkeys(validation["current"], 0)
        # as Lightning leaves it where a validation breaks off in its first batch
        validation["total"] |= {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    else:
        for counts in (validation["total"], validation["current"]):
            counts |= dict.fromkeys(counts, counts["completed"])
    # the step under which is logged; where a validation was due, Lightning adds the last one after it
    state = fit_loop["epoch_loop.state_dict"]
    if not due:
        state["_batches_that_stepped"] = checkpoint["global_step"]
    elif ended or failed:
        state["_batches_that_stepped"] = checkpoint["global_step"] - 1
    batches["is_last_batch"] = batches["is_last_batch"] and not failed
    for counts in (batches["total"], batch):
        counts |= dict.fromkeys(counts, counts["processed"])
    for counts in epochs.values():
        counts |= {"started": counts["ready"], "processed": counts["ready"] - 1, "completed": counts["ready"] - 1}
    for place in fit_loop["state_dict"].get("combined_loader", []):
        if isinstance(place, dict) and "batches" in place:  # of our loader
            place |= {"epoch": epoch["ready"] - 1, "batches": batch["processed"], "ended": batches["is_last_batch"]}


def _at_epoch_start(checkpoint: dict[str, Any], fit_loop: dict[str, Any]) -> None:
    """Of the epoch that comes next; with a loader of its own."""
    batches = fit_loop["epoch_loop.batch_progress"]
    batches["is_last_batch"] = False
    batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["total"] |= dict.fromkeys(batches["total"], batches["total"]["processed"])
    for counts in fit_loop["epoch_progress"].values():
        counts |= dict.fromkeys(counts, counts["processed"])
    fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"]
    fit_loop["state_dict"].pop("combined_loader", None)


def begins_an_epoch(trainer: L.Trainer) -> bool:
    """Whether a run that is resumed stands at the start of an epoch."""
    epoch = trainer.fit_loop.epoch_progress.state_dict()["current"]
    return bool(epoch["ready"] == epoch["processed"])
