"""``fnckpt view`` and ``fnckpt serve-view``."""

import argparse
from pathlib import Path

from fnckpt.cli.registry import command


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="the page; FILE.html if left out")


@command("view", "write a page that shows a file, a graph as a drawing", _arguments)
def view(options: argparse.Namespace) -> int:
    from fnckpt.files import replacing
    from fnckpt.showing.page import page

    text = page(options.file)
    path = options.output or options.file.with_name(options.file.name + ".html")
    with replacing(path) as file:
        file.write(text.encode())
    print(path)
    return 0


def _serving(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path)
    parser.add_argument("--port", type=int, default=0, help="a free one if left out")


@command("serve-view", "serve that page on this machine until Ctrl-C", _serving)
def serve_view(options: argparse.Namespace) -> int:
    from fnckpt.showing.serve import server

    with server(options.file, options.port) as serving:
        print(f"http://127.0.0.1:{serving.server_port}/", flush=True)
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0
