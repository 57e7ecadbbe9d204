"""Meta-learning with feedback and local plasticity, in TensorFlow and Keras."""

__version__ = "0.1.0"
