"""Small networks made by hand, in a choice of spellings: every spelling is the same function of the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper

from tests.graphs import GraphBuilder

MICROSOFT = "com.microsoft"
VOCAB, POSITIONS, LAYERS, HEADS, HEAD_DIM, INNER = 11, 16, 3, 2, 4, 12
HIDDEN = HEADS * HEAD_DIM
#: Ways to write the factor of scores that are worked out as the file runs.
COMPUTED_SCALES = ("root", "power", "inverse", "one_over", "cast", "filled", "viewed", "repeated", "like")


@dataclass(frozen=True, slots=True)
class Spelling:
    """How each thing is written; the first way is the plain one."""

    linear: str = "matmul"
    norm: str = "op"
    gelu: str = "erf"
    softmax: str = "op"
    scale: str = "after"
    mask: str = "add"
    sum: str = "add"
    product: str = "matmul"
    commuted: bool = False
    pool: str = "global"
    flat: str = "flatten"
    head: str = "gemm"
    bias: str = "conv"
    opset: int = 17


@dataclass(slots=True)
class Network:
    """A model with the names of the values at places where something neutral may stand.

    Attributes:
        model: the model.
        places: place -> names of values, one per layer where layers have it.
    """

    model: onnx.ModelProto
    places: dict[str, list[str]] = field(default_factory=dict)


class Speller:
    """Writes the things that have more than one spelling. Weights are named, and drawn in one order."""

    def __init__(self, how: Spelling) -> None:
        self.how = how
        self.b = GraphBuilder(7)
        self.places: dict[str, list[str]] = {}

    def mark(self, place: str, value: str) -> str:
        """Note that ``value`` is one of the places."""
        self.places.setdefault(place, []).append(value)
        return value

    def number(self, value: float) -> str:
        """A scalar."""
        return self.b.constant(np.array(value, np.float32))

    def two(self, kind: str, left: str, right: str) -> str:
        """A commutative op of two operands."""
        return self.b.op(kind, right, left) if self.how.commuted else self.b.op(kind, left, right)

    def add(self, left: str, right: str) -> str:
        """A residual sum."""
        if self.how.sum == "sum":
            return self.b.op("Sum", left, right)
        if self.how.sum == "minus":
            return self.b.op("Sub", left, self.b.op("Neg", right))
        return self.two("Add", left, right)

    def linear(self, x: str, name: str, rows: int, columns: int) -> str:
        """``x @ w + c``."""
        b, way = self.b, self.how.linear
        weight, bias = b.weight(rows, columns, name=f"{name}.w"), b.weight(columns, name=f"{name}.b")
        self.mark("weight", weight)
        if way == "gemm":
            flat = b.op("Gemm", b.op("Reshape", x, b.ints(-1, rows)), weight, bias)
            lead = b.op("Slice", b.op("Shape", x), b.ints(0), b.ints(-1), b.ints(0))
            return b.op("Reshape", flat, b.op("Concat", lead, b.ints(columns), axis=0))
        if way == "fused":
            made = b.op("FusedMatMul", x, weight, domain=MICROSOFT)
        elif way == "einsum":
            made = b.op("Einsum", x, weight, equation="bsi,io->bso")
        elif way == "transposed":
            self.turn(weight)
            made = b.op("MatMul", x, b.op("Transpose", weight, perm=[1, 0]))
        elif way == "fused_transposed":
            self.turn(weight)
            made = b.op("FusedMatMul", x, weight, domain=MICROSOFT, transB=1)
        elif way == "einsum_transposed":
            self.turn(weight)
            made = b.op("Einsum", x, weight, equation="bsi,oi->bso")
        else:
            made = b.op("MatMul", x, weight)
        return self.two("Add", made, bias)

    def turn(self, name: str) -> None:
        """Store a weight transposed."""
        tensor = next(tensor for tensor in self.b.tensors if tensor.name == name)
        turned = onnx.numpy_helper.from_array(np.ascontiguousarray(onnx.numpy_helper.to_array(tensor).T), name)
        tensor.CopyFrom(turned)

    def product(self, left: str, right: str, *, flipped: bool = False) -> str:
        """Product of two activations of rank 4, the right one turned around before."""
        b, way = self.b, self.how.product
        if way == "einsum":
            return b.op("Einsum", left, right, equation="bhik,bhjk->bhij" if flipped else "bhik,bhkj->bhij")
        if way == "fused_batch":
            sides = (b.op("Transpose", side, perm=[2, 0, 1, 3]) for side in (left, right))
            return b.op("FusedMatMul", *sides, domain=MICROSOFT, transBatchA=1, transBatchB=1, transB=int(flipped))
        if way == "fused":
            return b.op("FusedMatMul", left, right, domain=MICROSOFT, transB=int(flipped))
        return b.op("MatMul", left, b.op("Transpose", right, perm=[0, 1, 3, 2]) if flipped else right)

    def mean(self, x: str) -> str:
        """Mean over the last axis."""
        if self.how.opset >= 18:
            return self.b.op("ReduceMean", x, self.b.ints(-1), keepdims=1)
        return self.b.op("ReduceMean", x, axes=[-1], keepdims=1)

    def norm(self, x: str, name: str, *, centred: bool) -> str:
        """A norm over the last axis: LayerNorm where ``centred``, else RMSNorm."""
        b, way = self.b, self.how.norm
        scale, shift = self._norm_weights(name, centred=centred)
        self.mark("before_norm", x)
        if way in ("op", "skip") and centred:
            return b.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=1e-5)
        if way in ("simplified", "skip"):
            return b.op("SimplifiedLayerNormalization", x, scale, axis=-1, epsilon=1e-5)
        if way == "rms":
            return b.op("RMSNormalization", x, scale, axis=-1, epsilon=1e-5)
        middle = b.op("Sub", x, self.mean(x)) if centred else x
        if way == "moments" and centred:
            mean = self.mean(x)
            variance = b.op("Sub", self.mean(b.op("Mul", x, x)), b.op("Mul", mean, mean))
        elif way in ("square", "inverse_root", "reciprocal", "scaled_first"):
            variance = self.mean(b.op("Mul", middle, middle))
        else:
            variance = self.mean(b.op("Pow", middle, self.number(2.0)))
        raised = self.two("Add", variance, self.number(1e-5))
        if way == "scaled_first":
            factor = self.two("Mul", b.op("Reciprocal", b.op("Sqrt", raised)), scale)
            made = self.two("Mul", middle, factor)
            return self.two("Add", made, shift) if centred else made
        if way == "inverse_root":
            made = self.two("Mul", middle, b.op("Pow", raised, self.number(-0.5)))
        elif way == "reciprocal":
            made = self.two("Mul", middle, b.op("Reciprocal", b.op("Sqrt", raised)))
        elif way == "one_over":
            made = self.two("Mul", middle, b.op("Div", self.number(1.0), b.op("Sqrt", raised)))
        elif way == "half_power":
            made = b.op("Div", middle, b.op("Pow", raised, self.number(0.5)))
        else:
            made = b.op("Div", middle, b.op("Sqrt", raised))
        made = self.two("Mul", made, scale)
        return self.two("Add", made, shift) if centred else made

    def add_norm(self, x: str, branch: str, name: str, *, centred: bool) -> tuple[str, str]:
        """The sum of two values, and its norm."""
        if self.how.norm != "skip":
            total = self.add(x, branch)
            return total, self.norm(total, name, centred=centred)
        b = self.b
        scale, shift = self._norm_weights(name, centred=centred)
        kind = "SkipLayerNormalization" if centred else "SkipSimplifiedLayerNormalization"
        weights = [scale, shift] if centred else [scale]
        normed = b.op(kind, x, branch, *weights, outputs=4, domain=MICROSOFT, epsilon=1e-5)
        self.mark("before_norm", f"{normed}.3")
        return f"{normed}.3", normed

    def _norm_weights(self, name: str, *, centred: bool) -> tuple[str, str]:
        scale = self.b.constant((1 + self.b._rng.standard_normal(HIDDEN) / 4).astype(np.float32), f"{name}.scale")
        return scale, self.b.weight(HIDDEN, name=f"{name}.shift") if centred else ""

    def gelu(self, x: str) -> str:
        """The activation of the MLP."""
        b, way = self.b, self.how.gelu
        if way == "op":
            return b.op("Gelu", x, domain=MICROSOFT)
        if way in ("tanh", "fast", "tanh_op"):
            return self._tanh_gelu(x)
        if way in ("silu", "quick", "swish"):
            return self._silu(x)
        inner = b.op("Erf", b.op("Div", x, self.number(2**0.5)))
        if way == "erf_mul":
            inner = b.op("Erf", b.op("Mul", x, self.number(0.5**0.5)))
        grown = self.two("Add", inner, self.number(1.0))
        if way == "half_first":
            return self.two("Mul", b.op("Mul", x, self.number(0.5)), grown)
        return b.op("Mul", self.two("Mul", x, grown), self.number(0.5))

    def _tanh_gelu(self, x: str) -> str:
        b, way = self.b, self.how.gelu
        if way == "fast":
            return b.op("FastGelu", x, domain=MICROSOFT)
        if way == "tanh_op":
            return b.op("Gelu", x, approximate="tanh")
        cube = b.op("Mul", b.op("Pow", x, self.number(3.0)), self.number(0.044715))
        inner = b.op("Tanh", b.op("Mul", self.two("Add", x, cube), self.number((2 / np.pi) ** 0.5)))
        return self.two("Mul", b.op("Mul", x, self.number(0.5)), self.two("Add", inner, self.number(1.0)))

    def _silu(self, x: str) -> str:
        b, way = self.b, self.how.gelu
        if way == "quick":
            return b.op("QuickGelu", x, domain=MICROSOFT, alpha=1.0)
        return b.op("Swish", x) if way == "swish" else self.two("Mul", x, b.op("Sigmoid", x))

    def softmax(self, x: str) -> str:
        """Softmax over the last axis."""
        b, way = self.b, self.how.softmax
        if way == "op":
            return b.op("Softmax", x, axis=-1)
        if way == "log":
            return b.op("Exp", b.op("LogSoftmax", x, axis=-1))
        if way == "shifted":
            if self.how.opset >= 18:
                top = b.op("ReduceMax", x, b.ints(-1), keepdims=1)
            else:
                top = b.op("ReduceMax", x, axes=[-1], keepdims=1)
            x = b.op("Sub", x, top)
        made = b.op("Exp", x)
        total = b.op("ReduceSum", made, b.ints(-1), keepdims=1)
        return b.op("Mul", made, b.op("Reciprocal", total)) if way == "reciprocal" else b.op("Div", made, total)

    def attention(self, x: str, name: str) -> str:
        """Multi-head attention, masked by ``mask`` (0 or 1 a position)."""
        b, way = self.b, self.how.scale
        query, key, value = (self.heads(self.linear(x, f"{name}.{side}", HIDDEN, HIDDEN)) for side in "qkv")
        root = HEAD_DIM**0.5
        if way == "query":
            query = b.op("Mul", query, self.number(1 / root))
        elif way == "key":
            key = b.op("Div", key, self.number(root))
        elif way == "both":
            query, key = (b.op("Mul", side, self.number(root**-0.5)) for side in (query, key))
        if way == "alpha":
            score = b.op("FusedMatMul", query, key, domain=MICROSOFT, transB=1, alpha=1 / root)
            self.mark("scores", score)
        else:
            score = self.mark("scores", self.product(query, key, flipped=True))
        if way in COMPUTED_SCALES:
            score = self.scaled(score)
        elif way == "after":
            score = b.op("Mul", score, self.number(1 / root))
        elif way == "after_div":
            score = b.op("Div", score, self.number(root))
        if self.how.mask == "where":
            score = b.op("Where", b.op("Equal", "mask4", self.number(1.0)), score, self.number(-1e4))
        elif self.how.mask == "add":
            score = self.two("Add", score, "bias4")
        weights = self.mark("weights", self.softmax(self.mark("softmax", score)))
        mixed = self.product(weights, value)
        flat = b.op("Reshape", b.op("Transpose", mixed, perm=[0, 2, 1, 3]), b.ints(0, 0, HIDDEN))
        return self.linear(flat, f"{name}.o", HIDDEN, HIDDEN)

    def scaled(self, score: str) -> str:
        """Scores times a factor that the file works out from constants as it runs."""
        b, way, size = self.b, self.how.scale, self.number(float(HEAD_DIM))
        if way == "power":
            return b.op("Mul", score, b.op("Pow", size, self.number(-0.5)))
        if way == "inverse":
            return b.op("Mul", score, b.op("Reciprocal", b.op("Sqrt", size)))
        if way == "one_over":
            return b.op("Mul", score, b.op("Div", self.number(1.0), b.op("Sqrt", size)))
        if way == "cast":
            whole = b.constant(np.array(HEAD_DIM, np.int64))
            return b.op("Div", score, b.op("Sqrt", b.op("Cast", whole, to=onnx.TensorProto.FLOAT)))
        if way == "filled":
            root = onnx.numpy_helper.from_array(np.array([HEAD_DIM**0.5], np.float32))
            return b.op("Div", score, b.op("ConstantOfShape", b.ints(1), value=root))
        root = self.number(HEAD_DIM**0.5)
        if way == "viewed":
            return b.op("Div", score, b.op("Unsqueeze", root, b.ints(0)))
        if way == "repeated":
            return b.op("Div", score, b.op("Expand", root, b.op("Shape", score)))
        if way == "like":
            whole = b.constant(np.array(HEAD_DIM, np.int64))
            return b.op("Div", score, b.op("Sqrt", b.op("CastLike", whole, score)))
        return b.op("Div", score, b.op("Sqrt", size))

    def heads(self, x: str) -> str:
        """[B, S, H] -> [B, heads, S, head_dim]."""
        self.mark("head_split", x)
        return self.b.op("Transpose", self.b.op("Reshape", x, self.b.ints(0, 0, HEADS, HEAD_DIM)), perm=[0, 2, 1, 3])

    def mlp(self, x: str, name: str) -> str:
        """Two linear maps with a GELU between them."""
        inside = self.mark("inner", self.gelu(self.linear(x, f"{name}.up", HIDDEN, INNER)))
        return self.linear(inside, f"{name}.down", INNER, HIDDEN)

    def start(self) -> str:
        """Tokens and positions looked up; the mask, where there is one, as a bias of scores."""
        b = self.b
        if self.how.mask != "none":
            b.nodes.append(helper.make_node("Unsqueeze", ["mask", b.ints(1, 2)], ["mask4"], name="mask4"))
        if self.how.mask == "add":
            off = b.op("Sub", self.number(1.0), "mask4")
            b.nodes.append(helper.make_node("Mul", [off, self.number(-1e4)], ["bias4"], name="bias4"))
        words = b.op("Gather", b.weight(VOCAB, HIDDEN, name="words"), "tokens")
        length = b.op("Slice", b.op("Shape", "tokens"), b.ints(1), b.ints(2), b.ints(0))
        positions = b.op("Slice", b.weight(POSITIONS, HIDDEN, name="positions"), b.ints(0), length, b.ints(0))
        return b.op("Add", words, positions)

    def finish(self) -> Network:
        """The model with ``tokens`` (and ``mask``) as inputs, and what was made last as its output."""
        self.mark("output", rename_last(self.b, "logits"))
        inputs = [("tokens", ["batch", "sequence"])] + ([("mask", ["batch", "sequence"])] * (self.how.mask != "none"))
        model = self.b.model(inputs, ["logits"], integer_inputs=["tokens"], opset=self.how.opset, rank=3)
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
        return Network(model, self.places)


def prenorm(how: Spelling = Spelling(), *, centred: bool = True, flattened: bool = False) -> Network:
    """A transformer with norms before its branches; where ``flattened``, the rows of a batch go through MLPs as one."""
    s = Speller(how)
    x = s.start()
    normed = s.norm(x, "h0.n1", centred=centred)
    for layer in range(LAYERS):
        following = f"h{layer + 1}.n1" if layer + 1 < LAYERS else "last"
        branch = s.mark("branch", s.attention(normed, f"h{layer}"))
        shape = x
        if flattened:
            x = s.b.op("Reshape", s.add(x, branch), s.b.ints(-1, HIDDEN))
            normed = s.norm(x, f"h{layer}.n2", centred=centred)
        else:
            x, normed = s.add_norm(x, branch, f"h{layer}.n2", centred=centred)
        branch = s.mark("branch", s.mlp(normed, f"h{layer}"))
        if flattened:
            x = s.b.op("Reshape", s.add(x, branch), s.b.op("Shape", shape))
            normed = s.norm(x, following, centred=centred)
        else:
            x, normed = s.add_norm(x, branch, following, centred=centred)
    s.linear(normed, "head", HIDDEN, VOCAB)
    return s.finish()


def rmsnorm(how: Spelling = Spelling(norm="pow")) -> Network:
    """The same with RMSNorm."""
    return prenorm(how, centred=False)


def flattened() -> Network:
    """A decoder that flattens the batch before its MLPs, as OPT does."""
    return prenorm(flattened=True)


def postnorm(how: Spelling = Spelling()) -> Network:
    """A transformer with norms after its sums."""
    s = Speller(how)
    x = s.norm(s.start(), "first", centred=True)
    for layer in range(LAYERS):
        _, x = s.add_norm(x, s.mark("branch", s.attention(x, f"h{layer}")), f"h{layer}.n1", centred=True)
        _, x = s.add_norm(x, s.mark("branch", s.mlp(x, f"h{layer}")), f"h{layer}.n2", centred=True)
    s.linear(x, "head", HIDDEN, VOCAB)
    return s.finish()


def images(how: Spelling = Spelling()) -> Network:
    """Residual blocks of convolutions with batch norms, a global pool and a head."""
    s = Speller(how)
    b = s.b
    x = b.op("Relu", _conv(s, "image", "stem", 3, 8))
    for layer in range(LAYERS):
        inside = s.mark("inner", b.op("Relu", _conv(s, s.mark("before_norm", x), f"h{layer}.a", 8, 12)))
        x = b.op("Relu", s.add(x, s.mark("branch", _conv(s, inside, f"h{layer}.b", 12, 8))))
    flat = _pooled(s, x)
    weight, bias = s.mark("weight", b.weight(8, 5, name="head.w")), b.weight(5, name="head.b")
    if how.head == "gemm":
        b.op("Gemm", flat, weight, bias)
    elif how.head == "gemm_turned":
        s.turn(weight)
        b.op("Gemm", flat, weight, bias, transB=1)
    else:
        s.two("Add", b.op("MatMul", flat, weight), bias)
    model = b.model([("image", ["batch", 3, 8, 8])], [s.mark("output", rename_last(b, "logits"))], opset=how.opset)
    model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return Network(model, s.places)


def _pooled(s: Speller, x: str) -> str:
    """The mean of every channel."""
    b, how = s.b, s.how
    pooled = b.op("GlobalAveragePool", x) if how.pool == "global" else b.op("ReduceMean", x, axes=[2, 3], keepdims=1)
    if how.flat == "reshape":
        return b.op("Reshape", pooled, b.ints(0, -1))
    return b.op("Squeeze", pooled, b.ints(2, 3)) if how.flat == "squeeze" else b.op("Flatten", pooled, axis=1)


def _conv(s: Speller, x: str, name: str, before: int, after: int) -> str:
    b = s.b
    weight, bias = b.weight(after, before, 3, 3, name=f"{name}.w"), b.weight(after, name=f"{name}.c")
    if s.how.bias == "conv":
        made = b.op("Conv", x, weight, bias, pads=[1] * 4, kernel_shape=[3, 3])
    else:
        tensor = next(tensor for tensor in b.tensors if tensor.name == bias)
        tensor.dims[:] = [1, after, 1, 1]
        made = s.two("Add", b.op("Conv", x, weight, pads=[1] * 4, kernel_shape=[3, 3]), bias)
    ones = [b.constant((1 + b._rng.random(after)).astype(np.float32), f"{name}.{part}") for part in ("g", "v")]
    means = b.weight(after, name=f"{name}.m")
    return b.op("BatchNormalization", made, ones[0], b.weight(after, name=f"{name}.b"), means, ones[1])


def mlp(how: Spelling = Spelling()) -> Network:
    """``x + W2 gelu(W1 norm(x))`` per layer."""
    s = Speller(how)
    b = s.b
    x = b.op("MatMul", "x", b.weight(4, HIDDEN, name="stem.w"))
    for layer in range(LAYERS):
        x = s.add(x, s.mark("branch", s.mlp(s.norm(x, f"h{layer}.n", centred=True), f"h{layer}")))
    s.linear(x, "head", HIDDEN, 3)
    model = b.model(
        [("x", ["batch", "sequence", 4])], [s.mark("output", rename_last(b, "logits"))], opset=how.opset, rank=3
    )
    model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return Network(model, s.places)


def lstm(how: Spelling = Spelling()) -> Network:
    """Two LSTMs, one above the other, and a head."""
    s = Speller(how)
    b = s.b
    x = b.op("Transpose", b.op("MatMul", "x", b.weight(4, HIDDEN, name="stem.w")), perm=[1, 0, 2])
    for layer in range(2):
        weights = [
            b.weight(1, 4 * HIDDEN, HIDDEN, name=f"h{layer}.w"),
            b.weight(1, 4 * HIDDEN, HIDDEN, name=f"h{layer}.r"),
            b.weight(1, 8 * HIDDEN, name=f"h{layer}.b"),
        ]
        made = b.op("LSTM", s.mark("branch", x), *weights, hidden_size=HIDDEN)
        x = s.mark("inner", b.op("Squeeze", made, b.ints(1)))
    s.linear(b.op("Transpose", x, perm=[1, 0, 2]), "head", HIDDEN, 3)
    model = b.model(
        [("x", ["batch", "sequence", 4])], [s.mark("output", rename_last(b, "logits"))], opset=how.opset, rank=3
    )
    model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    return Network(model, s.places)


def rename_last(b: GraphBuilder, name: str) -> str:
    """Name the result of the last node."""
    b.nodes[-1].output[0] = name
    return name


ZOO: dict[str, Callable[[], Network]] = {
    "prenorm": prenorm,
    "rmsnorm": rmsnorm,
    "flattened": flattened,
    "postnorm": postnorm,
    "images": images,
    "mlp": mlp,
    "lstm": lstm,
}
