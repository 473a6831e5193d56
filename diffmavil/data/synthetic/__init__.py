"""A made data set: ten kinds of event in which what is seen causes what is heard."""

from __future__ import annotations

from diffmavil.data.synthetic.encode import write_mp4
from diffmavil.data.synthetic.scene import KINDS, ClipFormat, MadeClip, label_of, make_clip, split_of

__all__ = ["KINDS", "ClipFormat", "MadeClip", "label_of", "make_clip", "split_of", "write_mp4"]
