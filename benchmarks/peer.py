"""pydensecrf at work, for crf.py: run by the interpreter that has it.

Reads one JSON object a line, {"image": FILE.npy, "logits": FILE.npy, "widths": [alpha,
beta, gamma], "num_iterations": N}, does the work once and answers with the seconds it
took, set-up included.
"""

import json
import sys
import time

import numpy as np
from pydensecrf.densecrf import DenseCRF2D


def main() -> None:
    """Answers requests until the input ends."""
    for line in sys.stdin:
        print(refine(**json.loads(line)), flush=True)


def refine(image: str, logits: str, widths: list[float], num_iterations: int) -> float:
    """Seconds of one refinement with the authors' weights and default settings."""
    pixels = np.ascontiguousarray(np.load(image))
    scores = np.load(logits)
    height, width, labels = scores.shape
    # An energy: the unary's constant per pixel does not matter.
    energy = np.ascontiguousarray(-scores.reshape(-1, labels).T, np.float32)
    alpha, beta, gamma = widths
    started = time.perf_counter()
    crf = DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(energy)
    crf.addPairwiseGaussian(sxy=gamma, compat=3)
    crf.addPairwiseBilateral(sxy=alpha, srgb=beta, rgbim=pixels, compat=5)
    crf.inference(num_iterations)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
