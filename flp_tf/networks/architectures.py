"""The paper's networks, and others, as data.

An architecture is a line of layer tokens joined by dashes, from the input to the
last hidden layer; the output layer follows from the task. `300` is a dense layer of
300 units, `c128` a 3x3 convolution of 128 channels, `c128s2` one of stride 2.
A new architecture is one line in `ARCHITECTURES`, or the text itself as the flag.
"""

import re
from typing import NamedTuple

from flp_tf.registry import Registry


class Dense(NamedTuple):
    """A fully connected layer."""

    units: int


class Conv(NamedTuple):
    """A valid 3x3 convolution."""

    filters: int
    strides: int = 1


ARCHITECTURES = Registry(
    "network",
    sine_paper="300-300-300-300-300-900-300-300",
    sine_compact="128-128-128-128-128",
    omniglot_paper="c128s2-c128-c128s2-c128-c128s2-c128s2-300",
    mini_imagenet_paper="c256s2-c256-c256s2-c256-c256s2-c256s2-1024",
    omniglot_compact="c64s2-c64-c64s2-c64-128",
)


def parse(network: str) -> tuple[Dense | Conv, ...]:
    """Reads an architecture's name or its line of tokens.

    Raises:
        ValueError: if it is neither, or has a convolution behind a dense layer.
    """
    tokens = ARCHITECTURES.get(network, network).split("-")
    layers: list[Dense | Conv] = []
    for token in tokens:
        match = re.fullmatch(r"(c?)([1-9]\d*)(?:s([1-9]))?", token)
        if not match or (match[3] and not match[1]):
            raise ValueError(
                f"--network={network} is not an architecture; legal values: {', '.join(sorted(ARCHITECTURES))}, "
                "or layers joined by dashes such as 300-300 or c64s2-c64-128"
            )
        layers.append(Conv(int(match[2]), int(match[3] or 1)) if match[1] else Dense(int(match[2])))
    kinds = [isinstance(layer, Conv) for layer in layers]
    if kinds != sorted(kinds, reverse=True):
        raise ValueError(f"--network={network} has a convolution behind a dense layer")
    return tuple(layers)
