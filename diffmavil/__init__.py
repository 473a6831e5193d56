"""DiffMAViL: masked audio-video pretraining with diffusion, and what it takes to use it on your own clips."""

__version__ = "0.1.0"
