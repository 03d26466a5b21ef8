"""Every reader through every command, on thousands of damaged files: a documented error or none.

``python -m tests.fuzzing.test_readers 100000`` does so many of each reader.
"""

import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest

import fnckpt
from fnckpt.checkpoints.convert import convert
from fnckpt.checkpoints.pytree import load_checkpoint, save_checkpoint
from fnckpt.errors import FnckptError
from fnckpt.exporting.run import run_named
from fnckpt.importing.load import load_graph
from fnckpt.showing.diff import differences
from fnckpt.showing.inspect import check_file, inspect_file, statistics, tree
from fnckpt.showing.page import page
from fnckpt.training.saving.graph_meta import write_graph_meta
from tests.fuzzing import mutations
from tests.fuzzing.mutations import Mutation

MUTATIONS = 5000  # of each reader, in 160 s together
MOST_SECONDS = 5.0  # of one command with one file

X = np.linspace(-1, 1, 2 * 8 * 8 * 3, dtype=np.float32).reshape(2, 8, 8, 3)
Command = Callable[[Path], object]
KEY = bytes(range(16))


def network(params: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
    x = jax.lax.conv_general_dilated(
        x, params["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jax.nn.relu(x + params["bias"]).mean((1, 2))
    return jax.nn.softmax(x @ params["w"]).cumsum(1)[:, ::-1]


PARAMS = {
    "kernel": np.ones((3, 3, 3, 4), np.float32),
    "bias": np.zeros(4, np.float32),
    "w": np.arange(20, dtype=np.float32).reshape(4, 5),
}
ARRAYS = {
    "a.w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.n": np.arange(3),
    "flag": np.array([True, False]),
}


def graph(file_format: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return fnckpt.export(PARAMS, network, X, file_format, file_name=folder / "net").path

    return make


def meta(folder: Path) -> Path:
    path = folder / "CKP-graph.meta"
    write_graph_meta(jax.make_jaxpr(network)(PARAMS, X), path)
    return path


def checkpoint(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = save_checkpoint(ARRAYS, folder / "a.ckpt")
        return path if suffix == ".ckpt" else convert(path, folder / f"a{suffix}")

    return make


def encrypted(folder: Path) -> Path:
    return save_checkpoint(ARRAYS, folder / "e.ckpt", enc_key=KEY)


def run(path: Path) -> object:
    return run_named(path, {"x": X})


def imported(path: Path) -> object:
    """Read, and every operator imported; what cannot be is said when it is asked for."""
    return load_graph(path).graph


def converted(suffix: str) -> Command:
    return lambda path: convert(path, path.with_name(f"other{suffix}"))


SHOWING: tuple[Command, ...] = (inspect_file, check_file, page)
TABLES: tuple[Command, ...] = (statistics, tree)


@dataclass(frozen=True)
class Fuzzed:
    """A reader: a good file of it, how it is damaged, and the commands that read it."""

    make: Callable[[Path], Path]
    mutate: Mutation
    commands: tuple[Command, ...]


READERS = {
    "onnx": Fuzzed(graph("ONNX"), mutations.message, (*SHOWING, run)),
    "mindir": Fuzzed(graph("MINDIR"), mutations.message, SHOWING),
    "air": Fuzzed(graph("AIR"), mutations.message, (*SHOWING, run, imported)),
    "meta": Fuzzed(meta, mutations.message, SHOWING),
    "npz": Fuzzed(
        checkpoint(".npz"), mutations.archive, (converted(".ckpt"), converted(".safetensors"))
    ),
    "safetensors": Fuzzed(
        checkpoint(".safetensors"), mutations.safetensors, (converted(".ckpt"), converted(".npz"))
    ),
    "ckpt": Fuzzed(
        checkpoint(".ckpt"),
        mutations.message,
        (*SHOWING, *TABLES, load_checkpoint, converted(".npz"), converted(".safetensors")),
    ),
    "encrypted": Fuzzed(
        encrypted, mutations.anything, (lambda path: load_checkpoint(path, dec_key=KEY), check_file)
    ),
}


def fuzz(reader: Fuzzed, folder: Path, count: int, seed: int) -> list[str]:
    """What went wrong, a line each, in ``count`` damaged files."""
    pick, found = random.Random(seed), list[str]()
    good = reader.make(folder)
    data = good.read_bytes()
    path = folder / f"bad{good.suffix}"
    for _ in range(count):
        damaged = data
        for _ in range(pick.randrange(1, 4)):
            damaged = reader.mutate(damaged, pick)
        path.write_bytes(damaged)
        commands = list(reader.commands)
        if good.suffix in (".onnx", ".mindir", ".air", ".ckpt"):
            commands.append(lambda bad: differences(good, bad))
        for command in commands:
            fault = tried(command, path, len(damaged))
            if fault:
                found.append(f"{fault} from {damaged.hex()}")
    return found


def tried(command: Command, path: Path, size: int) -> str:
    """What a command did that it should not; empty where it ended well or was refused."""
    start = time.process_time()
    try:
        with warnings.catch_warnings(), suppress(FnckptError, OSError):
            warnings.simplefilter("ignore")
            command(path)
    except (ValueError, RuntimeError, TypeError) as error:
        if str(path.parent) not in str(error):  # documented errors begin with the file
            return f"{getattr(command, '__name__', command)}: {type(error).__name__}: {error}"
    except BaseException as error:
        return f"{getattr(command, '__name__', command)}: {type(error).__name__}: {error}"
    seconds = time.process_time() - start
    return f"{command}: {seconds} s" if seconds > MOST_SECONDS else ""


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused_through_every_command(name: str, tmp_path: Path) -> None:
    assert fuzz(READERS[name], tmp_path, MUTATIONS, seed=0) == []


if __name__ == "__main__":
    for name in sys.argv[2:] or READERS:
        with tempfile.TemporaryDirectory() as directory:
            begun = time.time()
            faults = fuzz(READERS[name], Path(directory), int(sys.argv[1]), seed=int(begun))
            print(f"{name}: {sys.argv[1]} files, {len(faults)} faults, {time.time() - begun:.0f} s")
            for fault in list({each.split(" from ")[0][:300]: each for each in faults})[:30]:
                print("  ", fault)
