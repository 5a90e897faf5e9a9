"""Weights of the classes in a loss, from how often they are seen."""

import numpy as np

from crfrnn_jax.data.dataset import SegmentationData


def class_weights(data: SegmentationData) -> np.ndarray:
    """Weights 1 / log(1.02 + share of the training pixels) of the classes.

    They lift rare classes without letting them rule (Paszke et al. 2016, ENet).

    Returns:
      float32 [labels], with mean 1.
    """
    counts = np.zeros(data.num_labels, np.int64)
    for example in data.splits["train"]:
        valid = example["label"][example["label"] != data.ignore_label]
        counts += np.bincount(valid, minlength=data.num_labels)
    weights = 1.0 / np.log(1.02 + counts / counts.sum())
    return (weights / weights.mean()).astype(np.float32)
