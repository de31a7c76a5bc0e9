"""The resampling methods, one file each; every file defines ``METHOD`` and is found by the registry.

A method may import anything of ``bot_onnx._resample`` but never another method; nobody imports from here by name.
"""
