"""CRF-RNN on VOC 2012 + SBD from FCN-8s, as published (Zheng et al. 2015).

python train.py --config=configs/voc_crfrnn.py --workdir=runs/voc_crfrnn \
    --config.data.dir=FOLDER
python eval.py --workdir=runs/voc_crfrnn

FCN-8s is that of configs/voc_fcn8s.py, or a converted file of the FCN authors':
--config.init.file=weights/fcn8s.npz. The paper's mean IoU on the 346 validation images:
plain 61.3, CRF as post-processing 63.7, end to end 69.6; 72.0 on VOC's test images.
This project has not run it on VOC.
"""

from ml_collections import ConfigDict

from configs import published


def get_config() -> ConfigDict:
    """The config; every key a script reads is here."""
    config = published.get_base()
    config.init.file = "runs/voc_fcn8s/checkpoints/plain/100000"
    return published.add_crf_stages(config)
