"""The paper's networks, and others, as data.

An architecture is a line of layer tokens joined by dashes, from the input to the
last hidden layer; the output layer follows from the task. `300` is a dense layer of
300 units, `c128` a 3x3 convolution of 128 channels, `c128s2` one of stride 2.
A new architecture is one line below, or the text itself as the flag. The first token may
be the name of an own trunk, a function from the shape of one example to a Keras model.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras

from flp_tf.errors import InputError
from flp_tf.layers import PlasticConv2D, PlasticDense, PlasticLayer
from flp_tf.memory import memory
from flp_tf.networks.network import Network
from flp_tf.networks.own import MakeTrunk, make_trunk
from flp_tf.registry import Registry

# Of all convolutions.
KERNEL_SIZE = 3
# Of a weight in float32.
BYTES = 4


class Dense(NamedTuple):
    """A fully connected layer."""

    units: int


class Conv(NamedTuple):
    """A valid 3x3 convolution."""

    filters: int
    strides: int = 1


class Own(NamedTuple):
    """An own Keras model, the trunk below all other layers."""

    name: str
    make: MakeTrunk


Spec = Own | Dense | Conv

ARCHITECTURES = Registry("network", text="Name of an architecture, or hidden layers such as 300-300 or c64s2-c64-128.")
ARCHITECTURES.register("sine_paper")("300-300-300-300-300-900-300-300")
ARCHITECTURES.register("sine_compact")("128-128-128-128-128")
ARCHITECTURES.register("omniglot_paper")("c128s2-c128-c128s2-c128-c128s2-c128s2-300")
ARCHITECTURES.register("mini_imagenet_paper")("c256s2-c256-c256s2-c256-c256s2-c256s2-1024")
ARCHITECTURES.register("omniglot_compact")("c32s2-c32-c32s2-c32-256")
ARCHITECTURES.register("mini_imagenet_compact")("c32s2-c32s2-c32-128")


def parse(network: str) -> tuple[Spec, ...]:
    """Reads an architecture's name or its line of tokens.

    Raises:
        InputError: if it is neither, or has a convolution above a dense layer.
    """
    own = [name for name in ARCHITECTURES if callable(ARCHITECTURES[name]) and f"{network}-".startswith(f"{name}-")]
    if own:
        name = max(own, key=len)
        above = _layers(network, network[len(name) + 1 :]) if network != name else ()
        return (Own(name, ARCHITECTURES[name]), *above)
    return _layers(network, ARCHITECTURES[network] if network in ARCHITECTURES else network)


def _layers(network: str, text: str) -> tuple[Dense | Conv, ...]:
    layers: list[Dense | Conv] = []
    for token in text.split("-"):
        match = re.fullmatch(r"(c?)([1-9][0-9]{0,8})(?:s([1-9]))?", token)
        if not match or (match[3] and not match[1]):
            raise InputError(
                f"--network={network} is not an architecture; legal values: {', '.join(sorted(ARCHITECTURES))}, "
                "or layers joined by dashes such as 300-300 or c64s2-c64-128"
            )
        layers.append(Conv(int(match[2]), int(match[3] or 1)) if match[1] else Dense(int(match[2])))
    kinds = [isinstance(layer, Conv) for layer in layers]
    if kinds != sorted(kinds, reverse=True):
        raise InputError(f"--network={network} has a convolution behind a dense layer")
    return tuple(layers)


def build(
    layers: Sequence[Spec],
    input_shape: Sequence[int],
    num_outputs: int,
    num_plastic_layers: int,
    plastic_options: Callable[[bool], dict[str, Any]] = lambda is_output: {},
    *,
    trunk_dtype: str | None = None,
    dtype: str = "float32",
) -> Network:
    """Returns the network of an architecture, its last `num_plastic_layers` layers plastic.

    Args:
        layers: hidden layers, from `parse`.
        input_shape: shape of one example.
        num_outputs: size of the output layer, which is linear.
        num_plastic_layers: how many layers, from the output down, are plastic; an own
            trunk is none of them.
        plastic_options: returns the keyword arguments of a plastic layer, given
            whether it is the output layer. Called once per layer, so that a feedback
            pathway in them is the layer's own.
        trunk_dtype: Keras dtype policy of the trunk, `"mixed_bfloat16"` for bfloat16
            arithmetic on float32 weights; `dtype` by default.
        dtype: of all other weights and activities.

    Raises:
        InputError: if more layers are to be plastic than there are, or none, if a
            convolution's input is no map of its kernel's size, or if the weights take more
            than the memory of this machine; see also `make_trunk`.
    """
    specs, trunk, head = (*layers, Dense(num_outputs)), [], []
    trunk_dtype = trunk_dtype or dtype
    most = sum(not isinstance(spec, Own) for spec in specs)
    if not 1 <= num_plastic_layers <= most:
        raise InputError(
            f"--num_plastic_layers={num_plastic_layers} is not possible; the network has {most} layers"
            f"{' above its own trunk' if most < len(specs) else ''}, legal values are 1 to {most}"
        )
    if most < len(specs):
        name, make = specs[0]
        trunk.append(make_trunk(name, make, input_shape, name="layer_0", dtype=trunk_dtype))
    map_shape = trunk[0].compute_output_shape((None, *input_shape))[1:] if trunk else input_shape
    _check_sizes(specs[len(trunk) :], tuple(map_shape))
    for i, spec in list(enumerate(specs))[len(trunk) :]:
        if i < len(specs) - num_plastic_layers:
            trunk.append(_trunk_layer(spec, name=f"layer_{i}", dtype=trunk_dtype))
        else:
            is_output = i == len(specs) - 1
            options = {"activation": "linear" if is_output else "relu", **plastic_options(is_output)}
            head.append(_plastic_layer(spec, name=f"layer_{i}", dtype=dtype, **options))
    return Network(trunk, head, input_shape, dtype=dtype)


def _check_sizes(specs: Sequence[Dense | Conv], shape: tuple[int, ...]) -> None:
    """Raises InputError unless the weights fit into memory, and every convolution gets a map of its kernel's size."""
    weights = 0
    for i, spec in enumerate(specs):
        if isinstance(spec, Conv):
            if len(shape) != 3 or min(shape[:2]) < KERNEL_SIZE:
                raise InputError(
                    f"--network: convolution {i + 1} gets inputs of {'x'.join(map(str, shape))}; legal are maps of "
                    f"at least {KERNEL_SIZE}x{KERNEL_SIZE} (fewer strides, or a larger --image_size)"
                )
            weights += KERNEL_SIZE**2 * shape[-1] * spec.filters
            shape = (*((size - KERNEL_SIZE) // spec.strides + 1 for size in shape[:2]), spec.filters)
        else:
            weights += math.prod(shape) * spec.units
            shape = (spec.units,)
    if (needed := weights * BYTES) > memory():
        raise InputError(
            f"--network: the layers have {weights} weights, {needed / 1e9:.3g} GB; this machine has "
            f"{memory() / 1e9:.3g} GB: take smaller layers, or inputs and outputs with fewer entries"
        )


def _plastic_layer(spec: Dense | Conv, **options: Any) -> PlasticLayer:
    if isinstance(spec, Conv):
        return PlasticConv2D(spec.filters, KERNEL_SIZE, strides=spec.strides, **options)
    return PlasticDense(spec.units, **options)


def _trunk_layer(spec: Dense | Conv, **options: Any) -> keras.layers.Layer:
    options = {"activation": "relu", "kernel_initializer": "he_normal", **options}
    if isinstance(spec, Conv):
        return keras.layers.Conv2D(
            spec.filters, KERNEL_SIZE, strides=spec.strides, data_format="channels_last", **options
        )
    return keras.layers.Dense(spec.units, **options)
