"""CRF-RNN on Pascal Context, 59 classes, from FCN-8s.

python train.py --config=configs/context_crfrnn.py --workdir=runs/context_crfrnn \
    --config.data.dir=FOLDER
python eval.py --workdir=runs/context_crfrnn

It starts from an FCN-8s of other labels, whose layers of scores are drawn afresh; the
first stage trains these. The paper's mean IoU: FCN-8s 37.78, CRF-RNN 39.28. This
project has not run it on Pascal Context.
"""

from ml_collections import ConfigDict

from configs import published


def get_config() -> ConfigDict:
    """The config; every key a script reads is here."""
    config = published.get_base()
    config.data = ConfigDict(
        dict(
            name="pascal_context",
            dir="",
            voc_dir="",
            prepared_dir="",
            counts=dict(train=4998, val=5105),
        )
    )
    config.init.file = "runs/voc_fcn8s/checkpoints/plain/100000"
    config.init.skip = (
        *("score_fr", "score_pool4", "score_pool3"),
        *("upscore2", "upscore_pool4", "upscore8", "crf"),
    )
    published.add_crf_stages(config)
    # Scores that start at zero need the rate of an FCN that is trained at once.
    config.plain.learning_rate = 1e-10
    config.model.scale_skips = True
    return config
