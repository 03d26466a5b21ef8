"""Bools as every reader takes them."""

import numpy as np


def zeros_and_ones(array: np.ndarray) -> np.ndarray:
    """``array``, of which bools whose byte is neither 0 nor 1 are True, and stored as 1.

    NumPy keeps any byte of a buffer or file as a bool, and takes all but 0 for true; MindSpore,
    safetensors and this package refuse or misread others.

    >>> zeros_and_ones(np.frombuffer(bytes([0, 1, 7]), np.bool_)).view(np.uint8).tolist()
    [0, 1, 1]
    """
    if array.dtype != np.bool_:
        return array
    held = array.view(np.uint8)
    return array if held.max(initial=0) <= 1 else held != 0
