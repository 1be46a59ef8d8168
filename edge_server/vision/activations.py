"""What turns logits into scores from 0 to 1, where the network has not done it."""

from __future__ import annotations

import numpy as np

from engines.base import Array


@np.errstate(over="ignore")
def sigmoid(logits: Array) -> Array:
    """1 / (1 + exp(-x)), without a warning where it is 0."""
    return np.asarray(1 / (1 + np.exp(-logits)))


def softmax(logits: Array) -> Array:
    """Probabilities along the first axis."""
    powers = np.exp(logits - logits.max(axis=0))
    return np.asarray(powers / powers.sum(axis=0))
