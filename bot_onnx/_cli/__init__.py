"""The command line: one click command a file, each of them parses, calls the API and renders with ``report``.

Import ``main`` (the installed entry point) or ``cli`` (the click group) from here; everything that costs time to import
is imported by a command when it runs.
"""

from bot_onnx._cli.app import cli, main

__all__ = ["cli", "main"]
