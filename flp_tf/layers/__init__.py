"""Plastic Keras layers: slow weights inside, fast weights as explicit state."""

from flp_tf.layers.base import PlasticLayer
from flp_tf.layers.conv import PlasticConv2D
from flp_tf.layers.dense import PlasticDense

__all__ = ["PlasticConv2D", "PlasticDense", "PlasticLayer"]
