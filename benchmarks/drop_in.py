"""What users of pydensecrf would call instead, beside it: from numpy to numpy, warm.

python benchmarks/drop_in.py [--image FILE] [--peer PYTHON] [--out FILE.json]

PYTHON as for crf.py, with whose works and weights this is measured.
"""

from functools import partial

import numpy as np
from crf import WORKS, Work, make_inputs, parse_options, peer_timer
from measuring import interleaved_medians, report, time_once

from crfrnn_jax import refine
from crfrnn_jax.pydensecrf.densecrf import DenseCRF2D

HEADER = ("work", "stand-in (ms)", "refine (ms)", "peer (ms)")
RATIOS = ("stand-in / peer", "refine / peer")


def main() -> None:
    """Times all rows in turns: the stand-in, `refine` and the peer."""
    options = parse_options("The stand-in beside pydensecrf.")
    images, logits = make_inputs(options.image)
    # As the peer has it, which makes it before its time as well.
    energy = np.ascontiguousarray(-logits.reshape(-1, logits.shape[-1]).T)
    works = [work for work in WORKS if not work.backward]
    with peer_timer(options.peer, images, logits) as peer:
        timers = {}
        for work in works:
            image = images[work.image]
            stood_in = partial(stand_in, work, image, energy)
            timers[work, "stand-in"] = partial(time_once, stood_in)
            in_one_call = partial(refined, work, image, logits)
            timers[work, "refine"] = partial(time_once, in_one_call)
            if peer:
                timers[work, "peer"] = partial(peer, work)
        medians = interleaved_medians(timers, options.repeats)
    rows = []
    for work in works:
        ours = [medians[work, "stand-in"], medians[work, "refine"]]
        row = [work.name, *(1e3 * seconds for seconds in ours)]
        if options.peer:
            theirs = medians[work, "peer"]
            row += [1e3 * theirs, *(seconds / theirs for seconds in ours)]
        rows.append(row)
    header = HEADER + RATIOS if options.peer else HEADER[:-1]
    report("drop_in", header, rows, options.out)


def stand_in(work: Work, image: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """The lines of `peer.refine`, but for their import."""
    height, width, _ = image.shape
    alpha, beta, gamma = work.widths
    crf = DenseCRF2D(width, height, len(energy))
    crf.setUnaryEnergy(energy)
    crf.addPairwiseGaussian(sxy=gamma, compat=3)
    crf.addPairwiseBilateral(sxy=alpha, srgb=beta, rgbim=image, compat=5)
    return crf.inference(work.num_iterations)


def refined(work: Work, image: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """The same by `refine`."""
    theta_alpha, theta_beta, theta_gamma = work.widths
    return refine(
        image,
        logits=logits,
        theta_alpha=theta_alpha,
        theta_beta=theta_beta,
        theta_gamma=theta_gamma,
        bilateral_weight=5.0,
        spatial_weight=3.0,
        num_iterations=work.num_iterations,
    )


if __name__ == "__main__":
    main()
