"""What a run prints while it trains: its description, the expected time, evaluations, and a progress bar."""

import collections
import statistics
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from flp_tf.meta.trainer import Trainer
from flp_tf.registry import text
from flp_tf.runs import results
from flp_tf.runs.config import Config, resolve

# Number of outer steps that are measured before the first line says how long the run takes.
MEASURED = 3
# Number of the latest outer steps of one length from which the remaining time is estimated.
LATEST = 50
# Options that the first line gives in words.
IN_WORDS = ("task", "method", "num_plastic_layers", "continual", "recipe", "episodes", "curriculum", "seed")


class Pace:
    """Predicts how long the rest of meta-training takes, from the outer steps that were taken.

    The time of an outer step on lifetimes of `T` inner steps is the median of the measured
    times. If none was measured, it is predicted from those of the last length `T'`. Their part `a`,
    the time of the optimizers, does not depend on the lifetime:

        seconds(T) = a + (seconds(T') - a) * T / T'

    The first outer step of each length compiles, and is left out.

    Args:
        trainer: the outer loop.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self._seconds: dict[int, collections.deque[float]] = {}
        self._apply: collections.deque[float] = collections.deque(maxlen=LATEST)
        self._last = 0

    @property
    def measured(self) -> int:
        """The number of outer steps on which the prediction is based."""
        return len(self._apply)

    def record(self, step: int, seconds: float) -> None:
        """Records the time of outer step `step`."""
        length = self.trainer.lengths.task(step).steps
        if length not in self._seconds:
            self._seconds[length] = collections.deque(maxlen=LATEST)
            return
        self._seconds[length].append(seconds)
        self._apply.append(self.trainer.apply_seconds)
        self._last = length

    def left(self, step: int) -> float | None:
        """Returns the seconds from outer step `step` to the last; None before anything is measured."""
        if not self._last:
            return None
        return sum(count * self._of(length) for count, length in self.trainer.ahead(step))

    def _of(self, length: int) -> float:
        if measured := self._seconds.get(length):
            return statistics.median(measured)
        known = statistics.median(self._seconds[self._last])
        apply = min(statistics.median(self._apply), known)
        return apply + (known - apply) * length / self._last


class Display:
    """A context that prints the progress of a run: one line, then a bar, with evaluations above it.

    After a few outer steps, an estimate of the time completes the line; see `Pace`.
    The bar counts inner steps, because later lifetimes can be longer.

    Args:
        trainer: the outer loop.
        config: the run's configuration.
        shown: whether to print.
    """

    def __init__(self, trainer: Trainer, config: Config, shown: bool = True):
        self.trainer, self.config, self.shown = trainer, config, shown
        self.pace = Pace(trainer)
        self.loss: float | None = None
        self._bar: tqdm | None = None
        self._first = trainer.step

    def __enter__(self) -> "Display":
        if self.shown:
            print(description(self.trainer, self.config), end="", flush=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._show_bar()
        if self._bar is not None:
            self._bar.close()

    def step(self, metrics: Mapping[str, float], seconds: float) -> None:
        """Records an outer step that was just taken, and advances the bar."""
        self.pace.record(self.trainer.step - 1, seconds)
        if not metrics["skipped"]:  # The loss of a skipped step would spoil the mean.
            before = metrics["loss"] if self.loss is None else self.loss
            self.loss = 0.95 * before + 0.05 * metrics["loss"]
        if self._bar is None and self.pace.measured >= MEASURED:
            self._show_bar()
        if self._bar is not None:
            self._bar.update(self.trainer.inner_steps - self._bar.n)

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        self._show_bar()
        if self._bar is not None:
            self._bar.write(line)

    def _show_bar(self) -> None:
        """Completes the first line, and shows the bar below it."""
        if not self.shown or self._bar is not None:
            return
        left = self.pace.left(self._first)
        rest = "" if left is None else f"; about {duration(left)}{' more' * bool(self._first)} on this machine"
        print(rest, flush=True)
        self._bar = _Bar(self)


class _Bar(tqdm):
    """A bar of inner steps that shows lifetimes, and the remaining time as predicted by `Pace`."""

    def __init__(self, display: Display):
        self._shown = display
        trainer, config = display.trainer, display.config
        super().__init__(
            total=trainer.all_inner_steps,
            initial=trainer.inner_steps,
            desc=f"{config.task} {config.method}({config.num_plastic_layers})",
            bar_format="{l_bar}{bar}| lifetime {lifetimes} [{elapsed}<{left}, query_loss={loss}]",
            mininterval=1,
        )

    @property
    def format_dict(self) -> dict[str, Any]:
        """The names that `bar_format` can use."""
        trainer, display = self._shown.trainer, self._shown
        left = display.pace.left(trainer.step)
        return super().format_dict | {
            "lifetimes": f"{trainer.episodes}/{trainer.steps * trainer.outer.meta_batch}",
            "left": "?" if left is None else self.format_interval(left),
            "loss": "?" if display.loss is None else f"{display.loss:.4g}",
        }


def description(trainer: Trainer, config: Config) -> str:
    """Returns a description of a run: `flp(2) on sine, continual: recipe paper, 20,000 lifetimes of 400 steps`.

    Flags whose values differ from the recipe's follow at the end.
    """
    of_recipe = resolve({name: getattr(config, name) for name in ("recipe", "task", "method")})
    silent = {*IN_WORDS, *config.flags_with("incidental")}
    flags = [
        f" --{flag}={text(tuple(value) if isinstance(value, list) else value)}"
        for flag, value in config.to_dict().items()
        if flag not in silent and of_recipe.to_dict().get(flag) != value
    ]
    phases = [(count * config.meta_batch, length) for count, length in trainer.ahead(0)]
    lifetimes = ", ".join(
        f"{count:,} {'of' if i else 'lifetimes of'} {length:,} {'' if i else 'steps'}".strip()
        for i, (count, length) in enumerate(phases)
    )
    return f"{results.title(config)}: recipe {config.recipe}{' with' * bool(flags)}{''.join(flags)}, {lifetimes}"


def duration(seconds: float) -> str:
    """Returns a time in words: `5 h 30 min`, `12 min`, `40 s`."""
    if seconds < 99.5:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
