"""What the user's own code raises, as one line with its place."""

import sysconfig
from pathlib import Path
from traceback import FrameSummary, extract_tb
from types import TracebackType

from fnckpt.errors import FnckptError

# Frames of these are not the user's.
LIBRARIES = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(__file__).parents[1]),
    str(Path(__file__).parents[2] / "ir"),
    "<frozen",
)


class UsersCode:
    """Code of the user runs in this block: what it raises becomes a ``ValueError`` of one line.

    Errors that none of the user's lines raised, or that are ours, stay as they are; but for a
    TypeError, which tells of a function that cannot be called so.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, FnckptError | KeyboardInterrupt):
            return
        place = _place(error, traceback)
        lines = [line.strip() for line in _message(error).splitlines() if line.strip()]
        said = f": {lines[0]}" if lines else ""
        if isinstance(error, TypeError) and not place:  # the function is not one to be exported
            raise ValueError(f"{self._name}: {' '.join(lines)}") from error
        if place:
            raise ValueError(f"{self._name}: {place}: {type(error).__name__}{said}") from error


def _message(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return error.msg
    if isinstance(error, SystemExit):
        return f"it ends the process with {error.code}; put that under if __name__ == '__main__'"
    return str(error)


def _place(error: BaseException, traceback: TracebackType | None) -> str:
    """The innermost line of the user's that was under way; empty where there was none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [frame for frame in extract_tb(traceback) if _is_the_users(frame)]
    if not frames:
        return ""
    last = frames[-1]
    text = f": {last.line}" if last.line else ""
    return f"{last.filename}:{last.lineno} in {last.name}{text}"


def _is_the_users(frame: FrameSummary) -> bool:
    return not frame.filename.startswith(LIBRARIES)
