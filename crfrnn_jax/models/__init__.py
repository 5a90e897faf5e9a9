"""Networks: backbones that score pixels, and their composition with the CRF."""

from crfrnn_jax.models.building import BACKBONES, build_segmenter
from crfrnn_jax.models.fcn import FCN
from crfrnn_jax.models.segmenter import Segmenter
from crfrnn_jax.models.vgg import VGGFCN

__all__ = ["BACKBONES", "FCN", "VGGFCN", "Segmenter", "build_segmenter"]
