"""What ONNX Runtime GenAI wants beside a file: its configuration, and a tokenizer's files."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from fnckpt.decoders.call import Decoder

Json = dict[str, object]
TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja",
)  # fmt: skip
DEFAULT_CONTEXT = 2048
PAST, PRESENT = "past_key_values.%d.{}", "present.%d.{}"


@runtime_checkable
class HasDict(Protocol):
    """A configuration of transformers."""

    def to_dict(self) -> dict[str, object]: ...


@runtime_checkable
class Saves(Protocol):
    """A tokenizer of transformers."""

    def save_pretrained(self, save_directory: str) -> object: ...


def settings(config: object) -> Mapping[str, object]:
    """A configuration as a mapping: one, a path of ``config.json``, or an object of transformers.

    Raises:
      TypeError: it is something else.
    """
    if config is None:
        return {}
    if isinstance(config, Mapping):
        return {str(name): value for name, value in config.items()}
    if isinstance(config, HasDict):
        return config.to_dict()
    if isinstance(config, str | Path):
        path = Path(config)
        found = json.loads((path / "config.json" if path.is_dir() else path).read_text())
        return found if isinstance(found, dict) else {}
    raise TypeError(
        f"config must be a dict, a config of transformers or the path of a config.json, got "
        f"{type(config).__name__}"
    )


def context_length(config: Mapping[str, object]) -> int:
    """How many tokens fit."""
    names = ("context_length", "max_position_embeddings", "n_positions", "max_length")
    return next((n for name in names if isinstance(n := config.get(name), int)), DEFAULT_CONTEXT)


def genai_config(
    decoder: Decoder, config: Mapping[str, object], inputs: Mapping[str, str], *, shared: bool
) -> Json:
    """The content of ``genai_config.json``.

    Args:
      decoder: heads, size and layers are its cache's.
      config: names as in transformers; ids of tokens, ``num_attention_heads``.
      inputs: the inputs that the file has, but for the cache.
      shared: whether one buffer may hold the cache that comes in and the one that goes out.
    """
    cache, length = decoder.cache, context_length(config)
    heads = _first(config, ("num_attention_heads", "n_head", "num_heads"), cache.heads)
    hidden = _first(config, ("hidden_size", "n_embd", "d_model"), heads * cache.size)
    model: Json = {
        "type": "decoder",
        "context_length": length,
        "vocab_size": decoder.vocabulary,
        **_special(config, decoder.vocabulary),
        "decoder": {
            "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
            "filename": "model.onnx",
            "head_size": cache.size,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "num_hidden_layers": len(cache.layers),
            "num_key_value_heads": cache.heads,
            "inputs": {
                **inputs,
                "past_key_names": PAST.format("key"),
                "past_value_names": PAST.format("value"),
            },
            "outputs": {
                "logits": "logits",
                "present_key_names": PRESENT.format("key"),
                "present_value_names": PRESENT.format("value"),
            },
        },
    }
    search: Json = {"do_sample": False, "max_length": length, "past_present_share_buffer": shared}
    return {"model": model, "search": search}


def _special(config: Mapping[str, object], vocabulary: int) -> Json:
    """The ids of tokens with a meaning, as far as they are in the vocabulary."""
    ends, pad = special(config, vocabulary)
    first = [*_ids(config.get("bos_token_id"), vocabulary), pad][0]
    found: Json = {"bos_token_id": first, "pad_token_id": pad}
    return found | ({"eos_token_id": ends} if ends else {})


def special(config: Mapping[str, object], vocabulary: int) -> tuple[list[int], int]:
    """The ids that end a text, and the one that stands for no token."""
    ends, pad = (_ids(config.get(f"{name}_token_id"), vocabulary) for name in ("eos", "pad"))
    return ends, [*pad, *ends, 0][0]


def _ids(given: object, vocabulary: int) -> list[int]:
    every = given if isinstance(given, list | tuple) else [given]
    return [n for n in every if isinstance(n, int) and 0 <= n < vocabulary]


def pad_of(directory: Path) -> int:
    """The id that fills the front of a shorter prompt."""
    return int(json.loads((directory / "genai_config.json").read_text())["model"]["pad_token_id"])


def _first(config: Mapping[str, object], names: tuple[str, ...], default: int) -> int:
    return next((n for name in names if isinstance(n := config.get(name), int)), default)


def write_tokenizer(tokenizer: object, directory: Path) -> list[str]:
    """Put the files of a tokenizer into a directory; their names.

    Raises:
      TypeError: it is no path and no tokenizer of transformers.
      FileNotFoundError: a directory without such files.
    """
    if tokenizer is None:
        return []
    if isinstance(tokenizer, str | Path):
        found = [Path(tokenizer, name) for name in TOKENIZER if Path(tokenizer, name).is_file()]
        if not found:
            raise FileNotFoundError(
                f"tokenizer: {tokenizer} has none of {', '.join(TOKENIZER)}; give the directory "
                "that a tokenizer was saved in"
            )
        for path in found:
            shutil.copyfile(path, directory / path.name)
    elif isinstance(tokenizer, Saves):
        tokenizer.save_pretrained(str(directory))
    else:
        raise TypeError(
            f"tokenizer must be a directory or a tokenizer of transformers, got "
            f"{type(tokenizer).__name__}"
        )
    return sorted(name for name in TOKENIZER if (directory / name).is_file())
