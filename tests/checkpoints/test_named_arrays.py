"""A loaded checkpoint is a dict that shows what it holds, not its numbers."""

import pickle
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

import fnckpt
from fnckpt.checkpoints.named_arrays import MOST_READ, MOST_ROWS, Arrays

TREE = {
    "dense": {"kernel": np.full((2, 3), 2, np.float32), "bias": np.zeros(3, np.float32)},
    "step": np.int32(7),
    "<b>": np.ones(1, np.complex64),
}


def loaded(folder: Path) -> Arrays:
    path = fnckpt.save_checkpoint(TREE, folder / "a.ckpt", portable=False)
    return fnckpt.load_checkpoint(path)


def test_it_prints_type_bytes_and_norm_of_each_tensor(tmp_path: Path) -> None:
    assert repr(loaded(tmp_path)).splitlines() == [
        "4 arrays, 48 bytes",
        "  <b>           complex64[1]  8 bytes   norm 1",
        "  dense.bias    float32[3]    12 bytes  norm 0",
        "  dense.kernel  float32[2,3]  24 bytes  norm 4.899",
        "  step          int32[]       4 bytes   norm 7",
    ]


def test_of_many_it_prints_the_first_and_how_many_are_left() -> None:
    lines = repr(Arrays({str(i): np.zeros(1) for i in range(100)})).splitlines()
    assert len(lines) == MOST_ROWS + 2
    assert lines[-1] == f"  and {100 - MOST_ROWS} more"


def test_norms_are_left_out_where_they_would_read_much() -> None:
    large = np.broadcast_to(np.float32(1), (MOST_READ + 1,))
    assert repr(Arrays({"a": np.ones(1), "b": large})).splitlines()[2].endswith("bytes")


def test_in_a_notebook_it_is_a_tree_whose_branches_open(tmp_path: Path) -> None:
    html = loaded(tmp_path)._repr_html_()
    tree = ElementTree.fromstring(html.replace(" open", " open=''"))
    summaries = ["".join(each.itertext()) for each in tree.iter("summary")]
    assert summaries == ["dense 2, 36 bytes"]
    cells = ["".join(each.itertext()) for each in tree.iter("td")]
    assert cells[:4] == ["<b>", "complex64[1]", "8 bytes", "norm 1"]
    assert "float32[2,3]" in cells


def test_it_is_a_dict_in_all_else(tmp_path: Path) -> None:
    found = loaded(tmp_path)
    assert isinstance(found, dict)
    assert list(found) == ["<b>", "dense.bias", "dense.kernel", "step"]
    again = pickle.loads(pickle.dumps(found))
    assert repr(again) == repr(found)
    assert {**found}.keys() == found.keys()
