"""What a benchmark needs beyond the environment of the tests; without it the script ends well."""

from importlib.util import find_spec
from typing import NoReturn


def skip(why: str) -> NoReturn:
    """End the script with one line, so that ``make bench`` goes on with the next.

    Raises:
      SystemExit: with the exit code 0.
    """
    print(f"skipped: {why}")
    raise SystemExit(0)


def jax2onnx() -> None:
    """Skip without jax2onnx, which pins much and so has an environment of its own."""
    if find_spec("jax2onnx") is None:
        skip("needs jax2onnx; run it in an environment with pip install -e '.[bench,test]'")
