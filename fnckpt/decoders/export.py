"""From a decoder in JAX to a directory that ONNX Runtime GenAI serves."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.export
import numpy as np

from fnckpt.decoders.cache import Cache, Layer
from fnckpt.decoders.call import Decoder, decoder
from fnckpt.decoders.genai import (
    PAST,
    PRESENT,
    Json,
    context_length,
    genai_config,
    settings,
    write_tokenizer,
)
from fnckpt.decoders.generating import check
from fnckpt.decoders.transformers_flax import FlaxModel, function_of
from fnckpt.exporting.export import export
from fnckpt.exporting.quantizing.options import Quantize
from fnckpt.exporting.result import ExportResult
from fnckpt.extras import require
from fnckpt.ir.passes.cached_attention import caches_of

PyTree = object
INT64 = np.dtype(np.int64)
INPUTS = {"mask": "attention_mask", "positions": "position_ids"}
OPSET = 23  # the first with RMSNormalization and Attention
SERVING: dict[str | None, str] = {"onnxruntime": "onnxruntime-genai"}
CHECKED_TOKENS, CHECKED_PROMPT = 8, 4
SHORT_BUFFER = 16


@dataclass(frozen=True)
class DecoderResult(os.PathLike[str]):
    """A directory that was written. It can stand wherever a path can.

    Attributes:
      directory: with ``model.onnx``, its data, ``genai_config.json`` and a tokenizer's files.
      model: what ``export`` told of the file.
      tokenizer: the names of the tokenizer's files.
      generated: what ONNX Runtime GenAI wrote while the file was checked, the prompt included;
        None without ``verify``.
    """

    directory: Path
    model: ExportResult
    tokenizer: tuple[str, ...]
    generated: tuple[int, ...] | None

    def __fspath__(self) -> str:
        """The path of the directory."""
        return str(self.directory)

    def __repr__(self) -> str:
        """One line a fact."""
        tokens = self.generated
        checked = "no" if tokens is None else f"{len(tokens)} tokens by onnxruntime-genai"
        facts = [
            ("directory", str(self.directory)),
            ("tokenizer", ", ".join(self.tokenizer) or "none"),
            ("checked", checked),
            *(row for row in self.model.rows() if row[0] not in ("file", "inputs", "outputs")),
        ]
        lines = "\n".join(f"  {name:<11}{value}" for name, value in facts)
        return f"DecoderResult\n{lines}"


def export_decoder(
    params: PyTree,
    apply_fn: Callable[..., PyTree],
    directory: str | os.PathLike[str],
    *,
    cache: PyTree = None,
    config: object = None,
    tokenizer: object = None,
    quantize: Quantize = None,
    runtime: str | None = "onnxruntime",
    verify: bool = True,
    **options: int | str,
) -> DecoderResult:
    """Write a language model with a cache as a directory that ONNX Runtime GenAI serves.

    Args:
      params: the weights, a pytree.
      apply_fn: a pure function ``(params, ids, mask or positions, cache) -> (logits, cache)``, or
        with both, or with neither; which one is which its arguments' names say. ``ids`` and
        positions are ``int32[batch, sequence]``, the mask ``int32[batch, past + sequence]`` with 0
        for padding, the logits ``[batch, sequence, vocabulary]``. Or a Flax model of transformers.
      directory: is made where it is not there.
      cache: arrays or shapes of a cache that holds some tokens: pairs of a key and a value for each
        layer, in any pytree, of ``[batch, heads, past, size]`` or ``[batch, past, heads, size]``;
        it comes back longer by the new tokens. Or a buffer of a fixed length with an index beside
        it, as Flax has it (``cached_key``, ``cached_value``, ``cache_index``). Of a model of
        transformers it may be left out.
      config: names as in transformers' ``config.json`` (a dict, an object, or its path):
        ``bos_token_id``, ``eos_token_id`` (GenAI takes 0 for the end where none is given),
        ``pad_token_id``, ``context_length`` or ``max_position_embeddings`` (2048 if none is
        given), ``num_attention_heads``.
      tokenizer: the directory of one, whose files are copied, or a tokenizer of transformers.
      quantize: as in ``export``: ``"int4"``, ``"int8"`` or a ``fnckpt.Quantization``.
      runtime: as in ``export``; None keeps to standard operators.
      verify: let ONNX Runtime GenAI continue a short prompt before the directory gets its files,
        and see that JAX would choose each token (of integers only that it generates).
      options: of ``export`` to ONNX.

    Returns:
      The directory, and what ``export`` tells of the file.

    Raises:
      TypeError: a function of other arguments or with another result.
      ValueError: a cache that changes otherwise than by growing; the message names its arrays.
      UnsupportedError: something in the function cannot be said in ONNX.
      VerificationError: ONNX Runtime GenAI chooses a token that JAX would not.
      ModuleNotFoundError: with ``verify``, onnxruntime-genai is not installed.

    Examples:
      >>> import jax.numpy as jnp
      >>> def apply(params, ids, mask, cache):
      ...     x = params["words"][ids][:, None]
      ...     key, value = (jnp.concatenate([old, x], 2) for old in cache)
      ...     total, new = key.shape[2], ids.shape[1]
      ...     seen = jnp.arange(total) <= jnp.arange(new)[:, None] + total - new
      ...     scores = jnp.where(seen & (mask[:, None, None] > 0), x @ key.swapaxes(2, 3), -1e9)
      ...     mixed = (jax.nn.softmax(scores) @ value)[:, 0]
      ...     return mixed @ params["words"].T, (key, value)
      >>> params = {"words": np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)}
      >>> cache = (jax.ShapeDtypeStruct((1, 1, 5, 8), np.float32),) * 2
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     result = export_decoder(params, apply, directory, cache=cache, verify=False)
      ...     print(*sorted(path.name for path in Path(directory).iterdir()))
      genai_config.json model.onnx
    """
    if verify:
        require("onnxruntime_genai", "export_decoder with verify=True")
    if isinstance(apply_fn, FlaxModel):
        cache = apply_fn.init_cache(1, SHORT_BUFFER) if cache is None else cache
        config = apply_fn.config if config is None else config
        apply_fn = function_of(apply_fn)
    if cache is None:
        raise TypeError("export_decoder: cache is missing; give arrays or shapes of a cache")
    found, known = decoder(params, apply_fn, cache), settings(config)
    target = Path(directory)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as place:
        made = _exported(
            found, Path(place), known, runtime=runtime, quantize=quantize, options=options
        )
        files = write_tokenizer(tokenizer, Path(place))
        tokens = _checked(found, Path(place), quantize, target) if verify else None
        path = _moved(Path(place), target)
    return DecoderResult(path, replace(made, path=path / made.path.name), tuple(files), tokens)


def _exported(
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
    _write_json(
        place / "genai_config.json",
        genai_config(found, config, inputs, shared=_shares(made, cache, "mask" in between)),
    )
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


def _write_json(path: Path, content: Json) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _checked(found: Decoder, place: Path, quantize: Quantize, target: Path) -> tuple[int, ...]:
    """What ONNX Runtime GenAI generates."""
    most = found.vocabulary - 1
    prompt = np.random.default_rng(0).integers(min(1, most), most + 1, (1, CHECKED_PROMPT))
    exact = quantize is None
    return tuple(check(place, found, prompt, CHECKED_TOKENS, exact=exact, name=target)[0].tolist())


def _moved(place: Path, target: Path) -> Path:
    """Give the files their places: the weights first, then what names them."""
    target.mkdir(exist_ok=True)
    files = sorted(place.iterdir(), key=lambda path: (path.suffix != ".data", path.name))
    for path in files:
        os.replace(path, target / path.name)
    data = {path.name for path in files}
    for old in target.glob("model.onnx.*.data"):
        if old.name not in data:
            old.unlink()
    return target
