"""A web server for the tests."""

from __future__ import annotations

import gzip
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Plain(SimpleHTTPRequestHandler):
    """Serves whole files."""

    def log_message(self, *args: object) -> None:
        pass


class Ranges(Plain):
    """Serves files, and parts of files where ``Range`` asks for one; notes what was asked for.

    Shards may give trouble: so many failures first, seconds before each answer, and an answer that stops half-way.
    """

    asked: list[tuple[str, str | None]] = []
    failures = 0
    wait_s = 0.0
    hang: threading.Event | None = None

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        Ranges.asked.append((self.path, wanted))
        is_shard = self.path.endswith(".tar")
        if is_shard:
            time.sleep(Ranges.wait_s)
        if Ranges.failures and is_shard:
            Ranges.failures -= 1
            self.send_error(503)
        elif wanted is None:
            super().do_GET()
        else:
            path = Path(self.translate_path(self.path))
            first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", wanted).groups())
            data = path.read_bytes()[first : last + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{first + len(data) - 1}/{path.stat().st_size}")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if is_shard and Ranges.hang is not None:
                self.wfile.write(data[: len(data) // 2])
                Ranges.hang.wait()
                self.close_connection = True
            else:
                self.wfile.write(data)


@contextmanager
def serving(folder: Path, handler: type[Plain] = Ranges) -> Iterator[str]:
    """Serve a folder, without trouble to begin with; gives its URL."""
    Ranges.asked, Ranges.failures, Ranges.wait_s, Ranges.hang = [], 0, 0.0, None
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        if Ranges.hang is not None:
            Ranges.hang.set()
        server.shutdown()
        server.server_close()


@cache
def _packed() -> bytes:
    """64 MiB of nothing in 64 KiB."""
    return gzip.compress(bytes(2**26))


class Greedy(Ranges):
    """Sends far more than was asked for, of some files, until the other side hangs up or ``most`` bytes are sent."""

    of = ""
    how = "endless"
    most = 2**28
    sent = 0

    def do_GET(self) -> None:
        if not self.path.endswith(Greedy.of):
            super().do_GET()
            return
        wanted = self.headers.get("Range")
        self.send_response(200 if wanted is None else 206)
        if wanted is not None:
            self.send_header("Content-Range", f"{wanted.replace('=', ' ')}/*")
        if Greedy.how == "declared":
            self.send_header("Content-Length", str(10**15))
        if Greedy.how == "packed":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.close_connection = True
        chunk = bytes(2**20) if Greedy.how != "packed" else _packed()
        with suppress(ConnectionError):
            while Greedy.sent < Greedy.most:
                self.wfile.write(chunk)
                Greedy.sent += len(chunk)
