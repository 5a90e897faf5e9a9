"""The general mean field against a float64 loop over labels, of any points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import softmax
from test_kernels import dense_kernel

from crfrnn_jax import (
    CRFParams,
    GaussianKernel,
    InputError,
    bilateral_kernel,
    crf_rnn,
    mean_field,
    mean_field_trajectory,
    mean_field_until,
    spatial_kernel,
)

RNG = np.random.default_rng(0)
LABELS, POINTS = 3, 20
LOGITS = RNG.normal(size=(POINTS, LABELS)).astype(np.float32)
MATRIX = RNG.normal(size=(LABELS, LABELS)).astype(np.float32)
COMPATIBILITY = RNG.normal(size=(LABELS, LABELS)).astype(np.float32)
# One kernel of each normalisation, form of weights and kind of widths.
KERNELS = [
    GaussianKernel(
        RNG.normal(size=(POINTS, d)).astype(np.float32),
        widths,
        weights=weights,
        normalisation=normalisation,
        method="exact",
    )
    for d, widths, weights, normalisation in (
        (1, 0.5, 0.7, "none"),
        (2, np.array([0.8, 2.0], np.float32), MATRIX[0], "before"),
        (5, 1.5, MATRIX, "after"),
        (3, 1.0, 2.0, "symmetric"),
    )
]


def as_matrix(form):
    form = np.asarray(form, np.float64)
    return form if form.ndim == 2 else np.eye(LABELS) * form


def reference(logits, kernels, compatibility, num_iterations, damping=0.0):
    """Logits of all iterations, one sender and receiver after another."""
    unary = np.asarray(logits, np.float64)
    current, kept = unary, [unary]
    matrices = [
        dense_kernel(kernel.features, kernel.widths, kernel.normalisation)
        for kernel in kernels
    ]
    for _ in range(num_iterations):
        marginals = softmax(current)
        weighted = np.zeros_like(unary)
        for kernel, matrix in zip(kernels, matrices, strict=True):
            weights = as_matrix(kernel.weights)
            for to in range(LABELS):
                for sender in range(LABELS):
                    weighted[:, to] += (
                        weights[to, sender] * matrix @ marginals[:, sender]
                    )
        updated = unary - weighted @ as_matrix(compatibility).T
        current = damping * current + (1 - damping) * updated
        kept.append(current)
    return np.stack(kept)


@pytest.mark.parametrize("compatibility", [-1.0, MATRIX[1], COMPATIBILITY])
@pytest.mark.parametrize("damping", [0.0, 0.4])
def test_any_kernels_and_compatibility_are_the_references(compatibility, damping):
    options = {"compatibility": compatibility, "damping": damping}
    truth = reference(LOGITS, KERNELS, num_iterations=5, **options)
    trajectory = mean_field_trajectory(LOGITS, KERNELS, **options)
    assert np.abs(truth[-1] - truth[0]).max() > 0.5
    np.testing.assert_allclose(trajectory, truth, atol=2e-4)
    last = mean_field(LOGITS, KERNELS, **options)
    np.testing.assert_allclose(last, trajectory[-1], atol=1e-5)


def test_crf_rnn_is_the_case_of_two_kernels():
    image = RNG.uniform(0, 255, (4, 5, 3)).astype(np.float32)
    logits = LOGITS.reshape(4, 5, LABELS)
    params = CRFParams(MATRIX, MATRIX.T.copy(), COMPATIBILITY)
    kernels = [
        spatial_kernel((4, 5), 2.3, weights=params.spatial_weights),
        bilateral_kernel(image, 4.7, 60.0, weights=params.bilateral_weights),
    ]
    general = mean_field(logits, kernels, compatibility=params.compatibility)
    widths = {"theta_alpha": 4.7, "theta_beta": 60.0, "theta_gamma": 2.3}
    np.testing.assert_allclose(
        general, crf_rnn(image, logits, params, **widths), atol=1e-5
    )


@pytest.mark.parametrize("shape", [(20,), (4, 5), (2, 5, 2)])
def test_points_lie_in_any_shape(shape):
    """A signal, an image, a volume with voxels of other sizes along each axis."""
    spacing = np.arange(1, 1 + len(shape), dtype=np.float32)
    image = RNG.uniform(0, 255, (*shape, 2)).astype(np.float32)
    kernels = [
        spatial_kernel(shape, 2.0, spacing=spacing, method="separable"),
        bilateral_kernel(
            image, 4.0, 50.0, dims=len(shape), spacing=spacing, method="exact"
        ),
    ]
    places = np.argwhere(np.ones(shape)) * spacing
    loose = [
        GaussianKernel(places, 2.0, weights=3.0),
        GaussianKernel(
            np.concatenate([places / 4, image.reshape(20, 2) / 50], 1), weights=5.0
        ),
    ]
    refined = mean_field(LOGITS.reshape(*shape, LABELS), kernels)
    truth = reference(LOGITS, loose, -1.0, 5)[-1]
    np.testing.assert_allclose(refined.reshape(POINTS, LABELS), truth, atol=1e-4)


def test_iterations_may_have_their_own_weights():
    own = RNG.normal(size=(4, LABELS, LABELS)).astype(np.float32)
    kernels = [
        GaussianKernel(KERNELS[2].features, 1.5, weights=own, method="exact"),
        KERNELS[3],
    ]
    refined = mean_field(LOGITS, kernels, num_iterations=4)
    current = np.asarray(LOGITS, np.float64)
    matrices = [dense_kernel(k.features, k.widths, k.normalisation) for k in kernels]
    for weights in own:
        marginals = softmax(current)
        messages = matrices[0] @ marginals @ weights.T + matrices[1] @ marginals * 2
        current = LOGITS + messages
    np.testing.assert_allclose(refined, current, atol=2e-4)


def masked_case():
    mask = RNG.uniform(size=POINTS) < 0.6
    return mask, [
        GaussianKernel(
            np.where(mask[:, None], kernel.features, np.nan).astype(np.float32),
            kernel.widths,
            weights=kernel.weights,
            normalisation=kernel.normalisation,
            method="exact",
        )
        for kernel in KERNELS
    ]


def test_masked_points_change_nothing_in_value_and_gradient():
    mask, kernels = masked_case()
    alone = [
        GaussianKernel(
            kernel.features[mask],
            kernel.widths,
            weights=kernel.weights,
            normalisation=kernel.normalisation,
            method="exact",
        )
        for kernel in KERNELS
    ]
    logits = np.where(mask[:, None], LOGITS, np.nan).astype(np.float32)

    def loss(logits, kernels, compatibility, mask=None):
        refined = mean_field(logits, kernels, compatibility=compatibility, mask=mask)
        valid = refined if mask is None else jnp.where(mask[:, None], refined, 0)
        return jnp.sum(jnp.sin(valid)), refined

    gradient = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))
    of_all, refined = gradient(logits, kernels, COMPATIBILITY, mask)
    truth, of_valid = gradient(LOGITS[mask], alone, COMPATIBILITY)
    np.testing.assert_allclose(refined[mask], of_valid, atol=1e-4)
    np.testing.assert_array_equal(refined[~mask], logits[~mask])
    for ours, theirs in zip(
        jax.tree.leaves(of_all), jax.tree.leaves(truth), strict=True
    ):
        if ours.shape != theirs.shape:
            np.testing.assert_array_equal(ours[~mask], 0)
            ours = ours[mask]
        scale = np.abs(theirs).max()
        assert scale > 1e-3
        np.testing.assert_allclose(ours, theirs, atol=2e-4 * scale)


@pytest.mark.parametrize("damping", [np.float32(0), 0.5])
def test_impossible_labels_stay_so_with_any_damping(damping):
    logits = LOGITS.copy()
    logits[3, 1] = -np.inf

    def loss(damping):
        refined = mean_field(logits, KERNELS, damping=damping)
        return jnp.sum(jnp.delete(refined, 3, axis=0)), refined

    (_, refined), gradient = jax.value_and_grad(loss, has_aux=True)(
        jnp.asarray(damping)
    )
    assert refined[3, 1] == -np.inf
    assert np.isfinite(np.delete(refined.ravel(), 3 * LABELS + 1)).all()
    assert np.isfinite(gradient)


def test_inference_stops_when_nothing_changes():
    kernels = [KERNELS[3]]
    result = mean_field_until(LOGITS, kernels, tolerance=1e-4, max_iterations=200)
    trajectory = reference(LOGITS, kernels, -1.0, 60)
    changes = np.abs(np.diff(softmax(trajectory), axis=0)).max((1, 2))
    first = int(np.argmax(changes <= 1e-4)) + 1
    assert 3 < first < 60
    assert abs(int(result.num_iterations) - first) <= 1
    assert result.change <= 1e-4
    expected = trajectory[int(result.num_iterations)]
    np.testing.assert_allclose(result.logits, expected, atol=1e-4)


def test_inference_stops_at_its_bound_and_says_so():
    result = mean_field_until(LOGITS, KERNELS, tolerance=1e-12, max_iterations=3)
    assert result.num_iterations == 3
    assert result.change > 1e-12
    np.testing.assert_allclose(
        result.logits, mean_field(LOGITS, KERNELS, num_iterations=3), atol=1e-5
    )
    none = mean_field_until(LOGITS, KERNELS, max_iterations=0)
    assert (none.num_iterations, none.change) == (0, np.inf)
    np.testing.assert_array_equal(none.logits, LOGITS)


def test_masked_points_do_not_delay_the_stop():
    mask, kernels = masked_case()
    logits = np.where(mask[:, None], LOGITS, np.nan).astype(np.float32)
    result = mean_field_until(logits, kernels[3:], mask=mask, damping=0.2)
    assert result.change <= 1e-3
    np.testing.assert_array_equal(result.logits[~mask], logits[~mask])


def test_a_batch_is_a_loop_over_its_items():
    def one(logits, features):
        return mean_field(logits, [GaussianKernel(features, method="exact")])

    logits = np.stack([LOGITS, LOGITS[::-1]])
    features = np.stack([KERNELS[3].features, 2 * KERNELS[3].features])
    mapped = jax.lax.map(lambda item: one(*item), (logits, features))
    vmapped = jax.vmap(one)(logits, features)
    for i in range(2):
        alone = one(logits[i], features[i])
        np.testing.assert_allclose(mapped[i], alone, atol=1e-5)
        np.testing.assert_allclose(vmapped[i], alone, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_single(dtype):
    half = jnp.asarray(LOGITS, dtype)
    refined = mean_field(half, KERNELS)
    assert refined.dtype == jnp.float32
    whole = mean_field(half.astype(jnp.float32), KERNELS)
    np.testing.assert_array_equal(refined, whole)


def test_double_precision_stays():
    with jax.enable_x64(True):
        logits = jnp.asarray(LOGITS, jnp.float64)
        refined = mean_field(logits, KERNELS, compatibility=COMPATIBILITY)
        assert refined.dtype == jnp.float64
    truth = reference(LOGITS, KERNELS, COMPATIBILITY, 5)[-1]
    np.testing.assert_allclose(refined, truth, rtol=1e-9, atol=1e-9)


WRONG_SIZE = GaussianKernel(np.ones((POINTS - 1, 2), np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"logits": LOGITS[0]},
            r"logits: expected shape \[\*shape, labels\].*got \[3\]",
        ),
        ({"logits": LOGITS[:0]}, r"logits: .*none of them 0, got \[0, 3\]"),
        ({"logits": np.ones((4, 3), int)}, "logits: expected floating-point values"),
        ({"logits": "image.png"}, "logits: expected an array, got str"),
        ({"kernels": []}, r"kernels: expected a list of one or more .*got \[\]"),
        ({"kernels": KERNELS[0]}, "kernels: expected a list .*got GaussianKernel"),
        ({"kernels": [LOGITS]}, r"kernels\[0\]: expected GaussianKernel, got ndarray"),
        (
            {"kernels": [KERNELS[0], WRONG_SIZE]},
            r"kernels\[1\]\.features: expected as many points .*20, got 19",
        ),
        (
            {"kernels": [GaussianKernel(LOGITS, weights=np.ones(4))]},
            r"kernels\[0\]\.weights: expected one of the shapes .*got \(4,\)",
        ),
        (
            {"logits": LOGITS.reshape(4, 5, 3), "kernels": [spatial_kernel((5, 4))]},
            r"kernels\[0\]\.grid: expected the logits' \[4, 5\], got \[5, 4\]",
        ),
        (
            {
                "logits": LOGITS.reshape(4, 5, 3),
                "kernels": [bilateral_kernel(np.ones((5, 4, 1)))],
            },
            r"kernels\[0\]\.grid: expected the logits' \[4, 5\], got \[5, 4\]",
        ),
        ({"compatibility": np.ones((2, 2))}, r"compatibility: .*got \(2, 2\)"),
        ({"compatibility": np.ones((4, 3, 3))}, r"compatibility: .*got \(4, 3, 3\)"),
        ({"compatibility": "potts"}, "compatibility: expected an array, got str"),
        ({"mask": np.ones(POINTS)}, "mask: expected True and False"),
        ({"mask": np.ones(3, bool)}, r"mask: expected shape \[axis0=20\], got \[3\]"),
        ({"num_iterations": -1}, "num_iterations: expected at least 0, got -1"),
        ({"damping": 1.0}, "damping: expected at least 0 and below 1, got 1.0"),
        ({"damping": -0.1}, "damping: expected at least 0 and below 1, got -0.1"),
        ({"damping": np.ones(2)}, "damping: expected one number, got an array"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    arguments = {"logits": LOGITS, "kernels": KERNELS} | changes
    for function in (mean_field, mean_field_trajectory):
        with pytest.raises(InputError, match=message):
            function(**arguments)
    arguments.pop("num_iterations", None)
    if "num_iterations" not in changes:
        with pytest.raises(InputError, match=message):
            mean_field_until(**arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tolerance": 0.0}, "tolerance: expected a positive finite number, got 0.0"),
        ({"max_iterations": 2.5}, "max_iterations: expected an integer, got 2.5"),
        # Their number is not known.
        (
            {"compatibility": np.ones((5, LABELS, LABELS))},
            r"compatibility: .*got \(5, 3, 3\)",
        ),
    ],
)
def test_bad_stops_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        mean_field_until(LOGITS, KERNELS, **changes)
