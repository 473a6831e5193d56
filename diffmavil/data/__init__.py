"""The data path: where clips come from, how they are read, and how they become batches."""

from diffmavil.data.audioset import AudioSetSource
from diffmavil.data.clips import Clip, ClipSource
from diffmavil.data.datamodule import ClipDataModule
from diffmavil.data.errors import MediaError
from diffmavil.data.esc50 import Esc50Source
from diffmavil.data.folder import FolderSource
from diffmavil.data.fsdd import FsddSource
from diffmavil.data.manifest import ManifestSource
from diffmavil.data.shards import ShardSource
from diffmavil.data.speech_commands import SpeechCommandsSource
from diffmavil.data.vggsound import VGGSoundSource

__all__ = [
    "AudioSetSource",
    "Clip",
    "ClipDataModule",
    "ClipSource",
    "Esc50Source",
    "FolderSource",
    "FsddSource",
    "ManifestSource",
    "MediaError",
    "ShardSource",
    "SpeechCommandsSource",
    "VGGSoundSource",
]
