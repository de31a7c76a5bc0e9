"""Folders of the model hubs: what lies beside ``model.onnx`` goes along, at the new sizes where it tells of them.

``layout`` says what a folder holds and what becomes of each file, ``sizes``, ``config`` and ``timm_config`` bring
configs to the sizes of a plan, ``jsontext`` writes them without touching anything else, ``card`` writes the README,
``output`` puts the folder together and gives it its name, ``hub`` fetches one.
"""

from typing import TYPE_CHECKING

from bot_onnx._deferred import deferred
from bot_onnx._folders.layout import Folder, find_folder, holds_several

if TYPE_CHECKING:
    from bot_onnx._folders.output import FolderOutput, planned_notes

__all__ = ["Folder", "FolderOutput", "find_folder", "holds_several", "planned_notes"]

__getattr__ = deferred(__name__, {"bot_onnx._folders.output": "FolderOutput planned_notes"})
