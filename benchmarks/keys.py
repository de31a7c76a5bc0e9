"""Which exports find every key of the framework without a checkpoint: twenty families, both exporters.

Every network is built small with random weights and exported; ``bot_onnx.state_dict`` gives its weights, which are
loaded into the same network with other weights. Where that computes what the first one does, every key that the graph
computes with was found, with the right values.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import bot_onnx
from benchmarks.coverage.case import EXPORTERS, Built, Recipe
from benchmarks.coverage.cases import load_cases
from benchmarks.coverage.cases.transformer import HUGGINGFACE
from benchmarks.coverage.exporting import NotExportable, build, cached_export, quiet
from benchmarks.coverage.store import cache_folder
from bot_onnx.errors import BotError

FAMILIES = (
    "bert roberta distilbert electra albert gpt2 opt gpt_neox llama qwen2 gemma t5 bart clip vit deit dinov2 eva "
    "convnext wav2vec2"
).split()
TOLERANCE = 1e-4


def recipes() -> dict[str, Recipe]:
    """How each family is built; BART with the head that adds a buffer of zeros, EVA as timm has it."""
    found = {case.name: case.source for case in load_cases(["listed"])}
    found["eva"] = next(case.source for case in load_cases(["timm"]) if case.name == "eva")
    found["bart"] = Recipe(HUGGINGFACE, {**found["bart"].options, "model": "BartForConditionalGeneration"})
    return {name: found[name] for name in FAMILIES}


def outcome(path: Path, first: Built, second: Built) -> str:
    """``every key``, or what is wrong with the keys of an export of ``first``; ``second`` has other weights."""
    try:
        state = bot_onnx.state_dict(path)
    except BotError as error:
        return f"refused: {error}"
    return _compared(state, first, second)


def _compared(state: Mapping[str, np.ndarray[Any, Any]], first: Built, second: Built) -> str:
    import torch

    own = first.module.state_dict()
    unknown = [key for key in state if key not in own]
    different = [key for key in state if key in own and not np.allclose(state[key], own[key].numpy(), atol=1e-6)]
    if unknown or different:
        return f"wrong: {', '.join([*unknown, *different][:3])}"
    missing = [key for key in own if key not in state]
    # What starts as zeros in every network of the family is there after loading, whatever was drawn for this one.
    zeros = {key: torch.zeros_like(own[key]) for key in missing if not own[key].any()}
    second.module.load_state_dict({**{key: torch.tensor(array) for key, array in state.items()}, **zeros}, strict=False)
    with torch.no_grad():
        outputs = [module(*first.inputs) for module in (first.module, second.module)]
    pairs = zip(*(each if isinstance(each, tuple) else (each,) for each in outputs), strict=True)
    if any(float((a - b).abs().max()) > TOLERANCE * float(a.abs().max()) for a, b in pairs):
        return f"missing: {', '.join(missing[:3])}"
    return "every key"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", action="append", choices=FAMILIES, help="only this one; can be repeated")
    chosen = parser.parse_args().family or FAMILIES
    counted = right = 0
    print("| family | exporter | outcome |\n|---|---|---|")
    for name, recipe in recipes().items():
        if name not in chosen:
            continue
        for exporter in EXPORTERS:
            try:
                path = cached_export(recipe, exporter, cache_folder())
            except NotExportable:
                print(f"| {name} | {exporter} | not exportable |")
                continue
            with quiet():
                first, second = build(recipe, 0), build(recipe, 1)
            found = outcome(path, first, second)
            counted, right = counted + 1, right + (found == "every key")
            print(f"| {name} | {exporter} | {found.partition('; give')[0]} |", flush=True)
    print(f"\n{right} of {counted} exports find every key.")


if __name__ == "__main__":
    main()
