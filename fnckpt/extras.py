"""Libraries that an installation may lack, and the extra that brings each."""

from importlib.util import find_spec

EXTRAS = {
    "cryptography": "crypto",
    "mindspore": "mindspore",
    "onnx_ir": "quantize",
    "onnxruntime": "run",
    "onnxruntime_genai": "genai",
    "rich": "cli",
    "safetensors": "safetensors",
    "sklearn": "demo",
}


def is_installed(module: str) -> bool:
    """Whether a library is there; it is not imported."""
    return find_spec(module) is not None


def install(module: str) -> str:
    """The command that installs a library.

    >>> install("cryptography")
    "pip install 'fnckpt[crypto]'"
    >>> install("matplotlib")
    'pip install matplotlib'
    """
    return (
        f"pip install 'fnckpt[{EXTRAS[module]}]'" if module in EXTRAS else f"pip install {module}"
    )


def require(module: str, what: str) -> None:
    """Say how to install a library that ``what`` needs.

    Raises:
      ModuleNotFoundError: it is not installed.
    """
    if not is_installed(module):
        raise ModuleNotFoundError(
            f"{what} needs {module}, which is not installed: {install(module)}", name=module
        )
