"""What people and machines read: pure functions from the plain results to rich renderables and to JSON values.

Import from here; nothing in this folder computes a result, prints, or touches a file. It imports the types of
``graph``, ``stack``, ``align``, ``surgery``, ``verify``, ``checkpoint`` and ``recover``; ``cli`` imports it.
"""

from bot_onnx._report.demo_report import DemoRow, demo_report
from bot_onnx._report.energy_report import energy_report
from bot_onnx._report.fit_report import fit_json, fit_report
from bot_onnx._report.inspect_report import inspect_report
from bot_onnx._report.json_report import inspection_json, plan_json, result_json, verify_json
from bot_onnx._report.plan_difference import difference_json, difference_report, plan_differences
from bot_onnx._report.plan_report import plan_report
from bot_onnx._report.quantise_report import quantise_json, quantise_report
from bot_onnx._report.recover_report import recover_json, recover_report
from bot_onnx._report.result_report import result_report, shrinks
from bot_onnx._report.specs_report import specs_report
from bot_onnx._report.sweep_report import sweep_csv, sweep_json, sweep_report
from bot_onnx._report.transfer_report import transfer_json, transfer_report
from bot_onnx._report.values import plain
from bot_onnx._report.verify_report import verify_report
from bot_onnx._report.views import InspectionView, ResultView

__all__ = [
    "DemoRow",
    "InspectionView",
    "ResultView",
    "demo_report",
    "difference_json",
    "difference_report",
    "energy_report",
    "fit_json",
    "fit_report",
    "inspect_report",
    "inspection_json",
    "plain",
    "plan_differences",
    "plan_json",
    "plan_report",
    "quantise_json",
    "quantise_report",
    "recover_json",
    "recover_report",
    "result_json",
    "result_report",
    "shrinks",
    "specs_report",
    "sweep_csv",
    "sweep_json",
    "sweep_report",
    "transfer_json",
    "transfer_report",
    "verify_json",
    "verify_report",
]
