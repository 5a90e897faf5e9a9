"""The paper's ablations (sections 5 and 7.2), of any config with an end-to-end stage.

python ablate.py --config=configs/shapes.py --workdir=runs/ablations --seeds=0,1,2

Each is what it changes in the config, and which stage's network is scored in which way;
docs/experiments.md says what the paper found.
"""

from crfrnn_jax.training.ablation import Ablation

# The config as it is: full matrices, 5 iterations in training and 10 at test.
REFERENCE = "reference"

ABLATIONS = {
    REFERENCE: Ablation(),
    # The kernels' weights: one number, one for each label, or the reference's matrix.
    "scalar_weights": Ablation({"crf.weights_form": "scalar"}),
    "per_label_weights": Ablation({"crf.weights_form": "per_label"}),
    # The compatibility: fixed, symmetric, or the reference's free matrix.
    "potts": Ablation({"crf.compatibility_form": "potts"}),
    "symmetric": Ablation({"crf.compatibility_form": "symmetric"}),
    "test_5_iterations": Ablation({"eval.num_iterations": 5}),
    "train_10_iterations": Ablation(
        {"crf.num_iterations": 10, "eval.num_iterations": 10}
    ),
    # Iterations of their own parameters are as many at test as in training.
    "unshared_parameters": Ablation(
        {
            "crf.share_parameters": False,
            "crf.num_iterations": 5,
            "eval.num_iterations": 5,
        }
    ),
    # The CRF is trained, the network under it is not.
    "frozen_network": Ablation({"end_to_end.frozen": ("backbone",)}),
    "relu_normalisation": Ablation({"crf.normalisation": "relu"}),
    "robust_likelihood": Ablation({"end_to_end.robustness": 0.1}),
    # Not end to end: the plain network, and a CRF after it as the layer starts, or
    # with the best of config.postprocessing.candidates on training images.
    "plain": Ablation(stage="plain", row="plain"),
    "untrained_crf": Ablation(stage="plain", row="end_to_end"),
    "postprocessing": Ablation(stage="plain", row="postprocessing"),
}
