"""``diffmavil bench gpu``: settings -> runner, which runs the parts -> page.

A part is a function of a job, in a file of its own: device, suite, recipes, kernels, whole_path, falling_loss.
"""

from diffmavil.commands.bench.gpu.command import bench_gpu

__all__ = ["bench_gpu"]
