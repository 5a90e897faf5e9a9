"""Segmentation data: data sets from a config, batches and examples."""

from crfrnn_jax.data.dataset import SegmentationData, Source
from crfrnn_jax.data.loading import load_dataset
from crfrnn_jax.data.pipeline import eval_examples, train_batches
from crfrnn_jax.data.voc import voc_test_images

__all__ = [
    "SegmentationData",
    "Source",
    "eval_examples",
    "load_dataset",
    "train_batches",
    "voc_test_images",
]
