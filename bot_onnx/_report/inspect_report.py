"""The tables of ``inspect``: the file, its chains of layers, its dims, its stacks, its ties."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bot_onnx._report.costs_report import costs_table, macs_text
from bot_onnx._report.dim_groups import DimGroup, dim_groups, ranges, sizes
from bot_onnx._report.dims import composition, fixed_reason
from bot_onnx._report.layout import Fitting, cell, facts, plural, table
from bot_onnx._report.units import count, size
from bot_onnx._report.views import InspectionView, Value
from bot_onnx._structure import Dim, Stack, Structure
from bot_onnx._target.channels import SCALED_ROLES
from bot_onnx.errors import said


def inspect_report(inspection: InspectionView, *, every_dim: bool = False) -> Group:
    """Everything that ``inspect`` shows, as one renderable; many dims in groups, unless every one is asked for."""
    structure = inspection.structure
    parts: list[RenderableType] = [_header(inspection), "", _chains(structure), "", costs_table(inspection.costs)]
    parts += ["", _dims(structure, every_dim), *_outputs(structure), "", _stacks(structure)]
    if structure.ties:
        parts += ["", _ties(structure)]
    parts += [cell(f"note: {note}") for note in structure.notes]
    return Group(*parts)


def _header(inspection: InspectionView) -> Table:
    structure = inspection.structure
    parameters = f"{count(structure.parameters)} ({structure.parameters:,})"
    return facts(
        {
            "model": inspection.path,
            "size": f"{size(inspection.size_bytes)}, {parameters} parameters",
            "MACs": macs_text(inspection.costs),
            "graph": f"{plural(structure.nodes, 'node')}, opset {inspection.opset}",
            "producer": inspection.producer or "not given",
            "residual": structure.residual,
            "inputs": _lines(inspection.inputs),
            "outputs": _lines(inspection.outputs),
        }
    )


def _lines(values: tuple[Value, ...]) -> Text:
    return Text("\n").join(cell(_value(value)) for value in values) if values else Text("none")


def _value(value: Value) -> str:
    name, dtype, shape = value
    return f"{name}: {dtype} [{', '.join(str(axis) for axis in shape)}]"


def _chains(structure: Structure) -> RenderableType:
    if not structure.chains:
        return Text("Layers: no chain of equal layers was found; the depth cannot be changed.")
    made = table("Layers", ["chain", "layers>", "segments each>", "nodes each>", "resizable"])
    for chain in structure.chains:
        made.add_row(
            cell(chain.name),
            chain.in_turns(),
            str(chain.period),
            str(chain.nodes_per_layer),
            _resizable(None if chain.resizable is None else said(chain.resizable)),
        )
    return made


def _resizable(reason: str | None) -> Text:
    return Text("yes", style="green") if reason is None else cell(f"no: {reason}", "yellow")


def _dims(structure: Structure, every: bool) -> RenderableType:
    if not structure.dims:
        return Text("Dims: none.")
    if not every and (groups := dim_groups(structure)):
        return _groups(structure, groups)
    return Fitting(_dims_table(structure, wide=True), _dims_table(structure, wide=False))


def _dims_table(structure: Structure, *, wide: bool) -> Table:
    uses = "uses" if wide else "uses>"
    made = table("Dims", ["id!", "name", "size>", "made of", "role", uses, "resizable"])
    for dim in structure.dims.values():
        made.add_row(
            dim.id,
            cell(dim.name),
            str(dim.size),
            cell(composition(dim, structure.dims)),
            cell(dim.role),
            cell(_uses(dim)) if wide else str(len(dim.occurrences)),
            _resizable(fixed_reason(dim, structure.dims)),
        )
    if structure.single_kv_head:
        made.add_row("-", "kv_heads", "1", "", "kv_heads", "all query heads" if wide else "", _resizable(None))
    return made


def _groups(structure: Structure, groups: tuple[DimGroup, ...]) -> RenderableType:
    """A row a stage; what is made of other dims stands under its parts."""
    how = "by names" if groups[0].by == "scope" else "by widths"
    title = f"Dims: {len(structure.dims)} in {len(groups)} stages, {how} (--dims: each)"
    made = table(title, ["stage", "dims>", "resizable", "fixed", "ids"])
    order = list(structure.dims)
    for group in groups:
        leaves = [structure.dims[ident] for ident in group.dims if not structure.dims[ident].parts]
        free = [dim for dim in leaves if fixed_reason(dim, structure.dims) is None]
        fixed = [dim for dim in leaves if fixed_reason(dim, structure.dims) is not None]
        made.add_row(
            cell(group.name), str(len(group.dims)), cell(sizes(free)), cell(sizes(fixed), "yellow"),
            cell(ranges(group.dims, order)),
        )  # fmt: skip
    if structure.single_kv_head:
        made.add_row("-", "1", "kv_heads 1", "", "")
    return made


def _outputs(structure: Structure) -> list[RenderableType]:
    """What the user's interface is made of, and which of it a factor for the width would change."""
    shown = [dim for dim in structure.dims.values() if dim.outputs and not dim.parts]
    if not shown:
        return []
    made = table("What outputs show", ["id!", "name", "size>", "role", "outputs", "under width"])
    for dim in shown:
        stays = dim.role not in SCALED_ROLES or dim.frozen is not None
        made.add_row(
            dim.id,
            cell(dim.name),
            str(dim.size),
            cell(dim.role),
            cell(", ".join(dim.outputs)),
            Text("stays" if stays else "changes", style="" if stays else "yellow"),
        )
    return ["", made]


def _uses(dim: Dim) -> str:
    """The number of tensor axes, and the first one: enough to find the place in a viewer."""
    if not dim.occurrences:
        return "activations"
    tensor, axis = dim.occurrences[0]
    return f"{len(dim.occurrences)}: {tensor}[{axis}]"


def _stacks(structure: Structure) -> RenderableType:
    if not structure.stacks:
        return Text("Stacks: no parameters.")
    made = table("Stacks", ["id!", "name", "shape", "kind", "dtype!", "remarks"])
    for stack in structure.stacks:
        made.add_row(
            stack.id,
            cell(stack.name),
            cell(_shape(stack, structure)),
            cell(stack.kind),
            stack.dtype,
            cell(", ".join(_remarks(stack, structure))),
        )
    return made


def _shape(stack: Stack, structure: Structure) -> str:
    axes = " x ".join(
        str(extent) if ident is None else f"{structure.dims[ident].name} {extent}"
        for ident, extent in zip(stack.axes, stack.shape, strict=True)
    )
    return f"[{stack.chain} {len(stack.tensors)} x] {axes or 'scalar'}" if stack.chain is not None else axes or "scalar"


def _remarks(stack: Stack, structure: Structure) -> list[str]:
    found = []
    if stack.shared:
        found.append("one tensor for all layers")
    if stack.closed_form is not None:
        found.append(f"closed form {stack.closed_form}")
    if stack.twin_of is not None:
        twins = {other.id: other.name for other in structure.stacks}
        found.append(f"tied: transpose of {stack.twin_of} ({twins.get(stack.twin_of, 'unknown')})")
    if stack.writes_residual:
        found.append("writes the residual stream")
    if stack.before_tied_head:
        found.append("before the tied head")
    return found


def _ties(structure: Structure) -> RenderableType:
    made = table("Ties: one tensor, used in several places", ["places"])
    for group in structure.ties:
        made.add_row(cell(" = ".join(group)))
    return made
