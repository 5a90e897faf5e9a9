"""Records what pydensecrf computes, for test_pydensecrf.py to compare with.

Run by an interpreter that has pydensecrf2 1.1 (docs/performance.md says how to make
one), from the repository's root:

    PEER/bin/python tests/record_pydensecrf.py tests/recorded/pydensecrf.npz
"""

import sys

import numpy as np
import pydensecrf.densecrf as dcrf
from pydensecrf import utils
from pydensecrf_cases import COMPATIBILITIES, NORMALISATIONS, case, results

if __name__ == "__main__":
    recorded = {}
    for normalisation in NORMALISATIONS:
        for form in COMPATIBILITIES:
            for name, value in results(dcrf, utils, normalisation, form).items():
                recorded[f"{normalisation}/{form}/{name}"] = value
    for name, value in case(utils).items():
        recorded[f"utils/{name}"] = value
    np.savez_compressed(sys.argv[1], **recorded)
