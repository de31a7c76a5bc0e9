"""The networks of the zoo, from configurations alone: HuggingFace's classes, and timm's vision transformer.

Weights are drawn anew after construction, since the libraries start biases at 0 and norms at 1, where a wrong one
could not be told from a right one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bot_onnx._recover.extras import import_torchvision
from tests.zoo.architectures import ARCHITECTURES, CLASSES, IMAGE, PATCH, ROBERTA_PAD, Built, Size, feeds
from tests.zoo.timm_import import import_timm

EXAMPLE_BATCH = 2
EXAMPLE_SEQUENCE = 9


class Encoder(nn.Module):
    """Call a HuggingFace encoder with positional tensors and return its tensors ``outputs``."""

    def __init__(self, model: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.outputs = outputs

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, ...]:
        """All inputs are int64 ``(batch, sequence)``."""
        result = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return tuple(result[name] for name in self.outputs)


class Decoder(nn.Module):
    """Call a HuggingFace causal language model without its cache; returns logits ``(batch, sequence, vocab)``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Both inputs are int64 ``(batch, sequence)``."""
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
        return logits


class Classifier(nn.Module):
    """Call a HuggingFace image classifier; returns logits ``(batch, classes)``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """``pixel_values`` is float32 ``(batch, 3, 32, 32)``."""
        logits: Tensor = self.model(pixel_values=pixel_values).logits
        return logits


def _encoder_options(size: Size) -> dict[str, Any]:
    return {
        "vocab_size": size.vocab,
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": size.intermediate,
        "max_position_embeddings": size.positions,
    }


def _bert(size: Size) -> nn.Module:
    from transformers import BertConfig, BertModel

    return Encoder(BertModel(BertConfig(**_encoder_options(size))), ARCHITECTURES["bert"].outputs)


def _bert_mlm(size: Size) -> nn.Module:
    from transformers import BertConfig, BertForMaskedLM

    return Encoder(BertForMaskedLM(BertConfig(**_encoder_options(size))), ("logits",))


def _roberta(size: Size) -> nn.Module:
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(**_encoder_options(size), type_vocab_size=1, pad_token_id=ROBERTA_PAD)
    return Encoder(RobertaModel(config), ARCHITECTURES["roberta"].outputs)


def _gpt2(size: Size) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=size.vocab,
        n_positions=size.positions,
        n_embd=size.hidden,
        n_layer=size.layers,
        n_head=size.heads,
        n_inner=size.intermediate,
        bos_token_id=0,
        eos_token_id=0,
    )
    return Decoder(GPT2LMHeadModel(config))


def _deit(size: Size) -> nn.Module:
    from transformers import DeiTConfig, DeiTForImageClassification

    config = DeiTConfig(
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.intermediate,
        image_size=IMAGE,
        patch_size=PATCH,
    )
    config.num_labels = CLASSES
    return Classifier(DeiTForImageClassification(config))


def _vit(size: Size) -> nn.Module:
    import_timm()
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=IMAGE,
        patch_size=PATCH,
        num_classes=CLASSES,
        embed_dim=size.hidden,
        depth=size.layers,
        num_heads=size.heads,
        mlp_ratio=size.intermediate / size.hidden,
    )


def _llama(size: Size) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=size.vocab,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.head_dim,
        intermediate_size=size.intermediate,
        max_position_embeddings=size.positions,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    return Decoder(LlamaForCausalLM(config))


_BUILDERS: dict[str, Callable[[Size], nn.Module]] = {
    "bert": _bert,
    "bert_mlm": _bert_mlm,
    "roberta": _roberta,
    "gpt2": _gpt2,
    "deit": _deit,
    "vit": _vit,
    "llama": _llama,
}


@torch.no_grad()
def randomise(module: nn.Module, seed: int) -> None:
    """Redraw every parameter so that none is 0, 1 or equal to another: outputs then depend on each.

    (Save the biases of keys, which add the same to every score of a query; softmax takes them out again.)

    Norm scales are uniform in [0.8, 1.2], biases Normal(0, 0.1^2), tables of rows (embeddings, positions, class
    tokens) Normal(0, 0.3^2), weights Normal(0, 1 / fan_in) with the std clamped to [0.05, 0.3].
    """
    generator = torch.Generator().manual_seed(seed)
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1 and name.endswith("weight"):
            parameter.uniform_(0.8, 1.2, generator=generator)
        elif parameter.ndim == 1:
            parameter.normal_(0.0, 0.1, generator=generator)
        elif id(parameter) in tables or not name.endswith("weight"):
            parameter.normal_(0.0, 0.3, generator=generator)
        else:
            # GPT-2 stores its weights as (in, out); the other axis gives a std of the same order there.
            fan_in = parameter[0].numel()
            parameter.normal_(0.0, min(max(fan_in**-0.5, 0.05), 0.3), generator=generator)


def _package(arch: str, module: nn.Module, size: Size, seed: int) -> Built:
    """Put a network together with example inputs and the axes that stay open."""
    traits = ARCHITECTURES[arch]
    examples = feeds(arch, size, EXAMPLE_BATCH, EXAMPLE_SEQUENCE, seed)
    return Built(
        module=module.eval(),
        inputs=tuple(torch.from_numpy(examples[name]) for name in traits.inputs),
        input_names=traits.inputs,
        output_names=traits.outputs,
        dynamic_axes={
            name: {0: "batch"} if traits.vision or name == "pooler_output" else {0: "batch", 1: "sequence"}
            for name in (*traits.inputs, *traits.outputs)
        },
    )


def build(arch: str, size: Size, seed: int = 0) -> Built:
    """See :func:`tests.zoo.architectures.build`; the size has been checked."""
    import_torchvision()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _BUILDERS[arch](size)
    randomise(module, seed)
    return _package(arch, module, size, seed)


def load_bert(folder: Path) -> Built:
    """Load a trained BERT encoder from ``config.json`` and ``model.safetensors`` in ``folder``."""
    import_torchvision()
    from transformers import BertModel

    model = BertModel.from_pretrained(str(folder), local_files_only=True)
    config = model.config
    size = Size(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        head_dim=config.hidden_size // config.num_attention_heads,
        kv_heads=config.num_attention_heads,
        intermediate=config.intermediate_size,
        vocab=config.vocab_size,
        positions=config.max_position_embeddings,
    )
    return _package("bert", Encoder(model, ARCHITECTURES["bert"].outputs), size, seed=0)
