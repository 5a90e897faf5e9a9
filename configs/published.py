"""What the configs of the paper's experiments have in common; no config by itself.

Rates and decay are those of the authors' solvers: SGD with momentum 0.99, the loss
summed over the pixels, batches of one image of 500 x 500, no augmentation. Neither the
paper nor its code says for how many steps; 100 000 are the FCN authors' per stage.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import paper_data

SIDE = 500


def get_base(variant: str = "voc_sbd") -> Any:
    """All but `stages` and the stages themselves.

    Args:
      variant: of `paper_data.VARIANTS`, what is trained on.
    """
    config = ConfigDict()
    config.seed = 0
    # Devices: data=0 takes all there are, parameters=2 halves those of each.
    config.mesh = ConfigDict(dict(data=1, parameters=1))

    config.data = paper_data.get_data(variant)
    config.data_threads = 4
    config.canvas = SIDE
    config.augment = ConfigDict(dict(flip=False, scale=(1.0, 1.0), color=0.0))

    config.model = ConfigDict(
        dict(
            name="vgg_fcn",
            stride=8,
            scale_skips=False,
            dropout=0.5,
            dtype="float32",
            remat=False,
        )
    )
    config.crf = ConfigDict(
        dict(
            num_iterations=5,
            theta_alpha=160.0,
            theta_beta=3.0,
            theta_gamma=3.0,
            spatial_weight=3.0,
            bilateral_weight=5.0,
            method="lattice",
            weights_form="full",
            compatibility_form="full",
            share_parameters=True,
            normalisation="softmax",
            learn_widths=False,
        )
    )
    config.init = ConfigDict(dict(file="", skip=()))

    config.nonfinite = "stop"  # or "skip": a step that is not finite
    config.log_every = 100
    config.eval = ConfigDict(
        # Of the post-processing: the network sees the canvas.
        dict(num_iterations=10, validation_images=50, panels=6, multiple_of=64)
    )
    # tune.py searches finer.
    config.postprocessing = ConfigDict(
        dict(
            train_images=100,
            candidates=tuple(
                (alpha, beta, 3.0, bilateral, 3.0)
                for alpha in (50.0, 80.0, 160.0)
                for beta in (3.0, 5.0, 13.0)
                for bilateral in (3.0, 5.0, 10.0)
            ),
        )
    )
    return config


def get_stage(**changes: Any) -> Any:
    """A stage of the network alone, but for the changes."""
    stage = ConfigDict(
        dict(
            start_from="",
            use_crf=False,
            # As released, the last upscaling stays bilinear.
            frozen=("upscore8",),
            class_weighting="none",
            reduction="sum",
            robustness=0.0,
            steps=100_000,
            batch_size=1,
            micro_batches=1,
            crop=(SIDE, SIDE),
            optimizer="sgd",
            momentum=0.99,
            schedule="constant",
            learning_rate=1e-14,
            weights_learning_rate=0.0,
            compatibility_learning_rate=0.0,
            bias_multiplier=2.0,
            weight_decay=5e-4,
            bias_decay=0.0,
            warmup_steps=0,
            clip_norm=0.0,
            checkpoint_every=2000,
            eval_every=10_000,
        )
    )
    stage.update(changes)
    return stage


def add_crf_stages(config: Any) -> Any:
    """The paper's two stages: the network alone, and then with the CRF-RNN.

    One rate for the network, 10 000 times that for the kernels' weights, 1000 times for
    the compatibility.
    """
    rate = 1e-13
    config.stages = ("plain", "end_to_end")
    config.plain = get_stage(learning_rate=rate)
    config.end_to_end = get_stage(
        start_from="plain",
        use_crf=True,
        learning_rate=rate,
        weights_learning_rate=10_000 * rate,
        compatibility_learning_rate=1000 * rate,
    )
    return config
