"""The input pipeline alone, in images a second by threads, beside the step's need.

python benchmarks/pipeline.py [--config FILE] [--stage NAME] [--threads 1 2 4 8]

The images are JPEGs of 500 x 366 with PNG masks, made for the purpose, and go through
the config's crops and changes. The step is that of the config's stage, compiled and
warm, on one batch that lies on the device: the images a second that it could take.
"""

import argparse
import importlib.util
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from inputs import HEIGHT, WIDTH, add_noise, make_logits, make_scene
from measuring import report
from PIL import Image

from crfrnn_jax.data import SegmentationData, train_batches
from crfrnn_jax.data.folder import open_folder
from crfrnn_jax.models import build_segmenter
from crfrnn_jax.training.initial import fresh_params
from crfrnn_jax.training.mesh import make_mesh, put_batch, put_state
from crfrnn_jax.training.optimizers import make_optimizer
from crfrnn_jax.training.steps import init_state, make_train_step

HEADER = ("what", "images a second", "of the step's need")
IGNORE_LABEL, LABELS, IMAGES = 255, 11, 64


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description="The input pipeline alone.")
    parser.add_argument("--config", default="configs/camvid.py")
    parser.add_argument("--stage", default="end_to_end")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each row")
    parser.add_argument("--out", help="where to write the figures as JSON")
    options = parser.parse_args()
    config = _load(options.config)
    stage = config[options.stage]
    with tempfile.TemporaryDirectory() as directory:
        data = _make_data(Path(directory))
        batch = _time_batches(config, stage, data, threads=4, seconds=0.0)[1]
        need = stage.batch_size / _time_step(config, stage, data, batch)
        rows = [(f"the step of {options.stage}", need, 1.0)]
        for threads in options.threads:
            rate, _ = _time_batches(config, stage, data, threads, options.seconds)
            rows.append((f"the pipeline, {threads} threads", rate, rate / need))
    report("pipeline", HEADER, rows, options.out)


def _load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("config", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def _make_data(folder: Path) -> SegmentationData:
    """A folder of photographs' size and labels in patches."""
    scene = add_noise(make_scene(HEIGHT, WIDTH), 80_000)
    for split, count in (("train", IMAGES), ("val", 1)):
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True)
        for i in range(count):
            image = Image.fromarray(np.roll(scene, 7 * i, axis=1))
            image.save(folder / split / "images" / f"{i}.jpg", quality=92)
            labels = make_logits(HEIGHT, WIDTH, LABELS, seed=i).argmax(-1)
            mask = Image.fromarray(labels.astype(np.uint8))
            mask.save(folder / split / "labels" / f"{i}.png")
    sources = open_folder(folder, LABELS, IGNORE_LABEL)
    return SegmentationData(tuple(map(str, range(LABELS))), IGNORE_LABEL, sources)


def _time_batches(
    config: Any, stage: Any, data: SegmentationData, threads: int, seconds: float
) -> tuple[float, dict[str, np.ndarray]]:
    """Images a second, of batches that are taken as fast as they come; and one."""
    batches = train_batches(
        data,
        batch_size=stage.batch_size,
        crop=stage.crop,
        augment=config.augment,
        seed=0,
        canvas=config.canvas,
        num_threads=threads,
    )
    batch = next(batches)
    for _ in range(16):  # more than what is read ahead
        batch = next(batches)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        batch = next(batches)
        count += stage.batch_size
    rate = count / max(time.perf_counter() - started, 1e-9)
    batches.close()
    return rate, batch


def _time_step(
    config: Any, stage: Any, data: SegmentationData, batch: dict[str, np.ndarray]
) -> float:
    """Seconds of one step, the median of seven."""
    mesh, model = make_mesh(config.mesh), build_segmenter(config, data.num_labels)
    optimizer = make_optimizer(stage)
    step = make_train_step(
        model,
        optimizer,
        mesh=mesh,
        use_crf=stage.use_crf,
        ignore_label=data.ignore_label,
        class_weights=None,
        reduction=stage.reduction,
        robustness=stage.robustness,
        micro_batches=stage.micro_batches,
    )
    params = fresh_params(model, jax.random.key(0))
    state = put_state(mesh, init_state(params, optimizer, jax.random.key(0)))
    given = put_batch(mesh, {k: v for k, v in batch.items() if k != "name"})
    seconds = []
    for _ in range(8):
        started = time.perf_counter()
        state, scalars = step(state, given)
        jax.block_until_ready((state, scalars))
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[1:]))


if __name__ == "__main__":
    main()
