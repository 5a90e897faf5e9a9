"""Slow references in float64 NumPy and plain Python, written apart from the package.

The lattice is that of Adams, Baek and Davis (2010) with the scales of Krähenbühl and
Koltun (2011): loops over points, and a dictionary of integer vertices. The mean field
follows the paper's algorithm 1 with the signs and normalisation of its authors' code.
"""

import math

import numpy as np


def embed_point(feature):
    """Vertices (d + 1 integer tuples, by remainder) and weights of one point."""
    d = len(feature)
    elevated = [0.0] * (d + 1)
    above = 0.0
    for i in range(d, 0, -1):
        scaled = float(feature[i - 1])
        scaled *= math.sqrt(2 / 3) * (d + 1) / math.sqrt(i * (i + 1))
        elevated[i] = above - i * scaled
        above += scaled
    elevated[0] = above

    nearest = []
    for value in elevated:
        up = math.ceil(value / (d + 1)) * (d + 1)
        down = math.floor(value / (d + 1)) * (d + 1)
        nearest.append(up if up - value < value - down else down)

    rank = [0] * (d + 1)
    for i in range(d + 1):
        for j in range(i + 1, d + 1):
            lower = elevated[i] - nearest[i] < elevated[j] - nearest[j]
            rank[i if lower else j] += 1

    excess = sum(nearest) // (d + 1)
    for i in range(d + 1):
        rank[i] += excess
        if rank[i] < 0:
            rank[i] += d + 1
            nearest[i] += d + 1
        elif rank[i] > d:
            rank[i] -= d + 1
            nearest[i] -= d + 1

    weights = [0.0] * (d + 2)
    for i in range(d + 1):
        share = (elevated[i] - nearest[i]) / (d + 1)
        weights[d - rank[i]] += share
        weights[d - rank[i] + 1] -= share
    weights[0] += 1 + weights.pop()

    vertices = [
        tuple(
            nearest[i] + (k if rank[i] <= d - k else k - (d + 1)) for i in range(d + 1)
        )
        for k in range(d + 1)
    ]
    return vertices, weights


def step(vertex, axis, sign):
    """The next vertex along an axis: d on its own coordinate, -1 on the others."""
    d = len(vertex) - 1
    return tuple(x + sign * (d if i == axis else -1) for i, x in enumerate(vertex))


class DictLattice:
    """A permutohedral lattice whose vertices are the keys of a dictionary.

    Attributes:
      number: the number of each vertex, by its integer coordinates.
      ids: [points, d + 1], the vertices of each point, by remainder.
      weights: [points, d + 1], their weights.
      neighbours: [d + 1 (axes), 2 (one step on, one back), vertices]; -1 for none.
    """

    def __init__(self, features):
        features = np.asarray(features, np.float64)
        self.d = features.shape[1]
        self.number = {}
        ids, weights = [], []
        for feature in features.tolist():
            vertices, barycentric = embed_point(feature)
            ids.append([self.number.setdefault(v, len(self.number)) for v in vertices])
            weights.append(barycentric)
        self.ids, self.weights = np.array(ids), np.array(weights)
        self.neighbours = np.array(
            [
                [
                    [self.number.get(step(v, axis, sign), -1) for v in self.number]
                    for sign in (1, -1)
                ]
                for axis in range(self.d + 1)
            ]
        )

    def filter(self, values, reverse=False):
        """Splat, blur along every axis (last to first if `reverse`) and slice."""
        values = np.asarray(values, np.float64)
        vertices = np.zeros((len(self.number), values.shape[1]))
        for k in range(self.d + 1):
            np.add.at(vertices, self.ids[:, k], self.weights[:, k, None] * values)
        for on, back in self.neighbours[:: -1 if reverse else 1]:
            padded = np.concatenate([vertices, np.zeros((1, values.shape[1]))])
            vertices = vertices / 2 + (padded[on] + padded[back]) / 4
        corners = self.weights[:, :, None] * vertices[self.ids]
        return corners.sum(axis=1) / (1 + 2.0**-self.d)


def dense_filter(features, values):
    """The Gaussian kernel as one dense matrix."""
    features = np.asarray(features, np.float64)
    difference = features[:, None] - features[None]
    return np.exp(-0.5 * (difference**2).sum(-1)) @ np.asarray(values, np.float64)


def pixel_features(image, theta_alpha, theta_beta, theta_gamma, dtype=np.float32):
    """Spatial [points, 2] and bilateral [points, 2 + channels] features.

    In the precision of the layer: a lattice has a vertex or not, and so is not
    continuous in its features.
    """
    image = np.asarray(image).astype(dtype)
    spatial, bilateral = [], []
    for y, row in enumerate(image):
        for x, pixel in enumerate(row):
            place = np.array([x, y], dtype)
            spatial.append(place / dtype(theta_gamma))
            bilateral.append(
                [*(place / dtype(theta_alpha)), *(pixel / dtype(theta_beta))]
            )
    return np.array(spatial, dtype), np.array(bilateral, dtype)


def softmax(logits):
    """Softmax over the last axis."""
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def mean_field(logits, params, filters, num_iterations, normalise=softmax):
    """Mean-field inference, a label at a time, of logits [points, labels].

    Args:
      params: spatial weights, bilateral weights and compatibility, [labels, labels],
        or as many of each as there are iterations.
      filters: the spatial and the bilateral filter, not normalised.
      normalise: what makes marginals of logits.
    """
    unary = np.asarray(logits, np.float64)
    params = [np.asarray(p, np.float64) for p in params]
    params = [np.broadcast_to(p, (num_iterations, *p.shape[-2:])) for p in params]
    labels = range(unary.shape[1])
    norms = [kernel(np.ones((len(unary), 1))) + 1e-20 for kernel in filters]
    current = unary
    for *weights, compatibility in zip(*params, strict=True):
        marginals = normalise(current)
        messages = np.zeros_like(unary)
        for weight, kernel, norm in zip(weights, filters, norms, strict=True):
            filtered = kernel(marginals) / norm
            for to in labels:
                for sender in labels:
                    messages[:, to] += weight[to, sender] * filtered[:, sender]
        current = unary.copy()
        for to in labels:
            for sender in labels:
                current[:, to] -= compatibility[to, sender] * messages[:, sender]
    return current


def crf(
    image,
    logits,
    params,
    thetas,
    num_iterations,
    method,
    dtype=np.float32,
    normalise=softmax,
):
    """The whole layer on one image [height, width, channels]."""
    features = pixel_features(image, *thetas, dtype=dtype)
    if method == "lattice":
        filters = [DictLattice(f).filter for f in features]
    else:
        filters = [lambda values, f=f: dense_filter(f, values) for f in features]
    logits = np.asarray(logits)
    flat = logits.reshape(-1, logits.shape[-1])
    refined = mean_field(flat, params, filters, num_iterations, normalise)
    return refined.reshape(logits.shape)


def central_difference(function, argument, direction, step):
    """Derivative of a scalar function along a direction, second order in the step."""
    argument, direction = np.asarray(argument), np.asarray(direction)
    ahead = float(function(argument + step * direction))
    behind = float(function(argument - step * direction))
    return (ahead - behind) / (2 * step)
