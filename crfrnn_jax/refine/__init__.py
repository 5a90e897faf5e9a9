"""Post-processing in one call: numpy in, numpy out."""

from crfrnn_jax.refine.refining import refine

__all__ = ["refine"]
