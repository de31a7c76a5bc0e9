"""What the tables say: the content is all there at every width, and names from a file are printed, not obeyed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from bot_onnx._reasons import Why
from bot_onnx._report.demo_report import DemoRow, demo_report, percent
from bot_onnx._report.dims import composition, fixed_reason
from bot_onnx._report.inspect_report import inspect_report
from bot_onnx._report.layout import cell
from bot_onnx._report.plan_report import plan_report
from bot_onnx._report.result_report import result_report, shrinks
from bot_onnx._report.specs_report import specs_report
from bot_onnx._report.verify_report import verdict, verify_report
from bot_onnx._structure import Structure
from bot_onnx._surgery.proven import Promise
from bot_onnx._target import list_specs
from bot_onnx._verify.types import Check, VerifyReport
from tests.report_samples import inspected, plan, report, resized, row, text
from tests.spec_structures import gpt2, llama, structure, vit


def test_the_header_says_what_the_file_is() -> None:
    printed = text(inspect_report(inspected()))
    assert "22.9 MB" in printed
    assert "5.72 M (5,717,416) parameters" in printed
    assert "611 nodes, opset 18" in printed
    assert "image: FLOAT [batch, 3, 224, 224]" in printed
    assert "pre-norm" in row(printed, "residual")
    assert "note: one node was not understood" in printed


def test_dims_say_what_they_are_made_of_and_why_they_are_fixed() -> None:
    printed = text(inspect_report(inspected()))
    assert re.search(r"d0 +hidden +192 +hidden +1: w\.hidden\[0\] +yes", printed)
    assert "three 3 x heads 3 x head_dim 64" in row(printed, "d6")
    assert "no: taps of a kernel" in row(printed, "d1")
    assert "yes" in row(printed, "d6")


def test_chains_say_whether_their_depth_can_change() -> None:
    printed = text(inspect_report(inspected())).split("Costs")[0]
    assert row(printed, "blocks").split() == ["blocks", "12", "1", "30", "yes"]
    assert "no: its layers change the shape" in row(printed, "tail")


def test_costs_are_told_by_chain_and_by_layer() -> None:
    printed = text(inspect_report(inspected()))
    assert "1.23 B (1,229,000,000) at image=1x3x224x224" in row(printed, "MACs")
    costs = printed.split("Costs")[1].split("Dims")[0]
    assert row(costs, "blocks").split()[-4:] == ["1.20", "B", "100.0", "M"]
    assert "417.4 k" in row(costs, "outside the layers")


def test_stacks_say_shape_and_remarks() -> None:
    printed = text(inspect_report(inspected()))
    assert "[blocks 1 x] hidden 192 x qkv 576" in row(printed, "s0")
    assert "one tensor for all layers" in row(printed, "s8")
    assert "1 x positions 197" in row(printed, "s9") and "closed form arange" in row(printed, "s9")
    assert "tied: transpose of s8 (shared)" in row(printed, "s10")
    assert "scalar" in row(printed, "s11") and "before the tied head" in row(printed, "s11")
    assert "embed (axis 0) = head (axis 1)" in printed


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_nothing_is_cut_off_at_any_width(width: int) -> None:
    long = inspected()
    name = "encoder.layers.0.attention.self.query_and_key_and_value_projection.weight_quantised"
    stacks = tuple(replace(stack, name=name) for stack in long.structure.stacks)
    printed = text(inspect_report(replace(long, structure=replace(long.structure, stacks=stacks))), width)
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= width
    # Folding breaks lines inside of a column: read down the column, the name is whole.
    start = next(line for line in printed.splitlines() if "shape" in line and "kind" in line).index("name")
    below = printed.splitlines()
    first = next(n for n, line in enumerate(below) if line.startswith("s0 "))
    end = next(line for line in below if "shape" in line and "kind" in line).index("shape")
    assert "".join(line[start:end].strip() for line in below[first : first + 8]).startswith(name)


def test_a_model_without_layers_or_parameters_is_said_to_have_none() -> None:
    printed = text(inspect_report(replace(inspected(), structure=Structure({}, (), ()))))
    assert "no chain of equal layers" in printed
    assert "Dims: none" in printed and "no parameters" in printed


def test_names_are_neither_markup_nor_control_codes() -> None:
    assert text(cell("[red]layer[/red][0]")).strip() == "[red]layer[/red][0]"
    printed = text(cell("a\x1b[31mb\nc\x07"))
    assert printed.strip() == r"a\x1b[31mb\nc\x07"


def test_composites_are_fixed_only_when_all_their_parts_are() -> None:
    dims = {dim.name: dim for dim in vit().dims.values()}
    by_id = vit().dims
    assert fixed_reason(dims["qkv"], by_id) is None
    assert composition(dims["qkv"], by_id) == "three 3 x heads 3 x head_dim 64"
    frozen = structure(
        [("a", "free", 2), ("b", "count", 3), ("c", "free", "product", ["a", "b"])], frozen={"a": Why.KERNEL}
    )
    reasons = {dim.name: fixed_reason(dim, frozen.dims) for dim in frozen.dims.values()}
    assert reasons == {"a": "taps of a kernel", "b": "a count, never resized", "c": "none of its parts can be"}
    assert all(fixed_reason(dim, gpt2().dims) is None for dim in gpt2().dims.values())
    head_dim = next(dim for dim in llama().dims.values() if dim.role == "head_dim")
    assert composition(head_dim, llama().dims) == "half 32 + half 32"


def test_a_plan_says_what_changes_and_what_stays() -> None:
    printed = text(plan_report(plan()))
    assert re.search(r"layers: blocks +12 +6 +-50 %", printed)
    assert re.search(r"hidden \(d0\) +192 +96 +-50 %", printed)
    assert "positions (d2)" not in printed and "1 other dim unchanged" in printed
    assert re.search(r"parameters +5\.72 M +1\.40 M +-76 %", printed)
    assert "bot (wavelet=haar, tie_correction=on), aligned: permute, seed 7" in printed


@pytest.mark.parametrize(
    ("promise", "line"),
    [
        (Promise(kept=True), "kept: the source's, at the new sizes"),
        (Promise(kept=True, factors=(("norm", 2.0),)), "kept: the source's, at the new sizes (norm times 2)"),
        (Promise(kept=False, why="hidden shrinks"), "not kept, as planned: hidden shrinks"),
        (Promise(), "nothing is promised"),
    ],
)
def test_plans_and_results_say_in_one_line_what_was_promised(promise: Promise, line: str) -> None:
    assert re.fullmatch(
        rf"outputs +{re.escape(line)} *", row(text(plan_report(replace(plan(), promise=promise))), "outputs")
    )
    result = replace(resized(), plan=replace(plan(), promise=promise))
    assert re.search(rf"^outputs +{re.escape(line)} *$", text(result_report(result)), re.MULTILINE)


def test_a_plan_gives_equal_constants_once_with_their_number() -> None:
    printed = text(plan_report(plan()))
    assert re.search(r"/0/shape +2 +192 +96 +size of an axis", printed)
    assert re.search(r"/0/scale +1 +0\.125 +0\.25 +1/sqrt\(head_dim\)", printed)
    assert "/1/shape" not in printed


def test_a_plan_says_how_every_stack_is_made() -> None:
    printed = text(plan_report(plan()))
    assert "hidden 192 -> 96, (heads 3 -> 1 x head_dim 64)" in row(printed, "s0")
    assert "12 -> 6" in row(printed, "s0") and "resampled" in row(printed, "s0")
    assert "recomputed: arange" in row(printed, "s1") and "1, 197" in row(printed, "s1")
    assert "kept" in row(printed, "s2")
    assert "transpose of s0" in row(printed, "s3")


def test_checks_and_verdict() -> None:
    printed = text(verify_report(report()))
    assert "2 checks passed; not checked: " in printed and "All" not in printed
    assert "blocks 6" in row(printed, "layers") and "FAILED" not in printed
    failed = text(verify_report(report(failing=True)))
    assert "FAILED: dims" in failed and "hidden 95, expected 96" in failed
    assert "passed" not in failed


def test_no_check_at_all_is_no_success() -> None:
    assert "Nothing was checked" in verdict(VerifyReport("m", (Check("run", "skip", "no runtime"),))).plain


def test_comparisons_show_what_was_measured_and_what_was_not() -> None:
    printed = text(verify_report(report()))
    assert re.search(r"logits +2 x 1000 +0\.9877 +0\.125 +14\.5 +0\.031 +same shape", printed)
    assert re.search(r"features +2 x 96 +nan +- +- +- +low band along hidden", printed)


def test_what_is_for_information_is_neither_passed_nor_failed() -> None:
    checks = (Check("run", "pass", "runs"), Check("comparison", "info", "not kept, as planned: hidden shrinks"))
    printed = text(verify_report(VerifyReport("m", checks)))
    assert "All 1 checks passed, 1 for information." in printed
    assert re.search(r"comparison +info +not kept, as planned: hidden shrinks", printed)
    assert "Nothing was checked" in verdict(VerifyReport("m", checks[1:])).plain


def test_promised_outputs_are_marked() -> None:
    entries = [
        replace(entry, agrees=agrees, tolerance=1e-4)
        for entry, agrees in zip(report().comparisons, (True, False), strict=True)
    ]
    printed = text(verify_report(replace(report(), comparisons=tuple(entries))))
    assert re.search(r"logits .* yes +same shape", printed) and re.search(r"features .* NO +low band", printed)
    assert "as promised" not in text(verify_report(report()))


@pytest.mark.parametrize(
    ("hidden", "layers", "lossy"), [(96, 12, True), (192, 6, True), (384, 24, False), (384, 6, True)]
)
def test_a_shrunk_model_is_said_to_have_lost_accuracy(hidden: int, layers: int, lossy: bool) -> None:
    result = resized(hidden, layers)
    printed = text(result_report(result))
    assert shrinks(result.plan) is lossy
    assert ("lost accuracy until" in printed) is lossy
    assert re.search(r"output +small\.onnx", printed)
    assert "2.5 s" in row(printed, "time")


def test_published_specs_are_listed() -> None:
    printed = text(specs_report(list_specs()))
    assert re.search(r"bert-s +6 +384 +6 +64 +1536 +sequence 128", printed)
    assert len([line for line in printed.splitlines() if re.match(r"(bert|deit|gpt|roberta)-", line)]) == len(
        list_specs()
    )


def test_the_demo_table_fits_a_terminal() -> None:
    rows = [
        DemoRow("shipped", 6, {"hidden": 64}, 302154, 1238662, 0.0123, 0.981, None, None),
        DemoRow("shrunk", 3, {"hidden": 32}, 39242, 167998, 0.0041, 0.097, 0.106, 7.02),
        DemoRow("grown", 8, {"hidden": 128}, 1590000, 6390000, 0.0345, 0.981, 1.0, 5.6e-06),
    ]
    printed = text(demo_report(rows, 360), 80)
    assert re.search(r"hidden +64 +32 +128", printed)
    assert re.search(r"accuracy +98\.1 % +9\.7 % +98\.1 %", printed)
    assert re.search(r"predictions kept +10\.6 % +100\.0 %", printed)
    assert max(map(len, printed.splitlines())) <= 80


def test_a_share_that_is_not_all_never_reads_as_all() -> None:
    assert percent(1.0) == "100.0 %"
    assert percent(0.99999) == "> 99.9 %"
    assert percent(0.981) == "98.1 %"
