"""The user's own line of an equation."""

import linecache
import re
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from jax.extend.core import JaxprEqn
from jax.extend.source_info_util import summarize

FRAME = re.compile(r"(?P<file>.*?):(?P<line>\d+)(:\d+)? \((?P<function>.*)\)")
# The last is this package: rules that are written in JAX trace their own lines.
LIBRARIES = (
    sysconfig.get_path("purelib"),
    sysconfig.get_path("platlib"),
    str(Path(__file__).parents[1]),
)


def user_line(path: Sequence[JaxprEqn]) -> str:
    """The innermost line outside the installed packages that made the last equation of ``path``.

    ``path`` leads inwards from the outermost jaxpr. All of it is searched, because an equation of
    a cached inner jaxpr (the svd in ``jnp.linalg.svd``) carries no frame of its own. The form is
    ``file:line in function: text``, the text also from a notebook's cell.
    """
    frames = [
        frame
        for eqn in reversed(path)
        for frame in reversed(summarize(eqn.source_info, num_frames=64).split("\n"))
        if frame
    ]
    own = [frame for frame in frames if not frame.startswith(LIBRARIES)]
    found = FRAME.fullmatch((own or frames or [""])[0])
    if not found:
        return "a line that JAX did not record"
    file, line, function = found.group("file", "line", "function")
    text = linecache.getline(file, int(line)).strip()
    return f"{file}:{line} in {function}: {text}"
