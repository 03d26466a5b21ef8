"""A scan with weights over a few rows, whose step a test gives."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

TIME, BATCH, WIDTH = 6, 2, 4
rng = np.random.default_rng(0)
ROWS = rng.standard_normal((TIME, BATCH, WIDTH)).astype(np.float32)
W = {
    "x": rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) * 0.3,
    "h": rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) * 0.3,
    "wide": rng.standard_normal((WIDTH, 40)).astype(np.float32),
    "narrow": rng.standard_normal((40, WIDTH)).astype(np.float32),
    "b": rng.standard_normal(WIDTH).astype(np.float32),
}
T = jnp.tanh


def scanned(step: Callable[..., Any], **how: Any) -> Callable[[Any, Any], Any]:
    """``step(w, h, row)`` gives the next state and what is stacked, from zeros."""

    def net(w: Any, rows: Any) -> Any:
        return lax.scan(lambda h, x: step(w, h, x), jnp.zeros((BATCH, WIDTH)), rows, **how)

    return net
