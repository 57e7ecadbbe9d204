"""The lifetime: the one loop over inner steps, and its gradient in little memory.

A lifetime is `state_{t+1} = learn(state_t, x_t, y_t)` for T steps (paper, section 4).
The engine knows nothing of the learner: `learn` may be any pure function of any nest of
tensors.
"""

from flp_tf.lifetime.checks import check_contracts
from flp_tf.lifetime.engine import AUTO, PLAIN, Lifetime, automatic_segment_length, hoists_trunk, query, run

__all__ = ["AUTO", "PLAIN", "Lifetime", "automatic_segment_length", "check_contracts", "hoists_trunk", "query", "run"]
