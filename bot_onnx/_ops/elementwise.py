"""Ops that compute element by element: arithmetic, comparisons, functions of one number."""

from __future__ import annotations

from bot_onnx._ops.record import MICROSOFT, Axes, Calc, Function
from bot_onnx._ops.registry import Traits, register

# -- of several operands -----------------------------------------------------------------------------------------------

_BROADCAST: Traits = {"axes": Axes.BROADCAST}

register("Add", **_BROADCAST, calc=Calc.SUM, commutative=True, shapes=True, whole=lambda a, b: a + b)
register("Sum", **_BROADCAST, calc=Calc.SUM, commutative=True, variadic=True, shapes=True, whole=lambda *a: sum(a))
register("Sub", **_BROADCAST, calc=Calc.DIFFERENCE, shapes=True, whole=lambda a, b: a - b)
register("Mul", **_BROADCAST, calc=Calc.PRODUCT, commutative=True, shapes=True, whole=lambda a, b: a * b)
register("Div", **_BROADCAST, calc=Calc.QUOTIENT, shapes=True, whole=lambda a, b: int(a / b) if b else 0)
register("Mod", **_BROADCAST, calc=Calc.REMAINDER, shapes=True, whole=lambda a, b: a % b if b else 0)
register("Mean", **_BROADCAST, calc=Calc.AVERAGE, commutative=True, variadic=True)
register("Max", **_BROADCAST, calc=Calc.EXTREME, commutative=True, variadic=True, shapes=True, whole=max)
register("Min", **_BROADCAST, calc=Calc.EXTREME, commutative=True, variadic=True, shapes=True, whole=min)
register("Pow", **_BROADCAST, calc=Calc.POWER, shapes=True)
register("PRelu", **_BROADCAST, function=Function(zero=True, slope=True))

_COMPARED: Traits = {**_BROADCAST, "shapes": True}
register("Equal", **_COMPARED, calc=Calc.EQUALITY, commutative=True, whole=lambda a, b: int(a == b))
register("Greater", **_COMPARED, calc=Calc.ORDER, whole=lambda a, b: int(a > b))
register("GreaterOrEqual", **_COMPARED, calc=Calc.ORDER, whole=lambda a, b: int(a >= b))
register("Less", **_COMPARED, calc=Calc.ORDER, whole=lambda a, b: int(a < b))
register("LessOrEqual", **_COMPARED, calc=Calc.ORDER, whole=lambda a, b: int(a <= b))

_LOGIC: Traits = {**_BROADCAST, "calc": Calc.LOGIC}
register("And", **_LOGIC, commutative=True, shapes=True, whole=lambda a, b: int(bool(a and b)))
register("Or", **_LOGIC, commutative=True, shapes=True, whole=lambda a, b: int(bool(a or b)))
register("Not", **_LOGIC, unary=True, shapes=True, whole=lambda a: int(not a))
register("Xor BitwiseAnd BitwiseOr BitwiseXor", **_LOGIC, commutative=True)
register("BitwiseNot", **_LOGIC, unary=True)
register("BitShift", **_LOGIC)

# -- functions of one number -------------------------------------------------------------------------------------------

_UNARY: Traits = {**_BROADCAST, "unary": True}
_LIKE_FIRST: Traits = {"axes": Axes.FIRST, "unary": True}
_STEADY = Function(zero=True, slope=True)  # 0 stays 0, and small numbers tell apart what is behind them
_FLAT = Function(zero=True)
_OTHER = Function()

register("Neg", **_UNARY, calc=Calc.NEGATION, function=_STEADY, shapes=True, whole=lambda a: -a)
register("Abs", **_UNARY, function=_FLAT, positive=True, shapes=True, whole=abs)
register("Sign", **_UNARY, function=_FLAT, bounded=True)
register("Floor Ceil", **_UNARY, calc=Calc.ROUNDING, function=_FLAT, shapes=True)
register("Round", **_UNARY, calc=Calc.ROUNDING, function=_FLAT)
register("Sqrt", **_UNARY, calc=Calc.ROOT, function=_FLAT, positive=True, shapes=True)
register("Reciprocal", **_UNARY, calc=Calc.RECIPROCAL, function=_OTHER, shapes=True)
register("Sin", **_UNARY, calc=Calc.SINE, function=_STEADY, bounded=True)
register("Cos", **_UNARY, calc=Calc.SINE, function=_OTHER, bounded=True)
register("Tanh Erf Softsign Atan", **_UNARY, function=_STEADY, bounded=True)
register("Asin Asinh Atanh Sinh Tan Gelu HardSwish Mish", **_UNARY, function=_STEADY)
register("LeakyRelu Elu Selu Celu", **_UNARY, function=_STEADY)
register("Relu", **_UNARY, function=_FLAT, positive=True, alike=True)
register("ThresholdedRelu", **_UNARY, function=_FLAT)
register("Sigmoid HardSigmoid", **_UNARY, function=_OTHER, bounded=True, positive=True)
register("Softplus Exp Acos Acosh Cosh", **_UNARY, function=_OTHER, positive=True)
register("Log", **_UNARY, function=_OTHER)
register("IsInf IsNaN", **_UNARY, calc=Calc.EQUALITY)
register("Swish", **_LIKE_FIRST, function=_STEADY)
register("Shrink", **_LIKE_FIRST, function=_OTHER)
register("Clip", axes=Axes.FIRST, calc=Calc.EXTREME, function=_OTHER)
register("Gelu FastGelu QuickGelu", domains=(MICROSOFT,), **_LIKE_FIRST, function=_STEADY)

# -- fused: a sum first, so that 0 gives what is added -----------------------------------------------------------------

register("BiasGelu BiasAdd BiasDropout BitmaskBiasDropout BiasSplitGelu", domains=(MICROSOFT,))
register("SwiGLU")
register("SwiGLU ScaledSiLU GatedAdd MulInteger ComplexMul ComplexMulConj", domains=(MICROSOFT,))

# -- along an axis -----------------------------------------------------------------------------------------------------

_ALONG: Traits = {"axes": Axes.FIRST}
register("Softmax", **_ALONG, distribution=True, bounded=True, positive=True)
register("LogSoftmax LpNormalization MeanVarianceNormalization", **_ALONG)
register("Hardmax", **_ALONG, chooses=-1, bounded=True, positive=True)
register("CumSum LRN", **_ALONG, ordered=True)
register("Trilu", domains=("", MICROSOFT), **_ALONG, ordered=True)
register("CumProd", axes=Axes.FIRST, ordered=True)
register("BiasSoftmax", domains=(MICROSOFT,), distribution=True, bounded=True, positive=True, keeps_shape=True)
