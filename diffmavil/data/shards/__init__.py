"""Clips prepared for fast reading: plain tar files and an index."""

from diffmavil.data.shards.layout import Stored
from diffmavil.data.shards.source import ShardSource

__all__ = ["ShardSource", "Stored"]
