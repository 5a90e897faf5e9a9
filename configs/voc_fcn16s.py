"""FCN-16s on VOC 2012 + SBD from FCN-32s, the FCN authors' second stage.

python train.py --config=configs/voc_fcn16s.py --workdir=runs/voc_fcn16s \
    --config.data.dir=FOLDER
python eval.py --workdir=runs/voc_fcn16s

This project has not run it on VOC. Next: configs/voc_fcn8s.py.
"""

from ml_collections import ConfigDict

from configs import published


def get_config() -> ConfigDict:
    """The config; every key a script reads is here."""
    config = published.get_base()
    config.model.stride = 16
    config.init.file = "runs/voc_fcn32s/checkpoints/plain/100000"
    config.stages = ("plain",)
    # All upscaling stays bilinear, as in the FCN authors' training.
    frozen = ("upscore2", "upscore16")
    config.plain = published.get_stage(learning_rate=1e-12, frozen=frozen)
    return config
