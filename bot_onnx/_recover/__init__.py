"""Making a shrunk model useful again: its source teaches it, from the outputs and hidden states that both compute.

The teacher runs in onnxruntime; the student is converted to PyTorch, checked against onnxruntime, and trained there;
its weights go back into the initializers they came from. ``jobs.recover`` is the only entry. PyTorch and the converter
are imported only inside this folder, and only when training starts.
"""
