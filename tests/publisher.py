"""A web server on 127.0.0.1 that publishes files, well or badly: what downloads are tested against."""

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Publisher:
    """What the server has, how it misbehaves, and what it was asked.

    Attributes:
        files: content by path.
        etag: what every file's version is called; "" for none.
        ranges: whether it knows ranges.
        cut_after: it drops the connection after so many bytes of each answer, for the next `cuts` answers.
        busy: it answers 503 to so many requests.
        status: it answers this to every request; 0 for none.
        length: it says how long an answer is.
        hub: it speaks as the Hugging Face Hub does.
        asked: every request, as (method, path, Range header).
    """

    files: dict[str, bytes] = field(default_factory=dict)
    etag: str = '"one"'
    ranges: bool = True
    cut_after: int = 0
    cuts: int = 0
    busy: int = 0
    status: int = 0
    length: bool = True
    hub: bool = False
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""


@contextmanager
def publishing(**settings: Any) -> Iterator[Publisher]:
    """Run such a server."""
    publisher = Publisher(**settings)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("PublishersHandler", (Handler,), {"publisher": publisher}))
    publisher.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield publisher
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """Answers for a publisher; each server has a class of its own."""

    publisher: ClassVar[Publisher]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.publisher.asked.append((self.command, self.path, self.headers.get("Range")))
        content = self.publisher.files.get(self.path)
        start = self.start()
        if self.publisher.busy > 0:
            self.publisher.busy -= 1
            self.say(503)
        elif self.publisher.status or content is None:
            self.say(self.publisher.status or 404)
        elif start >= len(content):
            self.say(416, {"Content-Range": f"bytes */{len(content)}"})
        else:
            self.publish(content, start, body)

    def publish(self, content: bytes, start: int, body: bool) -> None:
        headers = {"ETag": self.publisher.etag} if self.publisher.etag else {}
        if self.publisher.hub:
            headers |= {"X-Repo-Commit": COMMIT}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.publisher.length:
            headers["Content-Length"] = str(len(content) - start)
        self.say(206 if start else 200, headers, end=False)
        if body:
            self.send(content[start:])

    def start(self) -> int:
        wanted = self.headers.get("Range")
        fresh = self.headers.get("If-Range") in (None, self.publisher.etag)
        return int(wanted.removeprefix("bytes=").split("-")[0]) if wanted and self.publisher.ranges and fresh else 0

    def say(self, status: int, headers: dict[str, str] | None = None, end: bool = True) -> None:
        self.send_response(status)
        self.send_header("Connection", "close")  # said, since a client may else ask again on the closed one
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if end:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, content: bytes) -> None:
        if self.publisher.cuts > 0:
            self.publisher.cuts -= 1
            content = content[: self.publisher.cut_after]
        with contextlib.suppress(ConnectionError):  # a client that has seen enough
            self.wfile.write(content)
