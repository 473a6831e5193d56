"""Assemblies of the parts: masked audio-video learners, and classifiers on their encoders."""

from diffmavil.models.builders import diffmavil, diffmavil_efficient, mavil
from diffmavil.models.classifier import Classifier
from diffmavil.models.mavil import MAViL

__all__ = ["Classifier", "MAViL", "diffmavil", "diffmavil_efficient", "mavil"]
