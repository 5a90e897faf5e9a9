"""Networks to predict with, from small files of weights and checkpoints."""

from functools import partial

import jax
import numpy as np
import pytest
from small_networks import SIZES, save_checkpoint, save_image, save_network

from crfrnn_jax.layers import CRFRNN
from crfrnn_jax.models.vgg import MEAN_BGR
from crfrnn_jax.training.checkpoints import CheckpointError
from crfrnn_jax.training.networks import load_network
from crfrnn_jax.weights import save_weights


@pytest.mark.parametrize(
    ("layout", "form", "canvas", "multiple_of"),
    [
        ("crfrnn-pytorch", None, 500, 1),
        ("crfrnn-caffe", "published", 500, 1),
        ("crfrnn-keras", "modern", 0, 64),
        ("fcn8s-pytorch", None, 0, 1),
        ("fcn8s-atonce-caffe", "modern", 0, 64),
    ],
)
def test_weights_come_with_the_input_of_their_authors(
    tmp_path, layout, form, canvas, multiple_of
):
    save_network(tmp_path / "w.npz", layout)
    network = load_network(tmp_path / "w.npz", form=form, sizes=SIZES)
    assert network.model.canvas == canvas
    assert network.multiple_of == multiple_of
    assert network.num_labels == 3
    assert network.num_iterations == 10
    assert (network.model.crf is not None) == layout.startswith("crfrnn")


def test_weights_without_a_crf_predict_alone(tmp_path):
    model, params = save_network(tmp_path / "w.npz", "fcn16s-caffe", stride=16)
    image = save_image(tmp_path / "a.png")
    logits_of = load_network(tmp_path / "w.npz", sizes=SIZES).logits_of()
    expected = jax.jit(model.apply)({"params": params}, image[None])[0]
    np.testing.assert_allclose(logits_of(image), expected, rtol=1e-4, atol=1e-4)


def test_weights_with_a_crf_are_refined_by_it(tmp_path):
    model, params = save_network(tmp_path / "w.npz", "crfrnn-pytorch")
    image = save_image(tmp_path / "a.png", 64, 64)  # modern, and nothing to be padded
    network = load_network(
        tmp_path / "w.npz", form="modern", num_iterations=2, sizes=SIZES
    )
    assert network.model == model
    # The exact filters compile in a second, the lattice in ten.
    model = model.clone(crf=CRFRNN(3, method="exact"))
    logits_of = network._replace(model=model).logits_of()

    def score(module, images):
        return module.refine(images, module.unary(images), num_iterations=2)

    apply = jax.jit(partial(model.apply, method=score))
    expected = apply({"params": params}, image[None])[0]
    np.testing.assert_allclose(logits_of(image), expected, rtol=1e-4, atol=1e-4)


def test_weights_that_are_not_whole_are_listed(tmp_path):
    def change(tensors):
        del tensors["backbone/fc7/bias"], tensors["crf/compatibility"]
        tensors["backbone/conv1_1/kernel"] = np.zeros((3, 3, 3, 5), np.float32)
        tensors["backbone/fc8/bias"] = np.zeros(2, np.float32)

    save_network(tmp_path / "w.npz", "crfrnn-pytorch", change=change)
    with pytest.raises(ValueError, match=r"w.npz: expected the param") as error:
        load_network(tmp_path / "w.npz", sizes=SIZES)
    for fault in (
        "missing: backbone/fc7/bias, crf/compatibility;",
        "another shape: backbone/conv1_1/kernel (expected [3, 3, 3, 4], got "
        "[3, 3, 3, 5]);",
        "left over: backbone/fc8/bias",
    ):
        assert fault in str(error.value)


def test_weights_that_score_nothing_are_refused(tmp_path):
    tensors = {"backbone/conv1_1/bias": np.zeros(64, np.float32)}
    meta = {"layout": "vgg16-torchvision", "labels": None}
    save_weights(tmp_path / "vgg.npz", tensors, meta)
    with pytest.raises(ValueError, match=r"vgg.npz: .*got those of vgg16-torchvision"):
        load_network(tmp_path / "vgg.npz")
    with pytest.raises(FileNotFoundError, match=r"absent.npz: .* or a checkpoint's fo"):
        load_network(tmp_path / "absent.npz")
    save_weights(tmp_path / "own.npz", tensors, {})
    with pytest.raises(ValueError, match=r"own.npz: .* none with layout and labels; "):
        load_network(tmp_path / "own.npz")


def test_a_checkpoint_comes_with_its_config(tmp_path):
    path, model, params = save_checkpoint(tmp_path, "end_to_end")
    network = load_network(path)
    assert network.num_labels == 5
    assert network.num_iterations == 3
    assert (network.model.canvas, network.multiple_of) == (0, 16)
    assert load_network(path, form="published").model.canvas == 500
    assert load_network(path, form="modern").multiple_of == 64
    image = save_image(tmp_path / "a.png", 16, 16)

    def score(module, images):
        return module.refine(images, module.unary(images), num_iterations=3)

    expected = jax.jit(partial(model.apply, method=score))(
        {"params": params}, image[None]
    )[0]
    np.testing.assert_allclose(
        network.logits_of()(image), expected, rtol=1e-4, atol=1e-4
    )


def test_a_work_directory_is_refused_with_its_checkpoints(tmp_path):
    path, _, _ = save_checkpoint(tmp_path, "end_to_end")
    with pytest.raises(CheckpointError, match=f"no whole .* such as {path}$"):
        load_network(path.parents[2])


def test_a_checkpoint_that_was_trained_without_the_crf_predicts_without(tmp_path):
    path, _, _ = save_checkpoint(tmp_path, "plain")
    assert load_network(path).model.crf is None


def test_published_input_is_the_authors_canvas(tmp_path):
    path, model, params = save_checkpoint(tmp_path, "plain")
    image = save_image(tmp_path / "a.png", 300, 500)  # of the canvas's longer side
    logits = load_network(path, form="published").logits_of()(image)
    canvas = np.full((500, 500, 3), MEAN_BGR[::-1], np.float32)
    canvas[:300] = image
    apply = jax.jit(partial(model.apply, method="unary"))
    expected = apply({"params": params}, canvas[None])[0, :300]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    # Where the network sees what is padded, it matters of which colour that is.
    modern = load_network(path, form="modern").logits_of()(image)
    assert modern.shape == logits.shape
    assert np.abs(modern - logits)[-8:].max() > 1e-3


def test_iterations_that_the_crf_can_not_have_are_refused_before_any_image(tmp_path):
    path, _, _ = save_checkpoint(tmp_path, "end_to_end", share_parameters=False)
    with pytest.raises(ValueError, match=r"num_iterations: expected the layer's"):
        load_network(path)
    load_network(path, num_iterations=5)
