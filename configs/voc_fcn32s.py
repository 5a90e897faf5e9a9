"""FCN-32s on VOC 2012 + SBD from VGG-16, the FCN authors' first stage.

python -m crfrnn_jax.weights convert VGG_ILSVRC_16_layers.caffemodel weights/vgg16.npz
python train.py --config=configs/voc_fcn32s.py --workdir=runs/voc_fcn32s \
    --config.data.dir=FOLDER
python eval.py --workdir=runs/voc_fcn32s

This project has not run it on VOC. Next: configs/voc_fcn16s.py.
"""

from ml_collections import ConfigDict

from configs import published


def get_config() -> ConfigDict:
    """The config; every key a script reads is here."""
    config = published.get_base()
    config.model.stride = 32
    config.init.file = "weights/vgg16.npz"
    config.stages = ("plain",)
    config.plain = published.get_stage(learning_rate=1e-10, frozen=("upscore32",))
    return config
