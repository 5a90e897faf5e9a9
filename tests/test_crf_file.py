"""A CRF in a file: it comes back as it was, and no other file passes for one."""

import jax
import numpy as np
import pytest

from crfrnn_jax import InputError
from crfrnn_jax.crf_file import load_crf, save_crf
from crfrnn_jax.fitting import Fitted
from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.weights import save_weights

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (1, 4, 5, 3)).astype(np.float32)
LOGITS = RNG.normal(size=(1, 4, 5, 3)).astype(np.float32)


def layer_and_variables(**attributes):
    layer = CRFRNN(3, **attributes)
    drawn = jax.tree.map(
        lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32),
        layer.init(jax.random.key(0), IMAGES, LOGITS),
    )
    return layer, drawn


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"learn_widths": True, "weights_form": "per_label", "theta_alpha": 7.0},
        {"weights_form": "scalar", "compatibility_form": "potts", "method": "exact"},
        {"share_parameters": False, "num_iterations": 2, "normalisation": "relu"},
        {"spatial_method": "separable"},
    ],
)
def test_a_crf_comes_back_as_it_was(attributes, tmp_path):
    layer, variables = layer_and_variables(**attributes)
    path = tmp_path / "new" / "crf.npz"
    save_crf(path, layer, variables)
    saved = load_crf(path)
    assert saved.layer == layer
    assert saved.variables["params"].keys() == variables["params"].keys()
    jax.tree.map(np.testing.assert_array_equal, dict(saved.variables), dict(variables))


def test_a_file_is_replaced_only_if_told(tmp_path):
    path = tmp_path / "crf.npz"
    save_crf(path, *layer_and_variables())
    before = path.read_bytes()
    with pytest.raises(InputError, match="--force, or force=True, replaces it"):
        save_crf(path, *layer_and_variables())
    assert path.read_bytes() == before
    save_crf(path, *layer_and_variables(), force=True)
    assert path.read_bytes() != before


def test_parameters_of_another_layer_are_not_written(tmp_path):
    layer, variables = layer_and_variables()
    path = tmp_path / "crf.npz"
    with pytest.raises(InputError, match=r"variables: expected parameters of shapes"):
        save_crf(path, layer.clone(learn_widths=True), variables)
    bad = jax.tree.map(lambda leaf: leaf * np.float32(np.nan), variables)
    with pytest.raises(InputError, match=r"finite numbers, got others in .*compat"):
        save_crf(path, layer, bad)
    no_dictionary = r"variables: expected those of `layer.init`, a dictionary with"
    for wrong in (variables["params"], Fitted(variables, np.zeros(1)), {"params": [1]}):
        with pytest.raises(InputError, match=no_dictionary):
            save_crf(path, layer, wrong)
    with pytest.raises(InputError, match=r"layer\.learn_widths: expected .*bool"):
        save_crf(path, layer.clone(learn_widths=0), variables)
    with pytest.raises(InputError, match="layer: expected CRFRNN, got dict"):
        save_crf(path, variables, layer)
    assert not path.exists()


def attributes_of(layer):
    names = ("num_labels", "num_iterations", "theta_alpha", "theta_beta", "theta_gamma")
    names += ("spatial_weight", "bilateral_weight", "method", "spatial_method")
    names += ("weights_form", "compatibility_form", "share_parameters")
    names += ("normalisation", "learn_widths")
    return {name: getattr(layer, name) for name in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda crf: None, "expected a CRF that fit.py or save_crf wrote"),
        (lambda crf: crf | {"colour": 1}, "another version|differs in colour"),
        (lambda crf: crf | {"num_labels": 4}, "expected parameters of shapes"),
        (lambda crf: crf | {"num_labels": 10**9}, "expected parameters of shapes"),
        (lambda crf: crf | {"num_labels": "3"}, "num_labels"),
        (lambda crf: crf | {"num_labels": -1}, "num_labels"),
        (lambda crf: crf | {"theta_beta": -1.0}, "theta_beta"),
        (lambda crf: crf | {"theta_beta": "wide"}, "theta_beta"),
        (lambda crf: crf | {"theta_beta": 10**400}, "theta_beta"),
        (lambda crf: crf | {"num_labels": 10**30}, "num_labels"),
        (lambda crf: crf | {"method": "magic"}, "method"),
        (lambda crf: crf | {"spatial_method": 3}, "spatial_method"),
        (lambda crf: crf | {"weights_form": []}, "weights_form"),
        (lambda crf: crf | {"num_iterations": None}, "num_iterations"),
        (lambda crf: crf | {"spatial_weight": "x"}, "spatial_weight"),
        (lambda crf: crf | {"spatial_weight": [1, 2]}, "spatial_weight"),
        (lambda crf: crf | {"normalisation": "l2"}, "normalisation"),
        (lambda crf: crf | {"share_parameters": "no"}, "share_parameters"),
        (lambda crf: crf | {"learn_widths": "no"}, "learn_widths"),
    ],
)
def test_other_attributes_are_errors_that_name_the_file(change, message, tmp_path):
    layer, variables = layer_and_variables()
    tensors = {f"crf/{name}": value for name, value in variables["params"].items()}
    path = tmp_path / "strange.npz"
    save_weights(path, tensors, {"crf": change(attributes_of(layer))})
    with pytest.raises(InputError, match=rf"strange\.npz.*({message})"):
        load_crf(path)


def test_attributes_of_numpy_are_written_as_pythons(tmp_path):
    path = tmp_path / "crf.npz"
    layer, variables = layer_and_variables(
        theta_alpha=np.float32(7), num_iterations=np.int64(3), learn_widths=np.True_
    )
    save_crf(path, layer, variables)
    assert load_crf(path).layer == CRFRNN(
        3, theta_alpha=7.0, num_iterations=3, learn_widths=True
    )


def test_tensors_of_other_names_are_an_error(tmp_path):
    layer, variables = layer_and_variables()
    path = tmp_path / "strange.npz"
    save_weights(path, dict(variables["params"]), {"crf": attributes_of(layer)})
    with pytest.raises(InputError, match=r"strange\.npz: expected tensors of a CRF al"):
        load_crf(path)


def test_truncated_and_absent_files_are_errors(tmp_path):
    path = tmp_path / "crf.npz"
    save_crf(path, *layer_and_variables())
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"crf\.npz"):
        load_crf(path)
    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        load_crf(tmp_path / "absent.npz")
