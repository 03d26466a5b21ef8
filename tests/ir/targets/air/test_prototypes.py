"""The table of prototypes that ships with the package."""

import gzip
import json
from importlib.resources import files

from fnckpt.ir.operators import OPERATORS
from fnckpt.ir.targets.air import TARGET
from fnckpt.ir.targets.air.infer_network import RULES
from fnckpt.ir.targets.air.kernels_window import KERNELS
from fnckpt.ir.targets.air.pack_prototypes import pack
from fnckpt.ir.targets.air.prototypes import NEWER, RELEASE, prototype, types_of

PACKED = files("fnckpt.ir.targets.air").joinpath("prototypes.json.gz").read_bytes()


def test_both_sets_are_there_whole() -> None:
    assert (len(types_of(RELEASE)), len(types_of(NEWER))) == (997, 1600)
    for release in (RELEASE, NEWER):
        assert all(prototype(name, release) for name in types_of(release))


def test_the_data_file_is_small_and_says_where_it_comes_from() -> None:
    assert len(PACKED) < 200_000
    data = json.loads(gzip.decompress(PACKED))
    assert "graphengine" in data["source"]
    assert "r1.1" in data["source"]


def test_the_packing_script_makes_the_same_bytes_from_the_same_facts() -> None:
    data = json.loads(gzip.decompress(PACKED))
    data["unrelated"] = "left out"
    for rows in data["ops"].values():
        for row in rows.values():
            row["h"] = "the header's name"
    assert pack(data) == PACKED


def test_a_prototype_has_its_ports_in_order_and_its_defaults() -> None:
    conv = prototype("Conv2D")
    assert conv is not None
    assert [(port.name, port.kind) for port in conv.inputs] == [
        ("x", "req"), ("filter", "req"), ("bias", "opt"), ("offset_w", "opt"),
    ]  # fmt: skip
    strides, data_format = conv.attribute("strides"), conv.attribute("data_format")
    assert strides is not None
    assert strides.required
    assert data_format is not None
    assert data_format.default == "NHWC"


def test_every_type_with_a_kernel_has_a_prototype_and_a_shape_function() -> None:
    assert set(KERNELS) <= types_of(RELEASE)
    assert set(KERNELS) == set(RULES)


def test_every_operator_is_emitted_legalized_or_explained() -> None:
    rewritten = {rule.pattern.op for rule in TARGET.legalize} | {"Split"}  # by its TupleGetItems
    assert set(OPERATORS) <= set(TARGET.emitters) | set(TARGET.cannot) | rewritten
    assert set(TARGET.emitters) <= set(OPERATORS)
    assert not set(TARGET.emitters) & set(TARGET.cannot)
