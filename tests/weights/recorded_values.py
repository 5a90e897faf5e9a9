"""What the files in recorded/ hold."""

import numpy as np


def recorded_tensors():
    """Values that halves and bfloat16 hold exactly, by name."""
    ramp = np.arange(24, dtype=np.float32)
    return {
        "parameter": ramp.reshape(2, 3, 4) / 4,
        "half": ramp[:6].reshape(2, 3) / 8,
        "bfloat16": ramp[:6].reshape(3, 2) / 2,
        "double": ramp[:5].astype(np.float64) / 3,
        "long": np.arange(-3, 3),
        "turned": ramp.reshape(2, 3, 4) - 7,
        "shared.first": ramp[:12].reshape(3, 4) * 2,
        "shared.rest": ramp[12:] * 2,
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }


def recorded_layers():
    """What the .h5 files hold."""
    return {
        "conv1_1/kernel": np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2),
        "conv1_1/bias": np.arange(2, dtype=np.float32),
        "score-fr/kernel": np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2),
    }
