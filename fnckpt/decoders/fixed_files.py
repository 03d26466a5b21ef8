"""``prefill.mindir``, ``step.mindir`` and ``decoder.json``: a decoder as MindSpore runs it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from fnckpt.decoders.fixed import Fixed
from fnckpt.decoders.genai import special
from fnckpt.decoders.generating import FACTS
from fnckpt.exporting.export import export
from fnckpt.exporting.quantizing.options import Quantize
from fnckpt.exporting.result import ExportResult

PREFILL, STEP = "prefill", "step"
WRITTEN_FOR = "2.3"  # and newer, if the options do not say another


def write_mindir(
    fixed: Fixed,
    place: Path,
    config: Mapping[str, object],
    *,
    quantize: Quantize,
    options: Mapping[str, int | str],
) -> list[ExportResult]:
    """Write both files into ``place``; what ``export`` tells of the step's and the prompt's."""
    parts = {STEP: fixed.step(), PREFILL: fixed.prompt()}
    made = {
        name: export(
            fixed.decoder.params,
            part.apply,
            part.sample,
            "MINDIR",
            file_name=place / name,
            input_names=part.inputs,
            output_names=part.outputs,
            quantize=quantize,
            **{"mindspore": WRITTEN_FOR, **options},
        )
        for name, part in parts.items()
    }
    ends, pad = special(config, fixed.decoder.vocabulary)
    facts = fixed.facts(made[PREFILL].path.name, made[STEP].path.name, ends, pad)
    (place / FACTS).write_text(json.dumps(asdict(facts), indent=2) + "\n")
    return list(made.values())
