"""``ir/`` and ``proto/`` are imported as ``fnckpt.ir`` and ``fnckpt.proto``, and only so."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["ir", "proto"])
def test_the_link_in_the_package_is_relative(root, name):
    assert os.readlink(root / "fnckpt" / name) == f"../{name}"


def test_import_ir_at_the_root_says_what_to_import(root):
    command = [sys.executable, "-c", "import ir"]
    child = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert child.returncode == 1
    assert "ImportError: ir is the source folder of fnckpt.ir; import fnckpt.ir" in child.stderr


def test_import_proto_at_the_root_gives_proto_plus(run_python):
    assert run_python("import proto; print(proto.Message.__module__)") == "proto.message\n"


def test_both_folders_are_imported_below_fnckpt(root, run_python, tmp_path):
    code = (
        "import fnckpt.ir.graph, fnckpt.proto.pool\n"
        "print(fnckpt.ir.graph.__file__, fnckpt.proto.pool.__file__)"
    )
    for folder in (root, tmp_path):
        graph, pool = run_python(code, cwd=folder).split()
        assert os.path.samefile(graph, root / "ir" / "graph.py")
        assert os.path.samefile(pool, root / "proto" / "pool.py")
