"""Features and data of a lifetime: those that no trunk of the library has, and those that do not fit."""

import pytest
import tensorflow as tf
from helpers import assert_close, build_learner, random_episode

from flp_tf import lifetime
from flp_tf.errors import InputError
from flp_tf.learners import FeedbackLearner
from flp_tf.lifetime import engine


class Cut(FeedbackLearner):
    """Has features of another size than its network's trunk."""

    def encode(self, x):
        features = super().encode(x)
        return tf.concat([features, features[..., :1]], -1)

    def learn(self, state, features, y):
        return super().learn(state, features[..., :-1], y)


def test_features_of_another_size_where_the_trunk_is_not_hoisted(monkeypatch, float64):
    learner = build_learner(num_plastic_layers=1)
    episode = random_episode(steps=5)
    expected = lifetime.run(learner, episode).state
    learner.__class__ = Cut
    monkeypatch.setattr(engine, "HOISTED_BYTES", 0)
    tf.nest.map_structure(assert_close, lifetime.run(learner, episode, segment_length=2).state, expected)


@pytest.mark.parametrize(
    "change, options, message",
    [
        (lambda e: e._replace(support_y=e.support_y[1:]), {}, "support_x has shape .* and support_y"),
        (lambda e: e._replace(support_x=e.support_x[:0], support_y=e.support_y[:0]), {}, "one or more steps"),
        (lambda e: e, {"segment_length": -2}, "segment_length=-2 is too small"),
    ],
)
def test_data_that_do_not_fit_are_refused(change, options, message):
    with pytest.raises(InputError, match=message):
        lifetime.run(build_learner(), change(random_episode(steps=5)), **options)
