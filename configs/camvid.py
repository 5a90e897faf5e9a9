"""CamVid, 11 classes, 480 x 360: a small FCN from scratch, and CRF-RNN.

The photographs are not part of this project; DIR holds {train,val}/{images,labels} as
the data set `folder` reads them.

python train.py --config=configs/camvid.py --workdir=runs/camvid --config.data.dir=DIR
python eval.py --workdir=runs/camvid

Results and times: docs/results.md.
"""

from ml_collections import ConfigDict

CLASS_NAMES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)


def get_config() -> ConfigDict:
    """The config; every key a script reads is here."""
    config = ConfigDict()
    config.seed = 0
    # Devices: data=0 takes all there are, parameters=2 halves those of each.
    config.mesh = ConfigDict(dict(data=1, parameters=1))

    config.data = ConfigDict(
        dict(name="folder", dir="", class_names=CLASS_NAMES, ignore_label=11)
    )
    config.data_threads = 4
    config.canvas = 0
    config.augment = ConfigDict(dict(flip=True, scale=(0.8, 1.25), color=0.2))

    config.model = ConfigDict(
        dict(
            name="fcn",
            widths=(24, 48, 96, 160, 224),
            blocks=(0, 1, 2, 2, 2),
            num_skips=3,
            dtype="float32",  # that it computes in, or "bfloat16"
            remat=False,  # True: features are computed anew, for less memory
        )
    )
    # The best widths of the hand-set CRFs below, on training images.
    config.crf = ConfigDict(
        dict(
            num_iterations=5,
            theta_alpha=20.0,
            theta_beta=8.0,
            theta_gamma=2.0,
            spatial_weight=0.5,
            bilateral_weight=1.5,
            method="lattice",
            weights_form="full",
            compatibility_form="full",
            share_parameters=True,
            normalisation="softmax",
            learn_widths=False,
        )
    )
    config.init = ConfigDict(dict(file="", skip=()))

    # The FCN alone, first with weighted classes, so that the rare ones are learnt, then
    # as they are, since weighted it takes too many pixels for them. Then, from it and
    # for as many steps again, with and without the CRF: the plain network gets as much
    # training as the one with the CRF. There the network's rate is low and the CRF's
    # is not, as in the paper: at 5e-4 the network drifted further than the CRF mended.
    config.stages = ("fcn", "finetune", "plain", "end_to_end")
    config.fcn = ConfigDict(
        dict(
            start_from="",
            use_crf=False,
            frozen=(),
            class_weighting="log",
            reduction="mean",
            robustness=0.0,
            steps=2000,
            batch_size=6,
            micro_batches=1,
            crop=(240, 320),
            optimizer="adamw",
            momentum=0.0,
            schedule="cosine",
            learning_rate=2e-3,
            weights_learning_rate=0.0,
            compatibility_learning_rate=0.0,
            bias_multiplier=1.0,
            weight_decay=1e-2,
            bias_decay=1e-2,
            warmup_steps=100,
            clip_norm=1.0,
            checkpoint_every=250,
            eval_every=500,
        )
    )
    config.finetune = config.fcn.copy_and_resolve_references()
    config.finetune.update(
        start_from="fcn",
        class_weighting="none",
        steps=400,
        batch_size=4,
        learning_rate=5e-4,
        warmup_steps=30,
        checkpoint_every=50,
        eval_every=200,
    )
    config.end_to_end = config.finetune.copy_and_resolve_references()
    config.end_to_end.update(
        start_from="finetune",
        use_crf=True,
        steps=400,
        learning_rate=3e-5,
        weights_learning_rate=2e-2,
        compatibility_learning_rate=2e-2,
        warmup_steps=10,
    )
    config.plain = config.end_to_end.copy_and_resolve_references()
    config.plain.use_crf = False

    config.nonfinite = "stop"  # or "skip": a step that is not finite
    config.log_every = 25
    config.eval = ConfigDict(
        dict(num_iterations=10, validation_images=25, panels=4, multiple_of=1)
    )
    # Of the CRF as post-processing: theta_alpha, theta_beta, theta_gamma, bilateral
    # weight, spatial weight. The best on these training images is taken.
    config.postprocessing = ConfigDict(
        dict(
            train_images=24,
            candidates=(
                (20.0, 8.0, 2.0, 0.75, 0.25),
                (20.0, 8.0, 2.0, 1.5, 0.5),
                (20.0, 8.0, 2.0, 3.0, 0.5),
                (40.0, 5.0, 2.0, 1.5, 0.5),
                (40.0, 5.0, 2.0, 3.0, 0.5),
                (80.0, 5.0, 2.0, 3.0, 0.5),
                (160.0, 3.0, 3.0, 3.0, 1.0),
                (160.0, 3.0, 3.0, 5.0, 3.0),
                (160.0, 5.0, 3.0, 5.0, 1.0),
            ),
        )
    )
    return config
