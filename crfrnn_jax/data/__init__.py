"""Segmentation data: synthetic shapes or folders of images, batches and examples."""

from crfrnn_jax.data.dataset import SegmentationData, Source, load_dataset
from crfrnn_jax.data.pipeline import eval_examples, train_batches

__all__ = [
    "SegmentationData",
    "Source",
    "eval_examples",
    "load_dataset",
    "train_batches",
]
