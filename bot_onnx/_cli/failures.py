"""How a command may end: every error becomes one message on stderr and an exit code.

0 done; 1 refused or failed; 2 wrong usage (click's); 130 interrupted; 141 the reader of the output went away; 143
terminated.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from bot_onnx.errors import BotError

REFUSED, INTERRUPTED, PIPE_CLOSED = 1, 130, 141
DEBUG_VARIABLE = "BOT_ONNX_DEBUG"


@contextmanager
def guarded() -> Iterator[None]:
    """Run a command so that none of its errors becomes a traceback, unless ``BOT_ONNX_DEBUG=1`` asks for it."""
    try:
        yield
        with named_stdout():  # what is still buffered meets a closed pipe or a full disk here, not at the very end
            pass
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except BotError as error:
        _fail(f"error: {error}")
    except KeyboardInterrupt:
        _say("interrupted")
        raise click.exceptions.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        _close_quietly()
        raise click.exceptions.Exit(PIPE_CLOSED) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"error: {where}{error.strerror or error}")
    except MemoryError as error:
        _fail(f"error: not enough memory{f': {error}' if str(error) else ''}; close other programs or use --device cpu")
    except Exception as error:
        kind = type(error).__name__
        _fail(
            f"error: unexpected {kind}: {error}. This is a defect of bot-onnx: please report it with the command and "
            f"the model's name; {DEBUG_VARIABLE}=1 shows where it happened."
        )


@contextmanager
def guarded_help() -> Iterator[None]:
    """Around everything: help and versions are printed before a command begins."""
    try:
        yield
    except OSError as error:
        _close_quietly()
        _say(f"error: stdout: {error.strerror or error}")
        raise SystemExit(REFUSED) from None


@contextmanager
def standing(*outputs: Path | None) -> Iterator[None]:
    """Tell of a job that is done: whatever goes wrong with that, the files that it has written are there."""
    try:
        yield
        with named_stdout():
            pass
    except BaseException:
        names = " and ".join(str(output) for output in outputs if output is not None)
        _say(f"{names}: written and whole all the same; what failed came after")
        raise


@contextmanager
def named_stdout() -> Iterator[None]:
    """Print in this block: what stdout does not take, at once or at the flush, is an error that names it."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _close_quietly()
        raise OSError(error.errno, error.strerror, "stdout") from error


def _fail(message: str) -> None:
    if os.environ.get(DEBUG_VARIABLE) not in (None, "", "0"):
        traceback.print_exc()
    _say(message)
    raise click.exceptions.Exit(REFUSED) from None


def _say(message: str) -> None:
    """Print one line on stderr, whatever a model's names or another library's message put into it."""
    line = " ".join(message.split())
    with suppress(OSError):
        click.echo("".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line), err=True)


def _close_quietly() -> None:
    """Point stdout at the null device: the interpreter flushes it once more at its end."""
    with suppress(OSError, ValueError, AttributeError):
        number = sys.stdout.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)
