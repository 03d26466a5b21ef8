"""Networks of Keras, Haiku, Equinox and transformers, in every format, give JAX's numbers.

The large ones are in ``python -m benchmarks.networks``.
"""

from datetime import date
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

import fnckpt
from fnckpt.exporting.runtimes import RUNTIMES
from fnckpt.importing.load import load_graph
from fnckpt.showing.inspect import check_file
from tests.importing.test_round_trips import operators
from tests.networks.others import LARGE, OTHERS
from tests.networks.test_networks import assert_equal_numbers

SMALL = [name for name in OTHERS if name not in LARGE]


@pytest.mark.parametrize("name", SMALL)
def test_a_network_of_others_gives_the_numbers_of_jax(name: str, tmp_path: Path) -> None:
    params, apply_fn, inputs = OTHERS[name]()
    wanted = [np.asarray(x) for x in jax.tree.leaves(eqx.filter_jit(apply_fn)(params, *inputs))]
    for file_format in RUNTIMES:
        model = fnckpt.export(params, apply_fn, inputs, file_format, file_name=tmp_path / name)
        assert check_file(model.path) == []
        assert_equal_numbers(RUNTIMES[file_format][1](model, inputs), wanted)


@pytest.mark.parametrize("file_format", RUNTIMES)
def test_a_network_of_others_comes_back(file_format: str, tmp_path: Path) -> None:
    name = SMALL[date.today().toordinal() % len(SMALL)]  # each in turn
    params, apply_fn, inputs = OTHERS[name]()
    wanted = [np.asarray(x) for x in jax.tree.leaves(eqx.filter_jit(apply_fn)(params, *inputs))]
    model = fnckpt.export(params, apply_fn, inputs, file_format, file_name=tmp_path / name)
    own, loaded = load_graph(model)
    found = [np.asarray(x) for x in jax.tree.leaves(jax.jit(loaded)(own, *inputs))]
    assert_equal_numbers(found, wanted)


@pytest.mark.parametrize("file_format", RUNTIMES)
@pytest.mark.parametrize("name", ["bert", "equinox_cnn", "gpt2", "t5_encoder", "vit"])
def test_a_network_that_comes_back_is_written_with_no_more_operators(
    name: str, file_format: str, tmp_path: Path
) -> None:
    params, apply_fn, inputs = OTHERS[name]()
    first = fnckpt.export(params, apply_fn, inputs, file_format, file_name=tmp_path / name)
    own, loaded = load_graph(first)
    second = fnckpt.export(own, loaded, inputs, file_format, file_name=tmp_path / "again")
    more = operators(second.path, file_format) - operators(first.path, file_format)
    assert not more
