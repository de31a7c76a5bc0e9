"""``python -m bot_onnx``: the command line."""

from bot_onnx._cli import main

if __name__ == "__main__":
    main()
