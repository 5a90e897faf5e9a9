"""CRF-RNN with COCO: FCN-32s on COCO, FCN-8s from it, then CRF-RNN on VOC + SBD.

FCN-32s from VGG-16 and on COCO alone, FCN-8s on all images, then on VOC + SBD alone the
plain network once more (the table's first row) and CRF-RNN end to end:

python train.py --config=configs/coco_voc_crfrnn.py:fcn32s \
    --workdir=runs/coco_fcn32s --config.data.dir=FOLDER
python train.py --config=configs/coco_voc_crfrnn.py:fcn8s \
    --workdir=runs/coco_fcn8s --config.data.dir=FOLDER
python train.py --config=configs/coco_voc_crfrnn.py:crfrnn \
    --workdir=runs/coco_voc_crfrnn --config.data.dir=FOLDER
python eval.py --workdir=runs/coco_voc_crfrnn

The paper does not say how FCN-8s comes from FCN-32s without FCN-16s: here with the FCN
authors' scaled skips and their rate for training at once.

The paper's mean IoU on the 346 validation images: plain 68.3, CRF as post-processing
69.5, end to end 72.9; 74.7 on VOC's test images. This project has not run it on COCO or
VOC.
"""

from ml_collections import ConfigDict

from configs import published
from crfrnn_jax.checks import check_choice

STEPS = ("fcn32s", "fcn8s", "crfrnn")


def get_config(step: str = "crfrnn") -> ConfigDict:
    """The config of a step, one of `STEPS`."""
    check_choice("variant of configs/coco_voc_crfrnn.py", step, STEPS)
    if step == "fcn32s":
        config = published.get_base("coco")
        config.model.stride = 32
        config.init.file = "weights/vgg16.npz"
        config.stages = ("plain",)
        config.plain = published.get_stage(learning_rate=1e-10, frozen=("upscore32",))
        return config
    if step == "fcn8s":
        config = published.get_base("voc_sbd_coco")
        config.model.scale_skips = True
        config.init.file = "runs/coco_fcn32s/checkpoints/plain/100000"
        config.stages = ("plain",)
        config.plain = published.get_stage(learning_rate=1e-10)
        return config
    config = published.get_base("voc_sbd")
    config.model.scale_skips = True
    config.init.file = "runs/coco_fcn8s/checkpoints/plain/100000"
    return published.add_crf_stages(config)
