"""The page of a file, served to a browser on this machine."""

import re
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fnckpt.errors import FnckptError
from fnckpt.showing.page import page, policy
from fnckpt.visible import visible

LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Whether a Host header names this machine for itself.

    A page of another site that lets its own name point to 127.0.0.1 has another.

    >>> is_loopback("localhost:8000"), is_loopback("[::1]"), is_loopback("example.com:8000")
    (True, True, False)
    """
    return LOOPBACK.fullmatch(host) is not None


def error_page(title: str, told: str) -> str:
    """A page that says what is wrong."""
    lines = escape(visible(told, lines=True))
    head = f"<!doctype html><meta charset='utf-8'><title>{title}</title>"
    return f"{head}<h1>{title}</h1><pre>{lines}</pre>"


class PageHandler(BaseHTTPRequestHandler):
    """Answers every request with the page of the server's file, as the file is then."""

    def do_GET(self) -> None:
        """Send the page, or one that says why there is none."""
        assert isinstance(self.server, PageServer)
        if not is_loopback(self.headers.get("Host", "")):
            told = "This server answers only to its own address on this machine."
            self._send(HTTPStatus.FORBIDDEN, error_page("Not for this address", told))
            return
        try:
            body = page(self.server.path)
        except (FnckptError, OSError, ValueError) as error:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, error_page("No page", str(error)))
            return
        self._send(HTTPStatus.OK, body)

    def _send(self, status: HTTPStatus, text: str) -> None:
        body = text.encode("utf-8", "replace")
        self.send_response(status)
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
      FormatError: fnckpt cannot show this kind of file.
      OSError: the port is taken.
    """
    page(path)
    return PageServer(path, port)
