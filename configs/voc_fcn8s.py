"""FCN-8s on VOC 2012 + SBD from FCN-16s, the FCN authors' third stage.

python train.py --config=configs/voc_fcn8s.py --workdir=runs/voc_fcn8s \
    --config.data.dir=FOLDER
python eval.py --workdir=runs/voc_fcn8s

The CRF-RNN paper's plain FCN-8s has 61.3 mean IoU on the 346 validation images; the FCN
authors report 65.5 on their subset. This project has not run it on VOC. Next:
configs/voc_crfrnn.py. Trained at once, from VGG-16 and not from FCN-16s:
--config.model.scale_skips=True --config.plain.learning_rate=1e-10
--config.init.file=weights/vgg16.npz; what starts from that needs the first of these,
too.
"""

from ml_collections import ConfigDict

from configs import published


def get_config() -> ConfigDict:
    """The config; every key a script reads is here."""
    config = published.get_base()
    config.init.file = "runs/voc_fcn16s/checkpoints/plain/100000"
    config.stages = ("plain",)
    # All upscaling stays bilinear, as in the FCN authors' training.
    frozen = ("upscore2", "upscore_pool4", "upscore8")
    config.plain = published.get_stage(learning_rate=1e-14, frozen=frozen)
    return config
