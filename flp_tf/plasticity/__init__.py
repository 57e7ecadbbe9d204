"""Local plasticity rules (paper, section 3): one function a rule.

A rule is a function `rule(kernel, pre, post) -> direction` of

* `kernel [..., in, out]`, the fast weights,
* `pre [..., batch, in]`, presynaptic activity,
* `post [..., batch, out]`, post-feedback postsynaptic activity,

with the direction shaped like the kernel; the layer then makes the step
`W <- W + alpha * direction` with its meta-learned `alpha`. A new rule is a new
file here and a line in `RULES` (or `RULES.register("name")(rule)` from outside).
"""

from flp_tf.plasticity.hebb import hebb
from flp_tf.plasticity.oja import oja
from flp_tf.registry import Registry

RULES = Registry("rule", oja=oja, hebb=hebb)
