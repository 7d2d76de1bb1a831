"""SYQ's quantisers and the layers around them in the vocabulary of Brevitas.

Brevitas scales by tensor, channel or group; here weights are scaled by kernel row or pixel too.
The text of this module stands in every module that syq_dse.interop.brevitas writes.
"""
# mypy: disable-error-code="import-untyped,import-not-found"
# mypy: allow-subclassing-any, allow-untyped-decorators

from __future__ import annotations

import math

import brevitas.nn as qnn
import torch
from brevitas.core.bit_width import BitWidthConst
from brevitas.core.function_wrapper import Identity, RoundSte, TensorClamp
from brevitas.core.quant import BinaryQuant, IntQuant, RescalingIntQuant
from brevitas.core.utils import SingleArgStatelessBuffer, StatelessBuffer
from brevitas.core.zero_point import ZeroZeroPoint
from brevitas.function.ops_ste import floor_ste, round_ste, scalar_clamp_min_ste
from brevitas.inject import ExtendedInjector, value
from brevitas.proxy import ActQuantProxyFromInjector, WeightQuantProxyFromInjector
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor, nn
from torch.nn import functional as F

from syq_dse.quant.scales import LEAST_STEP, mantissas
from syq_dse.quant.weights import DEAD_ZONE
from syq_dse.scheme import Scale

# Weights


class SubgroupScaling(nn.Module):
    """A `scaling_impl`: the learned scales of a layer's weights, in the hardware's format.

    Shape of the scales: (1, 1, 1, 1) for a layer, (1, 1, k, 1) for rows, (1, 1, k, k) for pixels,
    (c_out, 1, 1, 1) for channels. The gradient passes straight through the format.

    Args:
        scale_format: None where hardware has no scales, as for layers and channels.
        largest_code: of integers, which are divided by their scale; else None.
    """

    def __init__(
        self,
        scaling_shape: tuple[int, ...],
        scale_format: Scale | None,
        largest_code: int | None,
        tracked_parameter_list: list[Tensor],
    ) -> None:
        super().__init__()
        self.scale_format, self.is_step = scale_format, largest_code is not None
        shared = [axis for axis, size in enumerate(scaling_shape) if size == 1]
        mean = tracked_parameter_list[0].detach().abs().mean(shared, keepdim=True)
        # where SYQ starts, and for integers LSQ
        self.value = nn.Parameter(mean if largest_code is None else 2 * mean / largest_code**0.5)

    def forward(self, weight: Tensor, threshold: Tensor | None = None) -> Tensor:
        scale: Tensor = self.value
        if self.scale_format is not None:
            whole, exponent = mantissas(scale.detach(), self.scale_format, self.is_step)
            scale = whole * torch.exp2(exponent) + (scale - scale.detach())
        return scalar_clamp_min_ste(scale, LEAST_STEP) if self.is_step else scale


class ThresholdTernaryQuant(nn.Module):
    """A `tensor_quant`: sign(W) where |W| >= 0.05 * max|W| of the layer, else 0, times the scale.

    The gradient of a weight is times its scale outside of the dead zone and passes inside, as in
    SYQ's released program.
    """

    def __init__(self, scaling_impl: nn.Module) -> None:
        super().__init__()
        self.scaling_impl = scaling_impl
        self.bit_width = BitWidthConst(2)
        self.zero_point = StatelessBuffer(torch.tensor(0.0))

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scale = self.scaling_impl(weight)
        size = weight.detach().abs()
        outside = size >= DEAD_ZONE * size.amax()
        through = torch.where(outside, weight * scale.detach(), weight)
        # the bracket is 0 and has the gradient
        out = weight.detach().sign() * outside * scale + (through - through.detach())
        return out, scale, self.zero_point(), self.bit_width()


class Weight(ExtendedInjector):
    """What the three kinds of weights share; a layer gives `weight_scaling_shape`."""

    proxy_class = WeightQuantProxyFromInjector
    scaling_impl = SubgroupScaling
    scale_format = None
    largest_code = None
    signed = True
    narrow_range = True


class BinaryWeight(Weight):
    """Codes -1 and 1; the code of 0 is 1."""

    tensor_quant = BinaryQuant
    bit_width = 1


class TernaryWeight(Weight):
    """Codes -1, 0 and 1."""

    tensor_quant = ThresholdTernaryQuant
    bit_width = 2


class IntWeight(Weight):
    """Integers -(2**(n-1) - 1) to 2**(n-1) - 1; a layer gives n as `weight_bit_width`.

    As Brevitas rounds first, the gradient passes up to half a code beyond the range, unlike LSQ's.
    """

    tensor_quant = RescalingIntQuant
    int_quant = IntQuant
    input_view_impl = Identity
    float_to_int_impl = RoundSte
    tensor_clamp_impl = TensorClamp
    int_scaling_impl = SingleArgStatelessBuffer(1.0)
    zero_point_impl = ZeroZeroPoint
    bit_width_impl = BitWidthConst

    @value
    def largest_code(bit_width):  # type: ignore[no-untyped-def]  # what is injected has no self
        return 2 ** (bit_width - 1) - 1


# Activations


class RoundHalfUpSte(nn.Module):
    """A `float_to_int_impl`: floor(x + 0.5)."""

    def __init__(self) -> None:  # an injector reads the arguments, and refuses nn.Module's own
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return floor_ste(x + 0.5)  # type: ignore[no-any-return]  # brevitas has no types there


class Step(nn.Module):
    """A `scaling_impl`: the value of one code, shape (), not learned.

    Steps of tensors that meet in an addition stay powers of two apart.
    """

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, x: Tensor, threshold: Tensor | None = None) -> Tensor:
        return self.value


class PlacesQuant(RescalingIntQuant):
    """A `tensor_quant` of numbers that are divided by their step already, hence exact."""

    def forward(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        bit_width = self.msb_clamp_bit_width_impl()
        scale = self.scaling_impl(places)
        zero_point = self.zero_point_impl(places, scale, bit_width)
        codes = self.int_quant(torch.ones_like(scale), zero_point, bit_width, places)
        return codes * scale, scale, zero_point, bit_width


class Codes(ExtendedInjector):
    """Codes floor(x / step + 0.5), clipped to `bit_width` bits, unsigned unless `signed`.

    As Brevitas rounds first, the gradient passes up to half a code beyond the range, unlike SYQ's.
    """

    proxy_class = ActQuantProxyFromInjector
    tensor_quant = RescalingIntQuant
    int_quant = IntQuant
    input_view_impl = Identity
    float_to_int_impl = RoundHalfUpSte
    tensor_clamp_impl = TensorClamp
    scaling_impl = Step
    int_scaling_impl = SingleArgStatelessBuffer(1.0)
    zero_point_impl = ZeroZeroPoint
    bit_width_impl = BitWidthConst
    signed = False
    narrow_range = False


class PlacesCodes(Codes):
    """Codes of numbers that are divided by their step already."""

    tensor_quant = PlacesQuant


# Layers: they read and write an IntQuantTensor, which carries its step.


def codes_of(x: IntQuantTensor) -> Tensor:
    """The codes of a tensor, exact."""
    return round_ste(x.value / x.scale)  # type: ignore[no-any-return]  # brevitas has no types there


class Requantise(qnn.QuantIdentity):
    """Codes of numbers that are divided by their step already."""

    def __init__(self, bit_width: int, signed: bool) -> None:
        super().__init__(
            act_quant=PlacesCodes, bit_width=bit_width, signed=signed, return_quant_tensor=True
        )


class Pixels(Requantise):
    """Codes of pixels 0 to 255, of which 255 becomes the largest."""

    def __init__(self, bit_width: int) -> None:
        super().__init__(bit_width, False)
        self.top = 2**bit_width - 1

    def forward(self, images: Tensor) -> IntQuantTensor:
        return super().forward(images * self.top / 255)


class Add(Requantise):
    """The sum of two tensors; factors are their steps in steps of the sum, powers of two."""

    def __init__(self, factors: tuple[float, float], bit_width: int, signed: bool) -> None:
        super().__init__(bit_width, signed)
        self.factors = factors

    def forward(self, a: IntQuantTensor, b: IntQuantTensor) -> IntQuantTensor:
        of_a, of_b = self.factors
        return super().forward(codes_of(a) * of_a + codes_of(b) * of_b)


class Mean(Requantise):
    """The mean of each window, requantised by the integer gain / 2**shift of the sum of codes."""

    def __init__(
        self,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        gain: int,
        shift: int,
        bit_width: int,
        signed: bool,
    ) -> None:
        super().__init__(bit_width, signed)
        self.kernel, self.stride = kernel, stride
        self.factor = math.prod(kernel) * gain / 2**shift

    def forward(self, x: IntQuantTensor) -> IntQuantTensor:
        return super().forward(F.avg_pool2d(codes_of(x), self.kernel, self.stride) * self.factor)


class MaxPool(nn.Module):
    """The maximum of each window; padding (before, after) each row and column never wins."""

    def __init__(self, k: int, stride: int, pad: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        self.k, self.stride, self.pad = k, stride, (*pad, *pad)

    def forward(self, x: IntQuantTensor) -> IntQuantTensor:
        padded = F.pad(x.value, self.pad, value=-math.inf)
        return x.set(value=F.max_pool2d(padded, self.k, self.stride))


class Flatten(nn.Module):
    """(images, c, h, w) to (images, c * h * w, 1, 1)."""

    def forward(self, x: IntQuantTensor) -> IntQuantTensor:
        return x.set(value=x.value.flatten(1)[:, :, None, None])


class Dense(qnn.QuantLinear):
    """A fully connected layer of tensors (images, c, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))[:, :, None, None]  # type: ignore[no-any-return]  # brevitas has no types there
