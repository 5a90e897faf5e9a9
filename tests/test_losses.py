import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import softmax

from crfrnn_jax.losses import expected_iou_loss, softmax_cross_entropy
from crfrnn_jax.metrics import confusion_matrix, mean_iou

IGNORE = 255
RNG = np.random.default_rng(1)


def _example(seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(2, 3, 4, 5)) * 3
    labels = rng.integers(0, 5, (2, 3, 4))
    labels[rng.random(labels.shape) < 0.3] = IGNORE
    return logits.astype(np.float32), labels


def _oracle(logits, labels, weights=None):
    """The weighted mean of -log softmax at the true label, in a float64 loop."""
    total = count = 0.0
    for pixel, label in zip(logits.reshape(-1, 5), labels.ravel(), strict=True):
        if label != IGNORE:
            pixel = pixel.astype(np.float64)
            weight = 1.0 if weights is None else weights[label]
            total -= weight * (pixel[label] - np.log(np.exp(pixel).sum()))
            count += weight
    return total / count


@pytest.mark.parametrize("weights", [None, np.array([1.0, 2.0, 0.5, 0.0, 3.0])])
def test_is_the_weighted_mean_over_the_valid_pixels(weights):
    logits, labels = _example()
    loss = softmax_cross_entropy(
        logits=jnp.asarray(logits),
        labels=jnp.asarray(labels),
        ignore_label=IGNORE,
        class_weights=weights,
    )
    # Some 20 terms in float32.
    np.testing.assert_allclose(loss, _oracle(logits, labels, weights), rtol=1e-5)


def test_ignored_pixels_have_no_gradient():
    logits, labels = _example()
    gradient = jax.grad(
        lambda x: softmax_cross_entropy(
            logits=x, labels=jnp.asarray(labels), ignore_label=IGNORE
        )
    )(jnp.asarray(logits))
    ignored = labels == IGNORE
    assert not np.asarray(gradient)[ignored].any()
    assert np.abs(gradient)[~ignored].sum(-1).min() > 0


def test_batch_without_a_valid_pixel_has_loss_and_gradient_zero():
    labels = jnp.full((1, 2, 2), IGNORE)
    loss, gradient = jax.value_and_grad(
        lambda x: softmax_cross_entropy(logits=x, labels=labels, ignore_label=IGNORE)
    )(jnp.ones((1, 2, 2, 5)))
    assert loss == 0
    assert not gradient.any()


def test_names_what_does_not_fit():
    logits = jnp.zeros((1, 2, 2, 5))
    with pytest.raises(ValueError, match=r"labels: expected .*\[1, 2, 2\].* \[1, 2\]"):
        softmax_cross_entropy(
            logits=logits, labels=jnp.zeros((1, 2), int), ignore_label=IGNORE
        )
    with pytest.raises(ValueError, match=r"class_weights: expected shape \[labels=5\]"):
        softmax_cross_entropy(
            logits=logits,
            labels=jnp.zeros((1, 2, 2), int),
            ignore_label=IGNORE,
            class_weights=np.ones(4),
        )
    with pytest.raises(ValueError, match=r"class_weights: expected numbers of at leas"):
        softmax_cross_entropy(
            logits=logits,
            labels=jnp.zeros((1, 2, 2), int),
            ignore_label=IGNORE,
            class_weights=np.array([1.0, 1.0, -1.0, 1.0, 1.0]),
        )


@pytest.mark.parametrize("loss", [expected_iou_loss, softmax_cross_entropy])
@pytest.mark.parametrize("logits", [np.zeros((2, 0), np.float32), 1.0])
def test_no_labels_are_an_error(loss, logits):
    with pytest.raises(
        ValueError, match=r"logits: expected \[\.\.\., labels\], at lea"
    ):
        loss(logits=logits, labels=np.zeros(2, int), ignore_label=IGNORE)


def test_a_label_out_of_range_makes_nan_of_the_loss():
    loss = softmax_cross_entropy(
        logits=jnp.zeros((1, 2, 2)), labels=jnp.array([[0, 7]]), ignore_label=IGNORE
    )
    assert jnp.isnan(loss)


def test_half_precision_logits_of_many_pixels_have_a_float32_loss():
    shape = (1, 300, 300)  # more pixels than float16 can count
    loss = softmax_cross_entropy(
        logits=jnp.zeros((*shape, 2), jnp.float16),
        labels=jnp.zeros(shape, jnp.int32),
        ignore_label=IGNORE,
    )
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-5)


@pytest.mark.parametrize("weights", [None, np.array([1.0, 2.0, 0.5, 0.0, 3.0])])
def test_the_sum_is_the_mean_times_the_weights(weights):
    logits, labels = _example()
    total = softmax_cross_entropy(
        logits=jnp.asarray(logits),
        labels=jnp.asarray(labels),
        ignore_label=IGNORE,
        class_weights=weights,
        reduction="sum",
    )
    valid = labels[labels != IGNORE]
    count = len(valid) if weights is None else weights[valid].sum()
    truth = _oracle(logits, labels, weights) * count
    np.testing.assert_allclose(total, truth, rtol=1e-5)


def test_the_robust_likelihood_adds_to_the_probability():
    logits, labels = _example()
    loss, gradient = jax.value_and_grad(
        lambda logits: softmax_cross_entropy(
            logits=logits,
            labels=jnp.asarray(labels),
            ignore_label=IGNORE,
            robustness=0.1,
        )
    )(jnp.asarray(logits))
    exp = np.exp(logits.astype(np.float64))
    probabilities = exp / exp.sum(-1, keepdims=True)
    valid = labels != IGNORE
    true = np.take_along_axis(
        probabilities, np.where(valid, labels, 0)[..., None], axis=-1
    )[..., 0]
    np.testing.assert_allclose(loss, -np.log(0.1 + true[valid]).mean(), rtol=1e-5)
    # The derivative of -log(r + p) by the true label's logit: -p (1 - p) / (r + p).
    own = -true * (1 - true) / (0.1 + true) / valid.sum()
    ours = np.take_along_axis(
        np.asarray(gradient), np.where(valid, labels, 0)[..., None], axis=-1
    )[..., 0]
    np.testing.assert_allclose(ours[valid], own[valid], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "max"}, "reduction: expected one of .* got 'max'"),
        (
            {"robustness": -0.1},
            r"robustness: expected a number of at least 0, got -0\.1",
        ),
    ],
)
def test_options_out_of_range_are_named(options, message):
    logits, labels = _example()
    with pytest.raises(ValueError, match=message):
        softmax_cross_entropy(
            logits=jnp.asarray(logits),
            labels=jnp.asarray(labels),
            ignore_label=IGNORE,
            **options,
        )


def test_ignored_pixels_may_hold_anything():
    logits, labels = _example()
    spoilt = np.where((labels == IGNORE)[..., None], np.nan, logits)

    def loss(logits):
        return softmax_cross_entropy(
            logits=logits, labels=jnp.asarray(labels), ignore_label=IGNORE
        )

    ours, truth = (
        jax.value_and_grad(loss)(jnp.asarray(x, jnp.float32)) for x in (spoilt, logits)
    )
    np.testing.assert_array_equal(ours[0], truth[0])
    np.testing.assert_array_equal(ours[1], truth[1])


def test_the_expected_iou_is_that_of_loops():
    logits = RNG.normal(size=(2, 4, 5, 3)).astype(np.float32)
    labels = RNG.integers(0, 2, (2, 4, 5))  # the third label is not there
    labels[0, :2] = 255
    q = softmax(logits.astype(np.float64))
    scores = []
    for label in range(2):
        right = wrong = count = 0.0
        for place in np.ndindex(labels.shape):
            if labels[place] == label:
                right, count = right + q[place][label], count + 1
            elif labels[place] != 255:
                wrong += q[place][label]
        scores.append(right / (count + wrong))
    loss = expected_iou_loss(logits=logits, labels=labels, ignore_label=255)
    np.testing.assert_allclose(loss, 1 - np.mean(scores), rtol=1e-5)


def test_the_expected_iou_of_certainty_is_the_iou():
    labels = RNG.integers(0, 3, (30,))
    predicted = np.where(RNG.uniform(size=30) < 0.7, labels, RNG.integers(0, 3, (30,)))
    logits = 60 * np.eye(3, dtype=np.float32)[predicted]
    confusion = confusion_matrix(
        labels=labels, predictions=predicted, num_labels=3, ignore_label=255
    )
    loss = expected_iou_loss(logits=logits, labels=labels, ignore_label=255)
    np.testing.assert_allclose(loss, 1 - mean_iou(confusion), rtol=1e-5)


def test_the_expected_iou_of_nothing_is_zero_and_of_wrong_labels_nan():
    logits = np.full((4, 3), np.nan, np.float32)
    ignored = np.full(4, 255)
    value, gradient = jax.value_and_grad(
        lambda logits: expected_iou_loss(
            logits=logits, labels=ignored, ignore_label=255
        )
    )(logits)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)
    wrong = np.array([0, 1, 2, 3])
    assert np.isnan(
        expected_iou_loss(logits=logits * 0 + 1, labels=wrong, ignore_label=255)
    )


@pytest.mark.parametrize("loss", [softmax_cross_entropy, expected_iou_loss])
def test_labels_of_eight_bits_do_not_wrap(loss):
    """Of 300 classes, nor where they are compared with what no byte can hold."""
    logits = RNG.normal(size=(7, 300)).astype(np.float32)
    labels = np.array([5, 0, 255, 44, 200, 43, 17])
    wide, narrow = (
        loss(logits=logits, labels=labels.astype(dtype), ignore_label=-1)
        for dtype in (np.int32, np.uint8)
    )
    np.testing.assert_array_equal(narrow, wide)
    few = logits[:, :10]
    assert np.isnan(
        loss(logits=few, labels=jnp.asarray(labels, jnp.uint8), ignore_label=-1)
    )


def test_impossible_labels_cost_nothing_where_they_are_not_the_truth():
    logits = np.array([[0, -np.inf], [1, 2]], np.float32)
    loss, gradient = jax.value_and_grad(
        lambda logits: softmax_cross_entropy(
            logits=logits, labels=np.array([0, 0]), ignore_label=255
        )
    )(logits)
    np.testing.assert_allclose(loss, np.log1p(np.e) / 2, rtol=1e-6)
    assert np.isfinite(gradient).all()
