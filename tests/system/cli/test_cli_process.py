"""The command line as a process of its own: start-up, signals, closed pipes, terminals."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bot_onnx.demo import model_bytes

COMMAND = (sys.executable, "-m", "bot_onnx")
HEAVY = ("onnx", "numpy", "pydantic", "rich", "onnxruntime", "pywt")
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def start(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        # A shell starts what it puts in the background with SIGINT ignored, and that is handed down.
        preexec_fn=None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        "import sys\nfrom bot_onnx._cli import main\n"
        "try:\n    main([sys.argv[1]])\n"
        f"finally:\n    print(sorted(set(sys.modules) & set({HEAVY})), file=sys.stderr)\n"
    )
    for flag in ("--help", "--version"):
        ended = subprocess.run([sys.executable, "-c", code, flag], capture_output=True, text=True, check=True)
        assert "bot-onnx" in ended.stdout
        assert ended.stderr == "[]\n"


def test_a_process_prints_results_on_stdout_and_errors_on_stderr(tmp_path: Path) -> None:
    process = start("inspect", tmp_path / "missing.onnx")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1 and stdout == ""
    assert stderr.startswith("error: ") and stderr.count("\n") == 1 and "missing.onnx" in stderr


def test_an_encoding_without_the_lines_of_tables_is_no_obstacle() -> None:
    process = start("specs", "list", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    assert stdout.isascii() and "bert-s" in stdout


@pytest.mark.thorough
@POSIX
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_demo_and_leaves_no_file(tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = start("demo", TMPDIR=str(tmp_path))
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("growing"):
            break
    assert list(tmp_path.glob(".bot-onnx-demo.*/models/digits-vit-small.onnx")), "the demo works elsewhere"
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in stderr and stdout == ""
    # onnxruntime may leave a small file of its own there; ours must be gone.
    assert [path for path in tmp_path.rglob("*") if "bot-onnx" in str(path.relative_to(tmp_path))] == []


def writing(process: subprocess.Popen[str], folder: Path) -> bool:
    """Whether the process holds a file in the folder open that is not the source and already has content."""
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed in the meantime
            name = os.readlink(descriptor)
            if name.startswith(f"{folder}/") and not name.endswith(("vit.onnx", "/lock")) and descriptor.stat().st_size:
                return True
    return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_resize_that_is_ended_while_it_writes_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    model = tmp_path / "vit.onnx"
    model.write_bytes(model_bytes())
    process = start("resize", model, "--hidden", "512", "--layers", "8", "-o", tmp_path / "large.onnx")
    while process.poll() is None and not writing(process, tmp_path):
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (143, "ended by SIGTERM\n")
    assert [path.name for path in tmp_path.iterdir()] == ["vit.onnx"]


@POSIX
def test_a_reader_that_leaves_early_is_no_error() -> None:
    process = start("specs", "schema")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 141
    assert stderr == ""


@POSIX
@pytest.mark.parametrize(("variables", "coloured"), [({"TERM": "xterm-256color"}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals_that_want_them(tmp_path: Path, variables: dict[str, str], coloured: bool) -> None:
    import pty

    model = tmp_path / "vit.onnx"
    model.write_bytes(model_bytes())
    unset = {
        key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS")
    }
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "inspect", str(model)],
        stdout=slave,
        stderr=subprocess.PIPE,
        env={"TERM": "xterm", **unset, **variables},
    )
    os.close(slave)
    seen = b""
    try:
        while chunk := os.read(master, 65536):
            seen += chunk
    except OSError:  # Linux reports the other side's end as an error
        pass
    finally:
        os.close(master)
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait(60) == 0
    assert b"hidden" in seen
    assert (b"\x1b[32m" in seen) is coloured
