"""CRF-RNN on VOC 2012 + SBD as one would train it today.

python train.py --config=configs/voc_crfrnn_modern.py --workdir=runs/voc_crfrnn_modern \
    --config.data.dir=FOLDER
python eval.py --workdir=runs/voc_crfrnn_modern

The same network and CRF as configs/voc_crfrnn.py, from VGG-16; but the mean loss, AdamW
with a schedule, batches of augmented crops, the network in bfloat16 (the CRF and the
loss in float32), and images of any size whose padding is masked in the CRF. There are
no results to compare with: nobody has published this recipe, and this project has not
run it on VOC.
"""

from ml_collections import ConfigDict

from configs import published


def get_config() -> ConfigDict:
    """The config; every key a script reads is here."""
    config = published.get_base()
    config.canvas = 0
    config.augment = ConfigDict(dict(flip=True, scale=(0.5, 2.0), color=0.3))
    config.model.dtype = "bfloat16"
    config.init.file = "weights/vgg16.npz"

    config.stages = ("fcn", "plain", "end_to_end")
    config.fcn = published.get_stage(
        frozen=(),
        reduction="mean",
        steps=30_000,
        batch_size=16,
        crop=(321, 321),
        optimizer="adamw",
        momentum=0.0,
        schedule="cosine",
        learning_rate=1e-4,
        bias_multiplier=1.0,
        weight_decay=1e-2,
        warmup_steps=500,
        clip_norm=1.0,
        checkpoint_every=1000,
        eval_every=5000,
    )
    config.end_to_end = config.fcn.copy_and_resolve_references()
    config.end_to_end.update(
        start_from="fcn",
        use_crf=True,
        steps=10_000,
        learning_rate=1e-5,
        weights_learning_rate=1e-2,
        compatibility_learning_rate=1e-2,
    )
    config.plain = config.end_to_end.copy_and_resolve_references()
    config.plain.use_crf = False
    return config
