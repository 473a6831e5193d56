"""A small config of one's own, and what running a command gives, for the tests of the command line."""

from __future__ import annotations

from collections.abc import Callable

CONFIG = """
trainer:
  accelerator: cpu
  max_epochs: 1
  logger: false
  enable_progress_bar: false
  enable_model_summary: false
model:
  class_path: PretrainModule
  init_args:
    model:
      class_path: diffmavil.models.diffmavil
      init_args:
        size: nano
data:
  source:
    class_path: FolderSource
    init_args:
      root: clips
  num_workers: 0
"""

Run = Callable[..., tuple[int, str, str]]
