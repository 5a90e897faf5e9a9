"""A CRF fitted to any network's scores of labelled images, without the network.

DIR holds {train,val}/{images,labels} as the data set `folder` reads them, SCORES
{train,val}/probabilities/STEM.npy, float [height, width, labels].

python fit.py --config=configs/fit.py --config.data.dir=DIR \
    --config.data.scores_dir=SCORES --out=crf.npz
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config; every key fit.py reads is here."""
    config = ConfigDict()
    config.data = ConfigDict(
        dict(
            dir="",
            scores_dir="",
            scores="probabilities",  # or "logits", which is the folder's name, too
            ignore_label=255,
        )
    )
    # The attributes of the layer `CRFRNN`: where to start from, and what is learned.
    config.crf = ConfigDict(
        dict(
            num_iterations=5,
            theta_alpha=40.0,
            theta_beta=10.0,
            theta_gamma=3.0,
            spatial_weight=1.0,
            bilateral_weight=2.0,
            method="lattice",
            weights_form="per_label",
            compatibility_form="potts",
            share_parameters=True,
            normalisation="softmax",
            learn_widths=True,
        )
    )
    # The images, evenly spread over each split, are all on the device at once, with
    # four bytes a pixel and label; the CRF is fitted to those of train.
    config.fit = ConfigDict(
        dict(
            train_images=50,
            val_images=50,
            objective="log_likelihood",  # or "expected_iou"
            steps=20,
            frozen=(),  # names of the layer's parameters, ("log_theta_gamma",)
        )
    )
    return config
