"""``model.onnx`` and ``genai_config.json``: a decoder as ONNX Runtime GenAI serves it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.export
import numpy as np

from fnckpt.decoders.cache import Cache, Layer
from fnckpt.decoders.call import Decoder
from fnckpt.decoders.genai import PAST, PRESENT, context_length, genai_config
from fnckpt.exporting.export import export
from fnckpt.exporting.quantizing.options import Quantize
from fnckpt.exporting.result import ExportResult
from fnckpt.ir.passes.cached_attention import caches_of

PyTree = object
INT64 = np.dtype(np.int64)
INPUTS = {"mask": "attention_mask", "positions": "position_ids"}
OPSET = 23  # the first with RMSNormalization and Attention
SERVING: dict[str | None, str] = {"onnxruntime": "onnxruntime-genai"}


def write_onnx(
    found: Decoder,
    place: Path,
    config: Mapping[str, object],
    *,
    runtime: str | None,
    quantize: Quantize,
    options: Mapping[str, int | str],
) -> ExportResult:
    """Write ``model.onnx`` and ``genai_config.json`` into ``place``."""
    length = context_length(config)
    batch, new, past = jax.export.symbolic_shape(
        "batch, sequence, past", constraints=[f"past + sequence <= {length}"]
    )
    cache, rows = found.cache, range(len(found.cache.layers))
    between = [name for name in INPUTS if name in found.between]
    shapes = {"mask": (batch, past + new), "positions": (batch, new)}
    layer = jax.ShapeDtypeStruct((batch, cache.heads, past, cache.size), cache.dtype)
    sample = (
        jax.ShapeDtypeStruct((batch, new), INT64),
        *(jax.ShapeDtypeStruct(shapes[name], INT64) for name in between),
        [(layer, layer) for _ in rows],
    )
    inputs = {"input_ids": "input_ids", **{n: n for n in map(INPUTS.__getitem__, between)}}
    kinds = [(i, kind) for i in rows for kind in ("key", "value")]
    made = export(
        found.params,
        _as_file(found),
        sample,
        "ONNX",
        file_name=place / "model",
        input_names=[*inputs, *(PAST.format(kind) % i for i, kind in kinds)],
        output_names=["logits", *(PRESENT.format(kind) % i for i, kind in kinds)],
        quantize=quantize,
        runtime=SERVING.get(runtime, runtime),
        **{"opset": OPSET, **options},
    )
    shared = _shares(made, cache, "mask" in between)
    content = json.dumps(genai_config(found, config, inputs, shared=shared), indent=2)
    (place / "genai_config.json").write_text(content + "\n")
    return made


def _shares(made: ExportResult, cache: Cache, masked: bool) -> bool:
    """Whether the cache may lie in a longer buffer: then the mask says how many tokens it has."""
    return masked and len(caches_of(made.graph)) == 2 * len(cache.layers)


def _as_file(found: Decoder) -> Callable[..., PyTree]:
    """The function with the inputs that the file has."""

    def of_all(
        params: PyTree, ids: jax.Array, mask: jax.Array, positions: jax.Array, past: list[Layer]
    ) -> PyTree:
        return found(params, ids, mask, positions, past)

    def of_mask(params: PyTree, ids: jax.Array, mask: jax.Array, past: list[Layer]) -> PyTree:
        return found(params, ids, mask, None, past)

    def of_positions(
        params: PyTree, ids: jax.Array, positions: jax.Array, past: list[Layer]
    ) -> PyTree:
        return found(params, ids, None, positions, past)

    def of_ids(params: PyTree, ids: jax.Array, past: list[Layer]) -> PyTree:
        return found(params, ids, None, None, past)

    forms = {("mask",): of_mask, ("positions",): of_positions, (): of_ids}
    return forms.get(found.between, of_all)
