"""Reading and understanding: from a file to dims, layers and stacks (``analysis.analyse``).

Nothing here knows of target sizes. Every other folder may import from it; it imports only ``bot_onnx.errors``.
"""
