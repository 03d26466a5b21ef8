"""What ``import fnckpt`` gives, and what it costs."""

import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.metadata import version
from typing import Any, get_args, get_overloads, get_type_hints

import pytest

import fnckpt

PROMISED = {
    "CheckpointMismatch",
    "CheckpointPolicy",
    "ExportResult",
    "FnckptError",
    "FormatError",
    "TrainResult",
    "UnsupportedError",
    "convert",
    "export",
    "load_checkpoint",
    "run",
    "save_checkpoint",
    "train",
}

HEAVY = {"flax", "matplotlib", "mindspore", "onnx", "onnxruntime", "optax", "orbax", "rich"}

LOADED = """
import json, sys
import fnckpt
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_all_names_nothing_twice():  # that it is sorted, ruff sees to
    assert len(fnckpt.__all__) == len(set(fnckpt.__all__))


def test_every_promised_name_is_public():
    assert set(fnckpt.__all__) >= PROMISED


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_a_promised_name_exists_says_where_it_belongs_and_is_documented(name):
    value = getattr(fnckpt, name)
    assert value.__name__ == name
    assert value.__module__.startswith("fnckpt")
    assert value.__doc__


def test_dir_lists_the_public_names():
    assert set(fnckpt.__all__) <= set(dir(fnckpt))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(fnckpt, "no_such_name")  # noqa: B009 - as an attribute, pyright would refuse it


def test_the_version_is_the_one_that_is_installed():
    assert fnckpt.__version__ == version("fnckpt")


def test_importing_fnckpt_imports_nothing_heavy(run_python):
    assert HEAVY.isdisjoint(json.loads(run_python(LOADED)))


def test_errors_are_of_the_promised_kinds():
    assert issubclass(fnckpt.UnsupportedError, NotImplementedError)
    assert issubclass(fnckpt.FormatError, ValueError)
    for error in (fnckpt.UnsupportedError, fnckpt.FormatError, fnckpt.CheckpointMismatch):
        assert issubclass(error, fnckpt.FnckptError)


def test_importing_it_warns_of_nothing(run_python):
    assert run_python("import warnings; warnings.simplefilter('error'); import fnckpt") == ""


@pytest.mark.parametrize("name", sorted(n for n in fnckpt.__all__ if callable(getattr(fnckpt, n))))
def test_no_annotation_of_a_public_name_is_any(name):
    assert [place for place, hint in annotations(getattr(fnckpt, name)) if holds_any(hint)] == []


def annotations(value: Callable[..., object]) -> Iterator[tuple[str, object]]:
    """(where, type) of what a public function or class takes, gives and holds."""
    names = {"ocp": import_module("orbax.checkpoint")}  # loop.py has it for checkers only
    members = vars(value).values() if inspect.isclass(value) else []
    functions = [member for member in members if inspect.isfunction(member)]
    for owner in [value, *functions, *get_overloads(value)]:
        for name, hint in get_type_hints(owner, localns=names).items():
            yield f"{owner.__qualname__}: {name}", hint


def holds_any(hint: object) -> bool:
    """Whether ``hint`` is Any, or a generic of it."""
    return hint is Any or any(map(holds_any, flattened(get_args(hint))))


def flattened(arguments: Iterable[object]) -> Iterator[object]:
    """Arguments of a generic type; those of a Callable are in a list."""
    for argument in arguments:
        yield from argument if isinstance(argument, list) else [argument]


EXPORTED = """
import json, sys, tempfile
import fnckpt, jax
with tempfile.TemporaryDirectory() as folder:
    name, x = f"{folder}/net", jax.numpy.ones(3)
    fnckpt.export({}, lambda _, x: jax.nn.silu(x), x, "ONNX", file_name=name)
print(json.dumps(sorted(name for name in sys.modules if name.startswith("scipy."))))
"""


def test_an_export_that_needs_nothing_of_scipy_does_not_wait_for_it(run_python):
    loaded = json.loads(run_python(EXPORTED))
    assert {"scipy.special", "scipy.sparse", "scipy.linalg"}.isdisjoint(loaded)
