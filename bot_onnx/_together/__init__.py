"""Files that are used one after the other, resized together so that they still fit.

``view`` looks at every file, ``links`` finds what goes from one to another, ``sizes`` gives every file a spec under
which all linked dims agree, ``handover`` runs the written files one after the other, ``job`` does it all.
"""

from bot_onnx._together.job import Together, plan_together, resize_together, verify_together

__all__ = ["Together", "plan_together", "resize_together", "verify_together"]
