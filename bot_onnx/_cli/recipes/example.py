"""The recipe that ``bot-onnx run --example`` prints."""

from __future__ import annotations

from typing import Final

EXAMPLE: Final = """\
# From a trained model to what a device runs: bot-onnx run recipe.yaml
# Every word of a step is that of an option of its command: bot-onnx resize --help. The demo's model and images:
#   python -c "import bot_onnx.demo as d; open('model.onnx', 'wb').write(d.model_bytes())"
#   python -c "import numpy, bot_onnx.demo as d; numpy.savez('images.npz', image=d.held_out().images)"
model: model.onnx
output: small-int8.onnx
steps:
  - resize:
      layers: 3
      hidden: 32
  - recover:              # learns from the source; needs the extra 'recover'
      data: images.npz
      steps: 1000
      rate: 1e-3
  - verify                # of the floats
  - quantize:
      to: int8
      calibration: images.npz
  - card:
      output: small-int8.md
"""
