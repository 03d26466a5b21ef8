"""The real MindSpore, in a process of its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LOAD = """
import json, sys
import mindspore
found = {}
for path in sys.argv[2:]:
    loaded = mindspore.load_checkpoint(path, crc_check=True)
    found[path] = {
        name: ["str", [], value] if isinstance(value, str)
        else [str(value.dtype), list(value.shape), value.get_bytes().hex()]
        for name, value in loaded.items()
    }
json.dump(found, open(sys.argv[1], "w"))
"""

SAVE = """
import json, sys
import mindspore
from mindspore import Parameter, Tensor
directory = sys.argv[1]
for file, (tensors, options) in json.load(open(directory + "/spec.json")).items():
    tree, texts = [], {}
    for name, (kind, shape, content) in tensors.items():
        if kind == "str":
            texts[name] = content
        else:
            tensor = Tensor.convert_bytes_to_tensor(  # as load_checkpoint; of bfloat16 too
                bytes.fromhex(content), tuple(shape), getattr(mindspore, kind))
            tree.append({"name": name, "data": Parameter(tensor, name=name)})
    key = options.pop("enc_key", None)
    if key is not None:
        options["enc_key"] = bytes.fromhex(key)
    mindspore.save_checkpoint(tree, directory + "/" + file, append_dict=texts, **options)
"""

Tensors = dict[str, tuple[str, list[int], str]]


@pytest.fixture(scope="session")
def mindspore_load(run_python, tmp_path_factory) -> Callable[..., dict[str, Tensors]]:
    """``mindspore_load(paths)``: path -> name -> (tensor type, shape, content in hexadecimal)."""

    def load(*paths: Path) -> dict[str, Any]:
        result = tmp_path_factory.mktemp("load") / "found.json"
        run_python(LOAD, result, *paths)
        return json.loads(result.read_text())

    return load


@pytest.fixture(scope="session")
def mindspore_save(run_python) -> Callable[..., None]:
    """``mindspore_save(directory, files)``: file -> (tensors, options of save_checkpoint)."""

    def save(directory: Path, files: dict[str, tuple[Tensors, dict[str, Any]]]) -> None:
        (directory / "spec.json").write_text(json.dumps(files))
        run_python(SAVE, directory)

    return save
