"""The page of a file, served to a browser on this machine."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fnckpt.showing.page import page, policy


class PageHandler(BaseHTTPRequestHandler):
    """Answers every request with the page of the server's file, as the file is then."""

    def do_GET(self) -> None:
        """Send the page."""
        assert isinstance(self.server, PageServer)
        body = page(self.server.path).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Security-Policy", policy())
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class PageServer(ThreadingHTTPServer):
    """A server on this machine alone."""

    def __init__(self, path: Path, port: int) -> None:
        self.path = path
        super().__init__(("127.0.0.1", port), PageHandler)


def server(path: Path, port: int = 0) -> PageServer:
    """A server of the page of ``path`` on 127.0.0.1; port 0 takes a free one.

    Raises:
      FormatError: the file is none that fnckpt shows.
      OSError: the port is taken.
    """
    page(path)
    return PageServer(path, port)
