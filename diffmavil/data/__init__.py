"""The data path: where clips come from, how they are read, and how they become batches."""

from diffmavil.data.clips import Clip, ClipSource
from diffmavil.data.datamodule import ClipDataModule
from diffmavil.data.errors import MediaError
from diffmavil.data.esc50 import Esc50Source
from diffmavil.data.folder import FolderSource
from diffmavil.data.manifest import ManifestSource
from diffmavil.data.shards import ShardSource

__all__ = [
    "Clip",
    "ClipDataModule",
    "ClipSource",
    "Esc50Source",
    "FolderSource",
    "ManifestSource",
    "MediaError",
    "ShardSource",
]
