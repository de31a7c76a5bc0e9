"""From the content to HTML: jinja2 fills in and escapes, the style and the script stand in the page itself."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from bot_onnx._installing import needing
from bot_onnx._page import drawing, rows
from bot_onnx._page.blocks import GROUPS, blocks_of
from bot_onnx._page.formulas import LayerMacs, PartFormulas
from bot_onnx._page.polynomials import LAYERS, Polynomial
from bot_onnx._page.sliders import Slider
from bot_onnx._page.types import Content
from bot_onnx._report.units import count, seconds, size

_EXACT: Final = 2**53  #: whole numbers from here on go as texts: what reads JSON may round them


def check_installed() -> None:
    """Refuse, before any work, what cannot be rendered.

    Raises:
        MissingRuntimeError: jinja2 is not installed.
    """
    with needing("jinja2 is needed to make a page", "report"):
        import jinja2  # noqa: F401


def rendered(content: Content) -> str:
    """The page; the same content gives the same bytes."""
    from jinja2 import DictLoader, Environment, StrictUndefined

    loader = DictLoader({"page": _asset("page.html.j2")})
    page = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    page.filters |= {"count": count, "bytes": size, "seconds": seconds, "shown": shown, "unbroken": unbroken}
    placed, height = drawing.boxes(blocks_of(content.model.structure))
    stacks, dims = rows.stack_rows(content), rows.dim_rows(content.model.structure)
    used = {chip.chip.group for box in placed for chip in box.chips}
    used |= {chip.group for row in (*stacks, *dims) for chip in row.chips}
    fitted = None if content.fitted is None else drawing.points(content.fitted.found)
    html = page.get_template("page").render(
        content=content,
        model=content.model,
        source=content.source,
        summary=rows.summary(content),
        file_facts=rows.file_facts(content.model),
        parts=rows.part_rows(content),
        stacks=stacks,
        dims=dims,
        notes=rows.notes(content),
        boxes=placed,
        drawing_width=drawing.WIDTH,
        left=drawing.LEFT,
        inner=drawing.INNER,
        drawing_height=height,
        legend={name: told for name, (told, _) in GROUPS.items() if name in used},
        fitted=fitted,
        labels=slider_labels(content),
        data=script_text(page_data(content)),
        style=_asset("page.css"),
        script=_asset("page.js"),
    )
    return str(html)


def _asset(name: str) -> str:
    return (files("bot_onnx._page") / "assets" / name).read_text(encoding="utf-8")


def shown(text: object) -> str:
    """A text with its control characters by their codes; escaping comes after."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def unbroken(text: str) -> str:
    """A text that may be broken only behind its arrow."""
    return text.replace(" ", "\u00a0").replace("->\u00a0", "-> ")


def script_text(data: Mapping[str, Any]) -> str:
    """JSON that cannot end the element that it stands in."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def slider_labels(content: Content) -> list[tuple[Slider, str]]:
    """Sliders with what they are called."""
    alone = len(content.model.structure.chains) == 1
    named = {"layers": "layers", "width": "width (factor on all channels)"}
    return [
        (one, f"layers of {one.chain}" if one.chain is not None and not alone else named.get(one.kind, one.key))
        for one in content.sliders.sliders
    ]


def page_data(content: Content) -> dict[str, Any]:
    """What the page's script computes with, as JSON values. ``docs/report.md`` says what the keys mean."""
    structure, sliders = content.model.structure, content.sliders
    costs = content.model.costs
    leaves = {ident: structure.dims[ident] for ident in sorted(sliders.free, key=list(structure.dims).index)}
    return {
        "format": 1,
        "command": f"bot-onnx resize {_quoted(content.model.path)}",
        "named_layers": len(structure.chains) > 1,
        "round_to": sliders.round_to,
        "held": dict(sliders.held),
        "layers_variable": LAYERS,
        "dims": {ident: {"name": dim.name, "size": dim.size} for ident, dim in leaves.items()},
        "chains": {chain.name: chain.count for chain in structure.chains},
        "source": {
            "parameters": _number(costs.parameters),
            "weight_bytes": _number(costs.weight_bytes),
            "macs": _number(costs.macs),
        },
        "sliders": [_slider(one) for one in sliders.sliders],
        "parts": [_part(one) for one in content.formulas],
    }


def _quoted(path: str) -> str:
    return shlex.quote(f"./{path}" if path.startswith("-") else path)


def _slider(slider: Slider) -> dict[str, Any]:
    steps = [
        {"value": step.value, "sizes": dict(step.sizes), "layers": dict(step.layers), "leads": dict(step.leads)}
        for step in slider.steps
    ]
    return {
        "key": slider.key, "kind": slider.kind, "chain": slider.chain, "start": slider.start, "steps": steps,
    }  # fmt: skip


def _part(part: PartFormulas) -> dict[str, Any]:
    return {
        "name": part.name,
        "chain": part.chain,
        "count": part.count,
        "leading": part.leading,
        "parameters": _terms(part.parameters),
        "weight_bytes": _terms(part.weight_bytes),
        "macs": None if part.macs is None else _macs(part.macs),
    }


def _macs(macs: LayerMacs) -> dict[str, Any]:
    return {
        "leading": _terms(macs.leading),
        "kinds": [_terms(one) for one in macs.kinds],
        "layers": list(macs.layers),
        "turns": macs.turns,
    }


def _terms(polynomial: Polynomial | None) -> list[list[Any]] | None:
    if polynomial is None:
        return None
    return [[_number(factor), *names] for names, factor in sorted(polynomial.terms.items())]


def _number(value: int) -> int | str:
    return value if abs(value) < _EXACT else str(value)
