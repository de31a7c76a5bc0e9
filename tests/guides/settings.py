"""The files that each guide is about: trained networks where a package ships them, else networks that were exported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bot_onnx.demo import held_out, model_bytes

_ROOT = Path(__file__).resolve().parents[2]
_LINES = 60


@dataclass(frozen=True, slots=True)
class Setting:
    """What a guide finds, and what it leaves.

    Attributes:
        make: puts the files into a folder, and gives code that stands before the guide's.
        makes: files and folders that are there at the end.
        extras: of the package, which the guide needs. beside: packages that it needs besides.
        minutes: whether it takes longer than a plain run of the tests has.
    """

    make: Callable[[Path], str]
    makes: tuple[str, ...]
    extras: tuple[str, ...] = ("cpu",)
    beside: tuple[str, ...] = ()
    minutes: bool = False


def _demo(folder: Path, model: str = "model.onnx", samples: str = "samples.npz") -> str:
    """The demo's vision transformer, trained on digits, and its images."""
    (folder / model).write_bytes(model_bytes())
    np.savez(folder / samples, image=held_out().images)
    return "import bot_onnx\n"


def _lines(folder: Path) -> None:
    """A text of a few lines, and the tokenizer of the MiniLMs."""
    from tests.zoo.real import minilm_l6_folder

    shutil.copy(minilm_l6_folder() / "tokenizer.json", folder)
    text = (_ROOT / "docs" / "engine.md").read_text(encoding="utf-8").splitlines()
    (folder / "lines.txt").write_text("\n".join(line for line in text if len(line) > 60) + "\n", encoding="utf-8")


def _encoder(folder: Path, name: str = "model.onnx") -> str:
    """A trained sentence encoder of three layers, a text, and the text as samples."""
    from tokenizers import Tokenizer

    from tests.zoo.real import minilm_l3

    shutil.copy(minilm_l3(), folder / name)
    _lines(folder)
    tool = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tool.enable_truncation(32)
    tool.enable_padding(length=32)
    made = tool.encode_batch((folder / "lines.txt").read_text(encoding="utf-8").splitlines()[:_LINES])
    ids, mask = (np.array([getattr(row, part) for row in made], np.int64) for part in ("ids", "attention_mask"))
    np.savez(folder / "samples.npz", input_ids=ids, attention_mask=mask, token_type_ids=np.zeros_like(ids))
    return "import bot_onnx\n"


def _published(folder: Path, name: str) -> Path:
    """A folder of sentence-transformers, trained, with its ONNX file as Optimum puts it."""
    from tests.zoo.real import minilm_l6, minilm_l6_folder

    shutil.copytree(minilm_l6_folder(), folder / name)
    (folder / name / "onnx").mkdir()
    shutil.copy(minilm_l6("torchscript17"), folder / name / "onnx" / "model.onnx")
    return folder / name


def _small_spec(folder: Path, **sizes: int) -> None:
    (folder / "small.json").write_text(json.dumps(sizes))


def _exporting(folder: Path) -> str:
    """A network of PyTorch."""
    return (
        "import torch\n"
        "model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4))\n"
        "x = torch.zeros(2, 16)\n"
    )


def _folders(folder: Path) -> str:
    _published(folder, "bert-folder")
    _small_spec(folder, layers=3, hidden=192)
    return "import bot_onnx\n"


def _together(folder: Path) -> str:
    from tests import pair_graphs as graphs

    wide = graphs.Widths(layers=6, hidden=512, heads=8, head_dim=64, inner=1024)
    pair = {"encoder": graphs.encoder(wide), "decoder": graphs.decoder(wide)}
    graphs.write(folder, **pair, enc=graphs.embedder(wide), head=graphs.head(512, reads="features"))
    cached = graphs.decoder(wide, past=True)
    graphs.write(
        folder / "whisper-folder", encoder_model=pair["encoder"], decoder_model=pair["decoder"],
        decoder_with_past_model=cached,
    )  # fmt: skip
    config = {
        "model_type": "whisper", "d_model": 512, "encoder_layers": 6, "decoder_layers": 6,
        "encoder_attention_heads": 8, "decoder_attention_heads": 8, "encoder_ffn_dim": 1024, "decoder_ffn_dim": 1024,
        "vocab_size": graphs.VOCAB,
    }  # fmt: skip
    (folder / "whisper-folder" / "config.json").write_text(json.dumps(config))
    _small_spec(folder, layers=3, hidden=256)
    return "import bot_onnx\n"


def _learning(folder: Path) -> str:
    _encoder(folder, "bert.onnx")
    return _demo(folder, "vit.onnx")


def _recovering(folder: Path) -> str:
    return _demo(folder) + "from bot_onnx.demo import held_out\nmy_images = held_out().images[:64]\n"


def _quantising(folder: Path) -> str:
    import onnx

    from tests.unit.fit.test_fit import convolutions

    onnx.save(convolutions(), folder / "cnn.onnx")
    shape = [side.dim_value or 1 for side in convolutions().graph.input[0].type.tensor_type.shape.dim]
    rng = np.random.default_rng(0)
    np.savez(
        folder / "samples.npz", **{convolutions().graph.input[0].name: rng.normal(size=(8, *shape[1:])).astype("f4")}
    )
    (folder / "model.onnx").write_bytes(model_bytes())
    return ""


def _sweeping(folder: Path) -> str:
    specs = {
        "narrow": {"hidden": 32}, "short": {"layers": 3}, "half": {"hidden": 32, "layers": 3},
        "tiny": {"hidden": 16, "layers": 2}, "a": {"hidden": 32}, "b": {"layers": 3},
    }  # fmt: skip
    for name, sizes in specs.items():
        (folder / f"{name}.json").write_text(json.dumps(sizes))
    (folder / "my.py").write_text("def score(model):\n    return 1.0\n")
    _demo(folder)
    return _demo(folder, "digits_vit.onnx")


def _words(folder: Path) -> str:
    import bot_onnx

    _encoder(folder)
    bot_onnx.resize(folder / "model.onnx", {"hidden": 192}, folder / "small.onnx", against=False)
    shutil.copytree(_ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("*.png", "*.json", "methods"))
    shutil.copy(_ROOT / "README.md", folder)
    (folder / "ids.txt").write_text("\n".join(map(str, range(1500))) + "\n")
    for name in ("bert-folder", "folder"):
        _published(folder, name)
    return "import bot_onnx\n"


def _weights(folder: Path) -> str:
    source = _published(folder, "bert")
    shutil.copy(source / "onnx" / "model.onnx", folder / "bert.onnx")
    return (  # a torchvision of another PyTorch keeps transformers from being imported
        "import contextlib\n"
        "with contextlib.suppress(ImportError):\n"
        "    from bot_onnx._recover.extras import import_torchvision\n"
        "    import_torchvision()\n"
    )


SETTINGS = {
    "getting-model": Setting(_exporting, ("model.onnx",), ("cpu",), ("torch", "onnxscript"), minutes=True),
    "device": Setting(lambda folder: "", ("device.onnx",), ("cpu", "recover"), minutes=True),
    "recipes": Setting(
        partial(_demo, samples="images.npz"),
        ("small-int8.onnx", "small-int8.md"),
        ("cpu", "recover", "recipes"),
        minutes=True,
    ),
    "folders": Setting(_folders, ("small-folder", "short-folder", "python-folder"), minutes=True),
    "together": Setting(_together, ("small-pair", "small-folder", "with-head", "python-pair"), minutes=True),
    "fit": Setting(partial(_demo, model="digits_vit.onnx"), ()),
    "keep": Setting(_encoder, ("model-layerskeep_0_2.onnx", "most.onnx"), ("cpu", "recover"), minutes=True),
    "learn": Setting(_learning, ("small.onnx", "small-bert.onnx"), ("cpu", "recover"), minutes=True),
    "recover": Setting(_recovering, ("out.onnx", "run.csv"), ("cpu", "recover"), minutes=True),
    "quantize": Setting(_quantising, ("digits-int8.onnx", "small-int8.onnx"), minutes=True),
    "report": Setting(partial(_demo, model="digits_vit.onnx"), ("report.html", "resized.onnx"), ("cpu", "report")),
    "sweep": Setting(_sweeping, ("best.onnx", "sweep.db"), ("cpu", "sweep"), minutes=True),
    "storage": Setting(_demo, ("large.onnx",)),
    "vocabulary": Setting(
        _words, ("cut.onnx", "cut.tokenizer.json", "small-folder"), ("cpu", "vocabulary"), minutes=True
    ),
    "weights": Setting(
        _weights,
        ("small/model.safetensors", "trained-again.onnx"),
        ("cpu", "safetensors"),
        ("torch", "transformers"),
        minutes=True,
    ),
}
