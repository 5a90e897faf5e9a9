"""The embedded default: a small FCN and CRF-RNN on procedural scenes.

make train, or
python train.py --config=configs/shapes.py --workdir=runs/shapes
python eval.py --workdir=runs/shapes
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config; every key a script reads is here."""
    config = ConfigDict()
    config.seed = 0
    # Devices: data=0 takes all there are, parameters=2 halves those of each.
    config.mesh = ConfigDict(dict(data=1, parameters=1))

    # The scenes are made on first use and kept in the user's cache ("" for dir).
    config.data = ConfigDict(
        dict(name="shapes", num_train=2000, num_val=200, size=80, seed=0, dir="")
    )
    config.data_threads = 4
    config.canvas = 0  # images of any size, padding masked; 500 is as published
    config.augment = ConfigDict(dict(flip=True, scale=(1.0, 1.0), color=0.3))

    config.model = ConfigDict(
        dict(
            name="fcn",
            widths=(16, 32, 64, 96),
            blocks=(1, 1, 1, 1),
            num_skips=2,
            dtype="float32",  # that it computes in, or "bfloat16"
            remat=False,  # True: features are computed anew, for less memory
        )
    )
    # Widths chosen on training scenes, as is usual for a dense CRF.
    config.crf = ConfigDict(
        dict(
            num_iterations=5,
            theta_alpha=20.0,
            theta_beta=15.0,
            theta_gamma=1.5,
            spatial_weight=1.0,
            bilateral_weight=3.0,
            method="lattice",
            weights_form="full",
            compatibility_form="full",
            share_parameters=True,
            normalisation="softmax",
            learn_widths=False,
        )
    )
    # Weights to start from, if not from fresh ones; see docs/paper.md.
    config.init = ConfigDict(dict(file="", skip=()))

    # The FCN alone; then, from it and for as many steps again, with and without the
    # CRF: the plain network gets as much training as the one with the CRF.
    config.stages = ("fcn", "plain", "end_to_end")
    config.fcn = ConfigDict(
        dict(
            start_from="",
            use_crf=False,
            frozen=(),  # names of parts or layers that do not move, ("backbone",)
            class_weighting="none",  # "none", or "log": rarer classes count for more
            reduction="mean",  # of the pixels' losses, or "sum"
            robustness=0.0,
            steps=2500,
            batch_size=8,
            micro_batches=1,
            crop=(80, 80),
            optimizer="adamw",  # or "sgd"
            momentum=0.0,  # of "sgd"
            schedule="cosine",  # or "constant"
            learning_rate=2e-3,
            weights_learning_rate=0.0,
            compatibility_learning_rate=0.0,
            bias_multiplier=1.0,
            weight_decay=1e-3,
            bias_decay=1e-3,
            warmup_steps=100,
            clip_norm=1.0,
            checkpoint_every=250,
            eval_every=1250,
        )
    )
    config.end_to_end = config.fcn.copy_and_resolve_references()
    config.end_to_end.update(
        start_from="fcn",
        use_crf=True,
        steps=500,
        learning_rate=1e-3,
        weights_learning_rate=1e-2,
        compatibility_learning_rate=1e-2,
        warmup_steps=50,
        eval_every=500,
    )
    config.plain = config.end_to_end.copy_and_resolve_references()
    config.plain.use_crf = False

    config.nonfinite = "stop"  # or "skip": a step that is not finite
    config.log_every = 50
    config.eval = ConfigDict(
        dict(num_iterations=10, validation_images=50, panels=6, multiple_of=1)
    )
    # Of the CRF as post-processing: theta_alpha, theta_beta, theta_gamma, bilateral
    # weight, spatial weight. The best on these training images is taken.
    config.postprocessing = ConfigDict(
        dict(
            train_images=50,
            candidates=(
                *(
                    (alpha, beta, 1.5, bilateral, spatial)
                    for alpha, beta in ((10.0, 10.0), (20.0, 15.0), (40.0, 20.0))
                    for bilateral in (1.5, 3.0, 6.0)
                    for spatial in (0.0, 1.0)
                ),
                (160.0, 3.0, 3.0, 5.0, 3.0),
            ),
        )
    )
    return config
