"""Sixteen numbers at once in loops compiled by numba: what LLVM's own vectoriser leaves on the table for short rows.

    a = load(row, k)        LANES numbers of a one-dimensional C array from place k on
    a = fma(a, b, c)        a b + c;  splat(x) is a vector of x
    store(row, k, a);  total(a) is the sum;  prefetch(row, k) asks for a place that will be read soon

LLVM splits them where a processor's registers are shorter. Nothing checks that k + LANES is within the array.
"""

from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.extending import models, register_model

LANES = 16
intrinsic: Any = extending.intrinsic  # which types a function by what it emits


class Lanes(types.Type):
    def __init__(self, number: types.Float):
        self.number = number
        super().__init__(name=f"Lanes({number})")


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes):
        number = ir.FloatType() if kind.number.bitwidth == 32 else ir.DoubleType()
        super().__init__(manager, kind, ir.VectorType(number, LANES))


def _place(context, builder, kind, array, k):
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [k])


@intrinsic
def load(typing, array, k):
    lanes = Lanes(array.dtype)

    def emit(context, builder, signature, args):
        pointer = _place(context, builder, signature.args[0], *args)
        vector = context.get_value_type(lanes)
        return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=array.dtype.bitwidth // 8)

    return lanes(array, types.intp), emit


@intrinsic
def store(typing, array, k, value):
    def emit(context, builder, signature, args):
        pointer = _place(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], builder.bitcast(pointer, args[2].type.as_pointer()), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), emit


@intrinsic
def prefetch(typing, array, k):
    def emit(context, builder, signature, args):
        pointer = builder.bitcast(_place(context, builder, signature.args[0], *args), cgutils.voidptr_t)
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(call, [pointer, number(1), number(3), number(1)])  # to write, into the nearest cache, data
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


@intrinsic
def splat(typing, x):
    lanes = Lanes(x)

    def emit(context, builder, signature, args):
        vector = context.get_value_type(lanes)
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), args[0], ir.IntType(32)(0))
        places = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), places)

    return lanes(x), emit


@intrinsic
def fma(typing, a, b, c):
    def emit(context, builder, signature, args):
        return builder.fadd(builder.fmul(args[0], args[1], flags=["fast"]), args[2], flags=["fast"])

    return a(a, b, c), emit


@intrinsic
def total(typing, a):
    def emit(context, builder, signature, args):
        vector, width = args[0], LANES
        while width > 1:
            width //= 2
            places = [list(range(begin, begin + width)) for begin in (0, width)]
            masks = [ir.Constant(ir.VectorType(ir.IntType(32), width), half) for half in places]
            low, high = (builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), m) for m in masks)
            vector = builder.fadd(low, high, flags=["fast"])
        return builder.extract_element(vector, ir.IntType(32)(0))

    return a.number(a), emit
