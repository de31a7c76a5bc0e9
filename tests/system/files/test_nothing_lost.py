"""No command destroys what it reads, or what another run has made; a source that changes meanwhile is an error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

import bot_onnx
from bot_onnx._cli import cli
from bot_onnx._onnxfile.data_files import locations
from bot_onnx._onnxfile.journal import Journal
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._onnxfile.scratch import Scratch, sweep
from bot_onnx._onnxfile.weight_files import MappedTensor
from bot_onnx.errors import BotError, GraphError, OutputError
from tests.graphs import residual_mlp_model, save

POSIX = pytest.mark.skipif(os.name != "posix", reason="devices and pipes of POSIX")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model with its weights in ``weights.bin``."""
    path = tmp_path / "model.onnx"
    made = residual_mlp_model(3, 64, 128)
    onnx.save(made, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


@pytest.mark.parametrize("name", ["weights.bin", "hard.bin", "soft.bin", "spec.json", "model.onnx", "out.onnx"])
@pytest.mark.parametrize("dry", [True, False])
def test_the_plan_file_replaces_nothing_that_is_read_or_made(model: Path, name: str, dry: bool) -> None:
    folder = model.parent
    (folder / "spec.json").write_text('{"hidden": 32}')
    os.link(folder / "weights.bin", folder / "hard.bin")
    (folder / "soft.bin").symlink_to("weights.bin")
    before = content(folder)
    flags = ("--dry-run",) if dry else ()
    shown = run(
        "resize", model, "--spec", folder / "spec.json", "-o", folder / "out.onnx", "--plan-out", folder / name,
        "--force", *flags,
    )  # fmt: skip
    assert shown.exit_code == 1 and "--plan-out" in shown.stderr, shown.output
    assert content(folder) == before


def test_the_plan_file_does_not_replace_the_data_of_the_output(model: Path) -> None:
    folder, out = model.parent, model.with_name("out.onnx")
    assert run("resize", model, "--hidden", 32, "-o", out, "-q").exit_code == 0
    (data,) = locations(out)
    before = content(folder)
    shown = run("resize", model, "--hidden", 32, "-o", out, "-q", "--force", "--plan-out", folder / data)
    assert shown.exit_code == 1 and data in shown.stderr
    assert content(folder) == before
    assert run("resize", model, "--hidden", 32, "-o", out, "-q", "--force", "--plan-out", folder / "p").exit_code == 0


@pytest.mark.parametrize("option", ["--spec", "--calibration"])
def test_an_output_does_not_replace_what_the_options_name(model: Path, option: str) -> None:
    folder = model.parent
    (folder / "given").write_text('{"hidden": 32}')
    flags = ("--spec", folder / "given") if option == "--spec" else ("--hidden", 32, option, folder / "given")
    before = content(folder)
    shown = run("resize", model, *flags, "-o", folder / "given", "--force")
    assert shown.exit_code == 1 and "never written to" in shown.stderr
    assert content(folder) == before


def test_a_name_that_nobody_gave_does_not_replace_what_the_options_name(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model.parent
    monkeypatch.chdir(folder)
    np.savez("samples.npz", x=np.zeros((2, 4, 64), np.float32))
    for name in ("model-hidden32.onnx", "model-int8.onnx", "model.html"):
        os.link("samples.npz", name)
    before = content(folder)
    for line in (
        ("resize", model, "--hidden", 32, "--inputs", "samples.npz"),
        ("fit", model, "--max-params", "10k", "--inputs", "model.html", "--spec-out", "samples.npz"),
        ("quantize", model, "--to", "int8", "--calibration", "samples.npz"),
        ("report", model, "--inputs", "samples.npz"),
    ):
        shown = run(*line, "--force")
        assert shown.exit_code == 1 and "is a source of this command" in shown.stderr, shown.output
    assert content(folder) == before


def test_a_page_of_the_folder_that_it_lies_in_is_written_again(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jinja2")
    monkeypatch.chdir(model.parent)
    for flags in ((), ("--force",)):
        assert run("report", ".", *flags).exit_code == 0
    shown = run("report", ".", "-o", "weights.bin", "--force")
    assert shown.exit_code == 1 and "is a source of this command" in shown.stderr


def test_an_export_does_not_replace_the_checkpoint_that_it_is_like(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    made = residual_mlp_model(2, 16, 32)
    path, home = save(made, tmp_path), tmp_path / "home"
    home.mkdir()
    (tmp_path / "names.json").write_text(
        "{" + ", ".join(f'"{tensor.name}": "net.{tensor.name}.weight"' for tensor in made.graph.initializer) + "}"
    )
    naming = ("--names", tmp_path / "names.json")
    assert run("export", path, *naming, "-o", home / "model.safetensors", "-q").exit_code == 0
    before = content(home)
    shown = run("export", path, "--like", home, "-o", home / "model.safetensors", "--force")
    assert shown.exit_code == 1 and "never written to" in shown.stderr
    assert content(home) == before


@pytest.mark.parametrize("how", ["shorter", "other", "replaced"])
def test_a_source_that_changes_meanwhile_is_an_error(model: Path, how: str) -> None:
    folder = model.parent
    data = folder / "weights.bin"
    length = data.stat().st_size
    done: list[str] = []

    def meddle(stage: str, written: int, total: int) -> None:
        if done:
            return
        done.append(stage)
        if how == "shorter":
            os.truncate(data, 10_000)
        elif how == "other":
            with open(data, "r+b") as stream:
                stream.write(bytes(length // 2))
        else:
            (folder / "new").write_bytes(bytes(length))
            os.replace(folder / "new", data)

    with pytest.raises(GraphError, match=r"became shorter|was changed"):
        bot_onnx.resize(model, {"hidden": 32}, folder / "out.onnx", progress=meddle)
    assert done and set(content(folder)) == {"model.onnx", "weights.bin"}


def test_reading_a_file_that_became_shorter_is_an_error(model: Path) -> None:
    with open_model(model) as source:
        values = [value.const_value for value in source.model().graph.initializers.values()]
        tensor = next(held for held in values if isinstance(held, MappedTensor))
        os.truncate(model.with_name("weights.bin"), 0)
        for read in (tensor.numpy, tensor.mapped, tensor.tobytes, source.check, source.sha256, source.check_unchanged):
            with pytest.raises(GraphError, match=r"became shorter|was changed"):
                read()


@pytest.mark.thorough
@POSIX
@pytest.mark.parametrize("output", ["/dev/stdout", "/dev/fd/1", "/dev/null", "/proc/self/fd/1"])
def test_devices_are_no_outputs(model: Path, output: str, tmp_path: Path) -> None:
    with open(tmp_path / "redirected", "wb") as stdout:
        command = [sys.executable, "-m", "bot_onnx", "resize", str(model), "--hidden", "32", "-o", output, "--force"]
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "no regular file" in done.stderr and done.stderr.count("\n") == 1
    assert (tmp_path / "redirected").read_bytes() == b""


@pytest.mark.thorough
@POSIX
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", "| true"])
def test_a_finished_job_says_that_its_output_stands(model: Path, redirection: str) -> None:
    if redirection == ">/dev/full" and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    out = model.with_name("out.onnx")
    line = f"{sys.executable} -m bot_onnx resize {model} --hidden 32 -o {out} --json {redirection}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0 and f"{out}: written and whole" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "defect" not in done.stderr
    assert bot_onnx.verify(out).passed


@pytest.mark.thorough
@POSIX
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_a_dry_run_says_that_its_plan_stands(model: Path, redirection: str) -> None:
    plan = model.with_name("plan.json")
    rest = f"-m bot_onnx resize {model} --hidden 32 --dry-run --plan-out {plan} {redirection}"
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {rest}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and f"{plan}: written and whole" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 2 and json.loads(plan.read_text())
    plan.unlink()
    rest = f"-m bot_onnx resize {model} --hidden 32 --dry-run {redirection}"
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {rest}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and done.stderr.startswith("error: stdout") and done.stderr.count("\n") == 1


@POSIX
@pytest.mark.parametrize("name", ["pipe", "/dev/zero", "deep.json", "many.json"])
def test_hostile_specs_are_refused_in_a_line(model: Path, name: str) -> None:
    folder = model.parent
    os.mkfifo(folder / "pipe")
    (folder / "deep.json").write_text('{"layers": ' + "[" * 200_000)
    (folder / "many.json").write_text('{"layers": 10000000}')
    shown = run("resize", model, "--spec", folder / name, "-o", folder / "out.onnx")
    assert shown.exit_code == 1 and shown.stderr.startswith("error: ") and shown.stderr.count("\n") == 1
    assert "defect" not in shown.stderr and not (folder / "out.onnx").exists()


@POSIX
@pytest.mark.parametrize(
    ("name", "match"),
    [("one.npy", "one array without a name"), ("one.npz", "one array without a name"), ("empty.npz", "no .npz file"),
     ("pipe", "no regular file"), ("text.npz", "no .npz file")],
)  # fmt: skip
def test_samples_that_are_none(model: Path, name: str, match: str) -> None:
    folder = model.parent
    os.mkfifo(folder / "pipe")
    np.save(folder / "one.npy", np.zeros((3, 4), np.float32))
    (folder / "one.npz").write_bytes((folder / "one.npy").read_bytes())
    (folder / "empty.npz").touch()
    (folder / "text.npz").write_text("no arrays\n")
    flags: tuple[Any, ...] = ("--align", "rotate", "--calibration", folder / name, "-o", folder / "out.onnx")
    shown = run("resize", model, "--hidden", 32, *flags)
    assert shown.exit_code == 1 and match in shown.stderr and "defect" not in shown.stderr


def test_quantised_models_leave_nothing_among_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import logging
    import tempfile

    from onnxruntime.quantization import quantize_dynamic

    logging.disable(logging.WARNING)
    quantize_dynamic(save(residual_mlp_model(3, 64, 128), tmp_path), tmp_path / "q.onnx")
    logging.disable(logging.NOTSET)
    (tmp_path / "empty").mkdir()
    seen: list[str] = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "empty"))
    real = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda *a, **k: seen.append(real(*a, **k)) or seen[-1])
    bot_onnx.resize(tmp_path / "q.onnx", {"hidden": 32}, tmp_path / "out.onnx", requantize=True)
    assert seen and all(".out.onnx." in path for path in seen)
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "q.onnx", "out.onnx", "empty"}


def test_errors_are_ours(model: Path) -> None:
    with pytest.raises(BotError):
        bot_onnx.resize(model, {"hidden": 32}, "/dev/null", force=True)


@pytest.mark.skipif(not hasattr(signal, "SIGBUS"), reason="no such signal")
def test_a_map_that_loses_its_file_ends_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1 << 16))
    code = (
        "import mmap, numpy, os\n"
        "from bot_onnx._cli.last_resort import explain_crashes\n"
        "explain_crashes()\n"
        f"file = open({str(tmp_path / 'file')!r}, 'r+b')\n"
        "shown = numpy.frombuffer(mmap.mmap(file.fileno(), 0), numpy.uint8)\n"
        "file.truncate(0)\n"
        "print(shown.sum())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: a file became shorter") and done.stderr.count("\n") == 1


# -- floats of quantised models ----------------------------------------------------------------------------------------


@pytest.fixture
def quantised(tmp_path: Path) -> tuple[Path, Path]:
    """A quantised model, and the same grown, in a folder of their own; beside it a folder for temporary files."""
    import logging

    from onnxruntime.quantization import quantize_dynamic

    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "temporary").mkdir()
    logging.disable(logging.WARNING)
    quantize_dynamic(save(residual_mlp_model(3, 64, 128), tmp_path), folder / "q.onnx")
    logging.disable(logging.NOTSET)
    bot_onnx.resize(folder / "q.onnx", {"hidden": 128}, folder / "grown.onnx")
    return folder / "q.onnx", folder / "grown.onnx"


def test_growing_a_quantised_model_needs_no_temporary_files(
    quantised: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    seen: list[str] = []
    real = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda *a, **k: seen.append(real(*a, **k)) or seen[-1])
    result = bot_onnx.resize(quantised[0], {"hidden": 192}, tmp_path / "models" / "more.onnx")
    assert result.plan.promise.kept and seen
    assert all(".more.onnx." in path for path in seen)


@POSIX
def test_floats_that_a_killed_verify_left_go_with_the_next_command(
    quantised: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    temporary = tmp_path / "temporary"
    code = (
        "import os, signal, sys, bot_onnx\n"
        "from bot_onnx._verify import dequantised\n"
        "real = dequantised.open_model\n"
        "dequantised.open_model = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "bot_onnx.verify(sys.argv[2], against=sys.argv[1])\n"
    )
    command = [sys.executable, "-c", code, *map(str, quantised)]
    done = subprocess.run(command, env={**os.environ, "TMPDIR": str(temporary)}, timeout=120, check=False)
    (left,) = temporary.glob(".bot_onnx.*")  # onnxruntime has a file of its own there
    assert done.returncode == -signal.SIGKILL and list(left.rglob("float.onnx.data"))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    bot_onnx.inspect(tmp_path / "model.onnx")
    assert not list(temporary.glob(".bot_onnx.*"))
    assert bot_onnx.verify(quantised[1], against=quantised[0]).passed
    assert not list(temporary.glob(".bot_onnx.*"))


def test_no_room_for_floats(quantised: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import tempfile

    import onnx_ir as ir

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    temporary = tmp_path / "temporary"
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(ir, "save", full)
    with pytest.raises(OutputError, match=rf"no room left for {temporary}.*float\.onnx.*TMPDIR"):
        bot_onnx.verify(quantised[1], against=quantised[0])
    assert not list(temporary.iterdir())
    with pytest.raises(OutputError, match=r"no room left for .*\.more\.onnx\..*float\.onnx"):
        bot_onnx.resize(quantised[0], {"hidden": 192}, tmp_path / "models" / "more.onnx")
    assert {path.name for path in quantised[0].parent.iterdir()} == {"q.onnx", "grown.onnx"}


@POSIX
def test_what_others_left_in_a_shared_folder_is_none_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its note would say which files to remove."""
    left = Scratch(tmp_path, "left")
    left.make()
    (tmp_path / "victim").touch()
    Journal("model.onnx", obsolete=("victim",)).write(left.path)
    assert left._descriptor is not None
    os.close(left._descriptor)
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    sweep(tmp_path)
    assert left.path.exists() and (tmp_path / "victim").exists()
    monkeypatch.setattr(os, "getuid", lambda: mine)
    sweep(tmp_path)
    assert not left.path.exists() and not (tmp_path / "victim").exists()


def test_a_plan_that_does_not_fit_any_more(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from bot_onnx._onnxfile import writer

    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "plan.json")

    monkeypatch.setattr(writer, "write_text", full)
    out = model.with_name("out.onnx")
    shown = run("resize", model, "--hidden", 32, "-o", out, "--plan-out", out.with_name("plan.json"), "-q")
    assert shown.exit_code == 1 and f"{out}: written and whole" in " ".join(shown.stderr.split())
    assert "error: plan.json: No space left" in shown.stderr
    assert bot_onnx.verify(out).passed
