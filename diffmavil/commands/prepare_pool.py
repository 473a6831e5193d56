"""Reading and encoding clips in several processes, of which none can take the others down."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerContext
from typing import Final

import torch
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from diffmavil.data.audit import Audit
from diffmavil.data.clips import Clip, ClipSource
from diffmavil.data.errors import CANNOT_DECODE, CANNOT_OPEN, CRASHED, MISSING_FILE, TIMED_OUT, MediaError
from diffmavil.data.shards.encode import EncodedClip, encode_clip
from diffmavil.data.shards.layout import Stored
from diffmavil.types import Modalities

_WAITING_PER_WORKER: Final = 4
"""Clips that are read ahead: what is found is taken in the source's order, so that one slow clip holds up others."""

_START_S: Final = 120.0
"""Seconds that a worker may take to start."""

MAYBE_THE_DISK: Final = frozenset({MISSING_FILE, CANNOT_OPEN, CANNOT_DECODE, TIMED_OUT, CRASHED})
"""Reasons behind which there may be a file system with a hiccup, or too little memory: such a clip is tried again."""


class PreparingStopped(Exception):
    """Preparing cannot go on; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a clip cannot be used: a reason of ``diffmavil.data.errors.REASONS``, and what the reader said."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Job:
    """What a worker does with each clip.

    Args:
        source: Opens the clips.
        modalities: The streams that are wanted.
        stored: How they are stored.
        audit: What is checked.
        timeout_s: Seconds that a clip may take.
    """

    source: ClipSource
    modalities: Modalities
    stored: Stored
    audit: Audit
    timeout_s: float

    def run(self, clip: Clip) -> EncodedClip | Failure:
        """Read, check and encode a clip."""
        try:
            with self.source.open(clip, timeout_s=self.timeout_s) as media:
                return encode_clip(clip, media, self.modalities, self.stored, self.audit)
        except MediaError as error:
            return Failure(error.reason, error.detail)
        except Exception as error:  # whatever a codec or a source of one's own throws, on one clip of millions
            return Failure(CRASHED, f"{type(error).__name__}: {' '.join(str(error).split())}")


_job: Job


def _start(job: Job) -> None:
    """Start of a worker process."""
    global _job
    _job = job
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_the_command, daemon=True).start()


def _end_with_the_command() -> None:
    """Do not outlive a command that was killed, whatever the decoder is at."""
    command = multiprocessing.parent_process()
    assert command is not None
    command.join()
    os._exit(1)


def _run(clip: Clip) -> EncodedClip | Failure:
    return _job.run(clip)


@dataclass
class Workers:
    """Processes that encode clips.

    Args:
        pool: The processes.
        count: How many there are.
        timeout_s: Seconds that a clip may take.
        attempts: Times that a clip is tried where the file system may be at fault.
    """

    pool: ProcessPool
    count: int
    timeout_s: float
    attempts: int

    def encode(self, clips: Iterable[Clip]) -> Iterator[EncodedClip | Failure]:
        """Encode clips; what comes out is in their order.

        Raises:
            PreparingStopped: If the processes do not answer.
        """
        waiting: deque[tuple[Clip, ProcessFuture[EncodedClip | Failure]]] = deque()
        for clip in clips:
            waiting.append((clip, self._schedule(clip)))
            if len(waiting) >= self.count * _WAITING_PER_WORKER:
                yield self._take(*waiting.popleft())
        while waiting:
            yield self._take(*waiting.popleft())

    def _schedule(self, clip: Clip) -> ProcessFuture[EncodedClip | Failure]:
        try:
            return self.pool.schedule(_run, args=[clip], timeout=self.timeout_s)
        except RuntimeError as error:  # the pool is broken
            raise PreparingStopped("the worker processes do not start, or died") from error

    def _take(self, clip: Clip, future: ProcessFuture[EncodedClip | Failure]) -> EncodedClip | Failure:
        for attempt in range(1, self.attempts + 1):
            outcome = self._result(future)
            if isinstance(outcome, EncodedClip) or outcome.reason not in MAYBE_THE_DISK or attempt == self.attempts:
                break
            future = self._schedule(clip)
        return outcome

    def _result(self, future: ProcessFuture[EncodedClip | Failure]) -> EncodedClip | Failure:
        try:
            # a clip that is tried again comes after all that were read ahead, each of which may take its time
            return future.result(timeout=(_WAITING_PER_WORKER + 1) * self.timeout_s + _START_S)
        except TimeoutError as error:
            if not future.done():
                raise PreparingStopped("a worker process can be neither heard nor killed; is the disk hung?") from error
            return Failure(TIMED_OUT, f"after {self.timeout_s:g} s")
        except ProcessExpired as error:
            code = error.exitcode
            return Failure(CRASHED, f"signal {-code}" if code is not None and code < 0 else f"exit code {code}")
        except BrokenProcessPool as error:
            raise PreparingStopped("the worker processes do not start, or died") from error


@contextmanager
def start_workers(job: Job, *, count: int, timeout_s: float, attempts: int) -> Iterator[Workers]:
    """Start processes that encode clips; they end with the ``with`` block, however it ends.

    Args:
        job: What to do with each clip.
        count: Number of processes.
        timeout_s: Seconds that a clip may take.
        attempts: Times that a clip is tried where the file system may be at fault.
    """
    # Processes are started at any time, to take the place of those that die, and this one has threads by then: forking
    # it would not be safe. A server without threads forks them off, with everything imported.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    _start_server(context)
    pool = ProcessPool(count, initializer=_start, initargs=[job], context=context)
    try:
        yield Workers(pool, count, timeout_s, attempts)
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


def _start_server(context: ForkServerContext) -> None:
    """Start the server that forks off the processes, and see it do so once.

    A terminal sends Ctrl-C to all of them, but it is this process that stops the others: they never get the signal, and
    this one gets it as soon as the server has everything imported.
    """
    resource_tracker.ensure_running()  # which lets the signal through again, so not below
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process = context.Process()
        process.start()
        process.join()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
