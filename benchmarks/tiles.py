"""What tiles cost and how far they are from the whole image.

python benchmarks/tiles.py [--out FILE.json]
python benchmarks/tiles.py --megapixels 100 [--tile 1024] [--labels 3] [--folder DIR]

Errors: a made-up scene of 2 megapixels refined whole and in 16 tiles, with more and
more of overlap: the greatest and the mean difference of a marginal (of each pixel the
largest), and the share of pixels whose label is another one. Logits are of large
regions, with noise on them.

Memory: a made-up image of so many megapixels and its logits in files that are
memory-mapped, refined into a third. Seconds, and the most memory: the process's own,
and with the pages of the files, which the system may take back at any time.
"""

import argparse
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from inputs import make_scene, with_noise
from measuring import report

from crfrnn_jax import refine
from crfrnn_jax.tiles import plan_tiles

SIDE, LABELS, TILES = 1440, 5, 4  # so that overlaps come out as they are asked for
WIDTHS: tuple[dict[str, Any], ...] = (
    {"theta_alpha": 80.0, "theta_beta": 13.0, "theta_gamma": 3.0},
    {
        "theta_alpha": 160.0,
        "theta_beta": 3.0,
        "theta_gamma": 3.0,
        "bilateral_weight": 5.0,
        "normalisation": "after",
    },
)
ERRORS = ("widths", "overlap / theta_alpha", "tile", "greatest", "mean", "labels")
MEMORY = ("megapixels", "labels", "tile", "tiles", "s", "own (MiB)", "resident (MiB)")


def main() -> None:
    """A table of errors, or of time and memory."""
    parser = argparse.ArgumentParser(description="Tiles of large images.")
    parser.add_argument("--megapixels", type=float, help="measure memory, of so many")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--labels", type=int, default=3)
    parser.add_argument("--folder", help="where the files of the memory's run go")
    parser.add_argument("--out", help="where to write the figures as JSON")
    options = parser.parse_args()
    if options.megapixels is None:
        report("tiles", ERRORS, list(errors()), options.out)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        row = memory(Path(folder), options.megapixels, options.labels, options.tile)
    report("tiles", MEMORY, [row], options.out)


def errors() -> Iterator[tuple]:
    """A row for each overlap and pair of widths."""
    image = with_noise(make_scene(SIDE, SIDE), 1.2)
    logits = make_regions(SIDE, SIDE, LABELS)
    for widths in WIDTHS:
        theta_alpha = widths["theta_alpha"]
        name = "/".join(f"{widths[f'theta_{x}']:g}" for x in ("alpha", "beta", "gamma"))
        whole = refine(image, logits=logits, **widths)
        for part in (0, 0.5, 1, 2, 3):
            overlap = int(part * theta_alpha)
            tile = (SIDE - 2 * overlap) // TILES + 2 * overlap
            tiled = refine(image, logits=logits, **widths, tile=tile, overlap=overlap)
            differences = np.abs(tiled - whole).max(axis=-1)
            changed = (tiled.argmax(-1) != whole.argmax(-1)).mean()
            greatest, mean = float(differences.max()), float(differences.mean())
            yield name, part, tile, greatest, mean, float(changed)


def make_regions(height: int, width: int, labels: int, seed: int = 0) -> np.ndarray:
    """Logits of large regions, with noise of 8 pixels on them: [height, width, labels].

    The regions are where one of several scenes is brightest.
    """
    scenes = [make_scene(height, width, seed + 1 + i)[..., 0] for i in range(labels)]
    regions = np.argmax(scenes, axis=0)
    logits = 2 * (regions[..., None] == np.arange(labels)).astype(np.float32)
    sides = -(-height // 8), -(-width // 8), labels
    noise = np.random.default_rng(seed).normal(size=sides).astype(np.float32)
    return logits + noise.repeat(8, axis=0)[:height].repeat(8, axis=1)[:, :width]


def memory(folder: Path, megapixels: float, labels: int, tile: int) -> tuple:
    """A row of time and memory."""
    side = round((megapixels * 1e6) ** 0.5)
    image = write(folder / "image.npy", np.uint8, (side, side, 3), make_image)
    logits = write(folder / "logits.npy", np.float32, (side, side, labels), make_logits)
    shape = (side, side, labels)
    out = np.lib.format.open_memmap(folder / "out.npy", "w+", np.float32, shape)
    with OwnMemory() as own:
        started = time.perf_counter()
        refine(image, logits=logits, tile=tile, out=out)
        seconds = time.perf_counter() - started
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    count = len(plan_tiles((side, side), tile, 160))
    return side**2 / 1e6, labels, tile, count, seconds, own.most, resident


def write(
    path: Path,
    dtype: type,
    shape: tuple[int, int, int],
    make: Callable[[int, int, int], np.ndarray],
) -> np.ndarray:
    """A file of patches, none like another, that is then memory-mapped for reading."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    for seed, patch in enumerate(plan_tiles(shape[:2], 1000, 0)):
        array[patch.kept] = make(shape[-1], 1000, seed)[patch.inner]
    array.flush()
    return np.load(path, mmap_mode="r")


def make_image(channels: int, side: int, seed: int) -> np.ndarray:
    """A patch of an image."""
    return with_noise(make_scene(side, side, seed)[..., :channels], 1.2, seed)


def make_logits(labels: int, side: int, seed: int) -> np.ndarray:
    """A patch of logits."""
    return make_regions(side, side, labels, seed)


class OwnMemory:
    """The most memory of the process, in MiB, without pages of files.

    Attributes:
      most: so far.
    """

    def __init__(self):
        self.most = 0.0
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self._watch.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._watch.join()

    def _look(self):
        while not self._ended.wait(0.05):
            lines = Path("/proc/self/status").read_text().splitlines()
            kib = next(line for line in lines if line.startswith("RssAnon")).split()[1]
            self.most = max(self.most, int(kib) / 1024)


if __name__ == "__main__":
    main()
