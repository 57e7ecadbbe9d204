"""Bounds how much faster than the plain loop any implementation can be, on this machine.

It times only the matrix products that a meta-step of the paper's sine network needs: no
activation, no update, no pass over the weights, no recomputation. It takes the least time of seven
calls, with TensorFlow's own kernels or XLA's, whichever are faster.

    python tools/floor.py
"""

import time

import benchmark  # sets up logging and the path
from absl import app

LIFETIME, BATCH = 400, 32


def trunk_products(sizes: list[tuple[int, int]]):
    """Returns a function that runs a trunk over a whole lifetime, forward and backward.

    Args:
        sizes: `(in, out)` of each layer of the trunk, from the input.
    """
    import tensorflow as tf

    kernels = [tf.random.normal(size, stddev=size[0] ** -0.5) for size in sizes]
    inputs = tf.random.normal([LIFETIME * BATCH, sizes[0][0]])
    cotangent = tf.random.normal([LIFETIME * BATCH, sizes[-1][1]])

    def run():
        activities, total, back = [inputs], 0.0, cotangent
        for kernel in kernels:
            activities.append(activities[-1] @ kernel)
        for kernel, activity in zip(reversed(kernels), reversed(activities[:-1])):
            total += tf.matmul(activity, back, transpose_a=True)[0, 0]
            back = tf.matmul(back, kernel, transpose_b=True)
        return total + back[0, 0]

    return run


def plastic_products(sizes: list[tuple[int, int]]):
    """Returns a function with the six products per plastic layer and inner step.

    They are those of the activity `h W`, of the update `h^T p`, and of the gradients of both.

    Args:
        sizes: `(in, out)` of each plastic layer.
    """
    import tensorflow as tf

    layers = [
        (
            tf.random.normal([n_in, n_out]),
            tf.random.normal([LIFETIME, BATCH, n_in]),
            tf.random.normal([LIFETIME, 2, BATCH, n_out]),
        )
        for n_in, n_out in sizes
    ]

    def step(t, total):
        for kernel, h, p in layers:
            for post in (p[t, 0], p[t, 1]):
                total += tf.matmul(h[t], post, transpose_a=True)[0, 0]
                total += tf.matmul(post, kernel, transpose_b=True)[0, 0]
            for pre in (h[t], -h[t]):
                total += (pre @ kernel)[0, 0]
        return t + 1, total

    return lambda: tf.while_loop(lambda t, _: t < LIFETIME, step, (0, 0.0))[1]


def least_seconds(run, repeats: int = 7) -> float:
    """Returns the least time of a call, with TensorFlow's kernels or XLA's."""
    import tensorflow as tf

    seconds = []
    for jit_compile in (False, True):
        compiled = tf.function(run, autograph=False, jit_compile=jit_compile)
        compiled().numpy()
        for _ in range(repeats):
            began = time.perf_counter()
            compiled().numpy()
            seconds.append(time.perf_counter() - began)
    return min(seconds)


def main(argv: list[str]) -> None:
    """Prints the table."""
    del argv
    print("| N | trunk's products, s | plastic layers' products, s | plain loop, s | largest speedup |")
    print("| --- | --- | --- | --- | --- |")
    for layers in (1, 2, 3, 9):
        trunk = least_seconds(trunk_products(benchmark.layer_sizes(9)[:-layers])) if layers < 9 else 0.0
        plastic = least_seconds(plastic_products(benchmark.layer_sizes(layers)))
        row = dict(zip(benchmark.KEYS, ("sine", "plain", layers, LIFETIME, 1)))
        found = benchmark.in_fresh_process(row)
        if not found:
            continue
        seconds = benchmark.summary(row, [found])["seconds_median"]
        most = seconds / (trunk + plastic)
        print(f"| {layers} | {trunk:.3f} | {plastic:.3f} | {seconds:.3f} | {most:.1f} times |", flush=True)


if __name__ == "__main__":
    app.run(main)
