"""Kinds of Flax modules: the leaves of each as the parameters of a MindSpore cell, and back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Kind:
    """A kind of module, for ``kinds=``.

    Attributes:
      name: what it is.
      fits: whether leaves of these shapes, below the module's path, are of this kind.
      forth: the parameters of the cell, from the leaves of the module.
      back: the leaves of the module, given their shapes, from the parameters of the cell.
    """

    name: str
    fits: Callable[[Shapes], bool]
    forth: Callable[[Arrays], Arrays]
    back: Callable[[Arrays, Shapes], Arrays]


def renaming(name: str, fits: Callable[[Shapes], bool], names: Mapping[str, str]) -> Kind:
    """A kind whose leaves keep their layout and take the names ``names``."""

    def forth(held: Arrays) -> Arrays:
        return {names.get(leaf, leaf): array for leaf, array in held.items()}

    def back(cell: Arrays, shapes: Shapes) -> Arrays:
        return {leaf: cell[names.get(leaf, leaf)] for leaf in shapes}

    return Kind(name, fits, forth, back)


def weighted(
    name: str,
    fits: Callable[[Shapes], bool],
    forth: Callable[[np.ndarray], np.ndarray],
    back: Callable[[np.ndarray, tuple[int, ...]], np.ndarray],
) -> Kind:
    """A kind with a ``kernel``, which becomes ``weight`` by ``forth``, and perhaps a ``bias``."""

    def all_forth(held: Arrays) -> Arrays:
        bias = {"bias": held["bias"].reshape(-1)} if "bias" in held else {}
        return {"weight": forth(held["kernel"]), **bias}

    def all_back(cell: Arrays, shapes: Shapes) -> Arrays:
        bias = {"bias": cell["bias"].reshape(shapes["bias"])} if "bias" in shapes else {}
        return {"kernel": back(cell["weight"], shapes["kernel"]), **bias}

    return Kind(name, fits, all_forth, all_back)


def _kernel_of_rank(*ranks: int) -> Callable[[Shapes], bool]:
    return lambda shapes: len(shapes.get("kernel", ())) in ranks and set(shapes) <= _WEIGHTED


_WEIGHTED = {"kernel", "bias"}


def _never(shapes: Shapes) -> bool:
    return False


def _reversed_spatial(kernel: np.ndarray) -> np.ndarray:
    return np.flip(kernel, tuple(range(kernel.ndim - 2)))


DENSE = weighted(
    "Dense", _kernel_of_rank(2), lambda kernel: kernel.T, lambda weight, shape: weight.T
)
CONV_1D = weighted(
    "Conv1d",
    _kernel_of_rank(3),
    lambda kernel: kernel.transpose(2, 1, 0)[:, :, None],
    lambda weight, shape: weight[:, :, 0].transpose(2, 1, 0),
)
CONV = weighted(
    "Conv",
    _kernel_of_rank(4, 5),
    lambda kernel: np.moveaxis(kernel, (-1, -2), (0, 1)),
    lambda weight, shape: np.moveaxis(weight, (0, 1), (-1, -2)),
)
CONV_TRANSPOSE = weighted(  # looks like CONV, so it has to be named in ``kinds``
    "ConvTranspose",
    _never,
    lambda kernel: np.moveaxis(_reversed_spatial(kernel), (-2, -1), (0, 1)),
    lambda weight, shape: _reversed_spatial(np.moveaxis(weight, (0, 1), (-2, -1))),
)
ATTENTION_IN = weighted(
    "attention, query, key or value",
    _never,
    lambda kernel: kernel.reshape(len(kernel), -1).T,
    lambda weight, shape: weight.T.reshape(shape),
)
ATTENTION_OUT = weighted(
    "attention, out",
    _never,
    lambda kernel: kernel.reshape(-1, kernel.shape[-1]).T,
    lambda weight, shape: weight.T.reshape(shape),
)
NORM = renaming(
    "normalization",
    lambda shapes: bool({"scale", "mean"} & set(shapes)),
    {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"},
)
EMBEDDING = renaming(
    "Embedding", lambda shapes: set(shapes) == {"embedding"}, {"embedding": "embedding_table"}
)
OTHER = renaming("other", lambda shapes: True, {})


def recurrent(name: str, gates: str) -> Kind:
    """A recurrent cell: Dense modules ``i<gate>`` from the input and ``h<gate>`` from the state.

    MindSpore stacks the gates and has both biases for each; the one that Flax lacks is zero, and
    on the way back it is added to the other.
    """
    modules = {f"{side}{gate}" for side in "ih" for gate in gates}

    def fits(shapes: Shapes) -> bool:
        return {leaf.split(".")[0] for leaf in shapes} == modules

    def forth(held: Arrays) -> Arrays:
        size = held[f"h{gates[0]}.kernel"].shape[0]
        none = np.zeros(size, held[f"h{gates[0]}.kernel"].dtype)
        cell: Arrays = {}
        for side in "ih":
            kernels = [held[f"{side}{gate}.kernel"].T for gate in gates]
            biases = [held.get(f"{side}{gate}.bias", none) for gate in gates]
            cell[f"weight_{side}h_l0"] = np.concatenate(kernels)
            cell[f"bias_{side}h_l0"] = np.concatenate(biases)
        return cell

    def back(cell: Arrays, shapes: Shapes) -> Arrays:
        held: Arrays = {}
        for index, gate in enumerate(gates):
            biases = {side: np.split(cell[f"bias_{side}h_l0"], len(gates))[index] for side in "ih"}
            both = all(f"{side}{gate}.bias" in shapes for side in "ih")
            for side in "ih":
                kernel = np.split(cell[f"weight_{side}h_l0"], len(gates))[index]
                held[f"{side}{gate}.kernel"] = kernel.T
                if f"{side}{gate}.bias" in shapes:
                    held[f"{side}{gate}.bias"] = biases[side] if both else sum_of(biases)
        return held

    return Kind(name, fits, forth, back)


def sum_of(biases: Mapping[str, np.ndarray]) -> np.ndarray:
    """The bias of one gate in Flax: that of MindSpore's input side and its state side."""
    return biases["i"] + biases["h"]


LSTM = recurrent("LSTM", "ifgo")
GRU = recurrent("GRU", "rzn")

KINDS = (DENSE, CONV_1D, CONV, NORM, EMBEDDING, OTHER)
CELLS = (LSTM, GRU)
ATTENTION = {
    "query": ATTENTION_IN,
    "key": ATTENTION_IN,
    "value": ATTENTION_IN,
    "out": ATTENTION_OUT,
}
