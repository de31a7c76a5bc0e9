"""From a solved target to a file: patch sizes, change depth, plan the bytes, produce the weights.

``planner.prepare`` plans without reading a weight, ``execute.produce`` makes the tensors (and
``bot_onnx._onnxfile.writer`` writes them). Verification, reports and the API import from here; nothing here knows of
them.
"""
