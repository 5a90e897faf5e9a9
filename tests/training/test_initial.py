"""A first stage's parameters: fresh, with those of a file in their place."""

import logging

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from crfrnn_jax.crf_file import save_crf
from crfrnn_jax.layers import CRFRNN, fresh_variables
from crfrnn_jax.models import VGGFCN, Segmenter
from crfrnn_jax.training.initial import (
    _check_scaling,
    flat_names,
    fresh_params,
    initial_params,
)
from crfrnn_jax.weights import save_weights

KEY = jax.random.key(3)


def network(stride=32, labels=2):
    backbone = VGGFCN(labels, stride=stride, widths=(2, 2, 2, 2, 2), hidden=3)
    return Segmenter(backbone, CRFRNN(labels))


def write(path, model, key=0, drop=()):
    """A weights file of another draw of the model's parameters, less some layers."""
    params = flat_names(fresh_params(model, jax.random.key(key)))
    tensors = {
        name: np.asarray(leaf) + 0.25
        for name, leaf in params.items()
        if not set(drop) & {*name.split("/")}
    }
    save_weights(path, tensors, {})
    return tensors


def init(file="", skip=()):
    return ConfigDict({"file": str(file), "skip": skip})


@pytest.fixture(autouse=True)
def messages(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def test_without_a_file_all_are_fresh():
    model = network()
    ours = flat_names(initial_params(model, KEY, init()))
    for name, leaf in flat_names(fresh_params(model, KEY)).items():
        np.testing.assert_array_equal(ours[name], leaf)


def test_a_network_of_fewer_layers_lends_what_it_has(tmp_path, messages):
    """FCN-16s from FCN-32s: the last upscaling of the one has no place in the other."""
    given = write(tmp_path / "fcn32s.npz", network(32))
    model = network(16)
    ours = flat_names(initial_params(model, KEY, init(tmp_path / "fcn32s.npz")))
    fresh = flat_names(fresh_params(model, KEY))
    assert ours.keys() == fresh.keys()
    for name, leaf in ours.items():
        np.testing.assert_array_equal(leaf, given.get(name, fresh[name]))
    assert "not in the file, drawn afresh: backbone/score_pool4/bias" in messages.text
    assert "in the file, not taken: backbone/upscore32/kernel" in messages.text


def test_layers_for_other_labels_are_skipped_by_name(tmp_path):
    path = tmp_path / "two.npz"
    given = write(path, network(labels=2))
    model = network(labels=3)
    with pytest.raises(ValueError, match=r"two.npz: .*score_fr/bias: expected \[3\]"):
        initial_params(model, KEY, init(path))
    skip = ("score_fr", "upscore32", "crf")
    ours = flat_names(initial_params(model, KEY, init(path, skip)))
    fresh = flat_names(fresh_params(model, KEY))
    for name, leaf in ours.items():
        skipped = set(skip) & {*name.split("/")}
        np.testing.assert_array_equal(leaf, (fresh if skipped else given)[name])


def test_a_file_of_nothing_in_common_is_an_error(tmp_path):
    save_weights(tmp_path / "a.npz", {"other/kernel": np.zeros(2, np.float32)}, {})
    with pytest.raises(ValueError, match=r"a.npz: expected tensors of this network"):
        initial_params(network(), KEY, init(tmp_path / "a.npz"))


def test_a_name_to_skip_that_is_nothing_s_is_an_error(tmp_path):
    write(tmp_path / "a.npz", network())
    with pytest.raises(ValueError, match=r"config.init.skip: .* got 'scores'"):
        initial_params(network(), KEY, init(tmp_path / "a.npz", ("scores",)))


def test_a_missing_file_is_named_and_how_to_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.npz; give .* convert") as end:
        initial_params(network(), KEY, init(tmp_path / "nowhere.npz"))
    assert "config.init.file: expected a file of weights or a checkp" in str(end.value)
    step = tmp_path / "voc_fcn8s" / "checkpoints" / "plain" / "100"
    with pytest.raises(FileNotFoundError, match=r"/100; train .*/voc_fcn8s first, or"):
        initial_params(network(), KEY, init(step))


@pytest.mark.parametrize(("given", "wanted"), [(False, True), (True, False)])
def test_scores_of_pools_scaled_otherwise_are_refused(given, wanted):
    """Their shapes are the same, and the network would be another."""
    with pytest.raises(ValueError, match=f"set config.model.scale_skips={given}"):
        _check_scaling("a.npz", given, wanted)


def test_a_converted_file_has_no_scaled_pools(tmp_path):
    write(tmp_path / "a.npz", network(16))
    scaled = network(16)
    scaled = scaled.clone(backbone=scaled.backbone.clone(scale_skips=True))
    with pytest.raises(ValueError, match=r"a.npz: holds scores .*scale_skips=False"):
        initial_params(scaled, KEY, init(tmp_path / "a.npz"))


def test_a_network_starts_from_a_fitted_crf_of_its_own_attributes(tmp_path):
    model = network()
    layer = CRFRNN(2, theta_alpha=20.0, weights_form="per_label")
    variables = fresh_variables(layer)
    variables["params"]["compatibility"] = np.full((2, 2), 7, np.float32)
    save_crf(tmp_path / "crf.npz", layer, variables)
    same = model.clone(crf=layer.clone(spatial_weight=1.0, num_iterations=3))
    params = initial_params(same, jax.random.key(0), init(str(tmp_path / "crf.npz")))
    assert (params["crf"]["compatibility"] == 7).all()
    other = model.clone(crf=layer.clone(theta_alpha=30.0))
    with pytest.raises(ValueError, match=r"crf\.npz: .*theta_alpha: 20\.0 -> 30\.0$"):
        initial_params(other, jax.random.key(0), init(str(tmp_path / "crf.npz")))
