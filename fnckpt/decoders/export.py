"""From a decoder in JAX to a directory that ONNX Runtime GenAI or MindSpore runs."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fnckpt.decoders.adapters.forms import adapted
from fnckpt.decoders.adapters.table import Given
from fnckpt.decoders.call import Decoder, decoder
from fnckpt.decoders.fixed import Fixed, Sizes
from fnckpt.decoders.fixed_files import write_mindir
from fnckpt.decoders.genai import context_length, settings, write_tokenizer
from fnckpt.decoders.generating import check
from fnckpt.decoders.served import write_onnx
from fnckpt.exporting.quantizing.options import Quantize
from fnckpt.exporting.result import ExportResult
from fnckpt.extras import require

PyTree = object
CHECKED_TOKENS, CHECKED_PROMPT = 8, 4
PROMPT = 128  # tokens of the file of a prompt, if the context has room for so many
RUNTIMES = {"ONNX": "onnxruntime_genai", "MINDIR": "mindspore"}


@dataclass(frozen=True)
class DecoderResult(os.PathLike[str]):
    """A directory that was written. It can stand wherever a path can.

    Attributes:
      directory: with ``model.onnx``, its data, ``genai_config.json`` and a tokenizer's files; or
        with ``prefill.mindir``, ``step.mindir`` and ``decoder.json``.
      model: what ``export`` told of the file; of MindIR, of the step's.
      tokenizer: the names of the tokenizer's files.
      generated: what ONNX Runtime GenAI or MindSpore wrote while the file was checked, the prompt
        included; None without ``verify``.
      prefill: of MindIR, what ``export`` told of the prompt's file.
    """

    directory: Path
    model: ExportResult
    tokenizer: tuple[str, ...]
    generated: tuple[int, ...] | None
    prefill: ExportResult | None = None

    def __fspath__(self) -> str:
        """The path of the directory."""
        return str(self.directory)

    def __repr__(self) -> str:
        """One line a fact."""
        tokens = self.generated
        runtime = "onnxruntime-genai" if self.prefill is None else "mindspore"
        checked = "no" if tokens is None else f"{len(tokens)} tokens by {runtime}"
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
    apply_fn: object = None,
    directory: str | os.PathLike[str] | None = None,
    *,
    cache: PyTree = None,
    config: object = None,
    tokenizer: object = None,
    file_format: str = "ONNX",
    batch: int | None = None,
    prompt: int | None = None,
    quantize: Quantize = None,
    runtime: str | None = "onnxruntime",
    verify: bool = True,
    **options: int | str,
) -> DecoderResult:
    """Write a language model with a cache as a directory that ONNX Runtime GenAI serves.

    ``export_decoder(model, directory)`` writes a module that holds its weights.

    Args:
      params: the weights, a pytree.
      apply_fn: a pure function ``(params, ids, mask or positions, cache) -> (logits, cache)``, or
        with both, or with neither; which one is which its arguments' names say. ``ids`` and
        positions are ``int32[batch, sequence]``, the mask ``int32[batch, past + sequence]`` with 0
        for padding, the logits ``[batch, sequence, vocabulary]``. Or a pair of such functions, the
        first for a whole prompt, the second for a step. Or a Flax model of transformers, a module
        of linen with a collection ``cache``, or one of NNX with variables ``nnx.Cache``.
      directory: is made where it is not there.
      cache: arrays or shapes of a cache that holds some tokens: pairs of a key and a value for each
        layer, in any pytree, of ``[batch, heads, past, size]`` or ``[batch, past, heads, size]``;
        it comes back longer by the new tokens. Or a buffer of a fixed length with an index beside
        it, as Flax has it (``cached_key``, ``cached_value``, ``cache_index``). All layers may lie
        in one array, along a first axis. Of Flax's models and modules it may be left out.
      config: names as in transformers' ``config.json`` (a dict, an object, or its path):
        ``bos_token_id``, ``eos_token_id`` (GenAI takes 0 for the end where none is given),
        ``pad_token_id``, ``context_length`` or ``max_position_embeddings`` (2048 if none is
        given), ``num_attention_heads``.
      tokenizer: the directory of one, whose files are copied, or a tokenizer of transformers.
      file_format: ``"ONNX"``, or ``"MINDIR"``: two files of fixed sizes, ``prefill.mindir`` for a
        prompt and ``step.mindir`` for each token behind it, as long as the context of ``config``.
      batch: of MINDIR, how many prompts at once; 1 if it is None.
      prompt: of MINDIR, how many tokens of a prompt the first file takes; 128 or what the context
        has room for, if it is None. A longer prompt goes on token by token, and so does a shorter
        one if the function takes no mask.
      quantize: as in ``export``: ``"int4"``, ``"int8"`` or a ``fnckpt.Quantization``.
      runtime: of ONNX, as in ``export``; None keeps to standard operators.
      verify: let ONNX Runtime GenAI, or MindSpore, continue a short prompt before the directory
        gets its files, and see that JAX would choose each token (of integers only that it
        generates).
      options: of ``export`` to the format.

    Returns:
      The directory, and what ``export`` tells of the file.

    Raises:
      TypeError: a function of other arguments or with another result.
      ValueError: a cache that changes otherwise than by growing; the message names its arrays.
        Another format, or sizes that do not fit.
      UnsupportedError: something in the function cannot be said in the format.
      VerificationError: ONNX Runtime GenAI, or MindSpore, chooses a token that JAX would not.
      ModuleNotFoundError: with ``verify``, the runtime is not installed.

    Examples:
      >>> import jax
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
    if directory is None and isinstance(apply_fn, str | os.PathLike):
        params, apply_fn, directory = None, params, apply_fn
    if directory is None:
        raise TypeError("export_decoder: directory is missing; give the path of one")
    goal = _goal(file_format, batch=batch, prompt=prompt)
    if verify:
        require(RUNTIMES[goal], "export_decoder with verify=True")
    given = adapted(Given(params, apply_fn, cache))
    if given.cache is None:
        raise TypeError("export_decoder: cache is missing; give arrays or shapes of a cache")
    found = decoder(given.params, given.apply_fn, given.cache, given.prefill)
    known, target = settings(given.config if config is None else config), Path(directory)
    fixed = None if goal == "ONNX" else Fixed(found, _sizes(known, batch, prompt))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        place = Path(scratch)
        if fixed is None:
            made = [
                write_onnx(found, place, known, runtime=runtime, quantize=quantize, options=options)
            ]
        else:
            made = write_mindir(fixed, place, known, quantize=quantize, options=options)
        files = write_tokenizer(tokenizer, place)
        tokens = _checked(found, place, fixed, quantize, target) if verify else None
        path = _moved(place, target)
    model, *first = (replace(each, path=path / each.path.name) for each in made)
    return DecoderResult(path, model, tuple(files), tokens, *first)


def _goal(file_format: str, **sizes: int | None) -> str:
    """The format's name.

    Raises:
      ValueError: a format without decoders, or sizes of ONNX, which takes any.
    """
    goal = file_format.strip().removeprefix(".").upper()
    if goal not in RUNTIMES:
        raise ValueError(
            f"export_decoder: file_format is {file_format!r}; give one of {', '.join(RUNTIMES)}"
        )
    named = [f"{name}={n}" for name, n in sizes.items() if n is not None]
    if named and goal == "ONNX":
        raise ValueError(
            f"export_decoder: {', '.join(named)} with ONNX, whose files take any batch and prompt; "
            'leave it out, or give file_format="MINDIR"'
        )
    return goal


def _sizes(config: Mapping[str, object], batch: int | None, prompt: int | None) -> Sizes:
    context = context_length(config)
    if prompt is None:
        prompt = min(PROMPT, context // 2)
    return Sizes(1 if batch is None else batch, prompt, context)


def _checked(
    found: Decoder, place: Path, fixed: Fixed | None, quantize: Quantize, target: Path
) -> tuple[int, ...]:
    """What the runtime generates."""
    most, length, new = found.vocabulary - 1, CHECKED_PROMPT, CHECKED_TOKENS
    if fixed is not None:
        length = min(length, fixed.sizes.prompt) if fixed.masked else fixed.sizes.prompt
        new = min(new, fixed.sizes.context - fixed.sizes.prompt)
    ids = np.random.default_rng(0).integers(min(1, most), most + 1, (1, length))
    exact = quantize is None
    return tuple(check(place, found, ids, new, exact=exact, name=target)[0].tolist())


def _moved(place: Path, target: Path) -> Path:
    """Give the files their places: the weights first, then what names them."""
    target.mkdir(exist_ok=True)
    files = sorted(
        place.iterdir(), key=lambda path: (path.suffix != ".data" and not path.is_dir(), path.name)
    )
    for path in files:
        if path.is_dir():
            shutil.rmtree(target / path.name, ignore_errors=True)
        os.replace(path, target / path.name)
    data = {path.name for path in files}
    for old in target.glob("model.onnx.*.data"):
        if old.name not in data:
            old.unlink()
    return target
