"""What ``import fnckpt`` gives, and what it costs."""

import json
from importlib.metadata import version

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
    "export",
    "load_checkpoint",
    "save_checkpoint",
    "train",
}

HEAVY = {"flax", "matplotlib", "mindspore", "onnx", "onnxruntime", "optax", "orbax", "rich"}

LOADED = """
import json, sys
import fnckpt
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_all_is_sorted_and_names_nothing_twice():
    assert list(fnckpt.__all__) == sorted(set(fnckpt.__all__))


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
