"""The default config, shrunk."""

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from configs import shapes


def make_tiny_config(data_dir):
    """The default config, shrunk: the same stages in a few steps of tiny scenes."""
    config = shapes.get_config()
    config.data.update(num_train=12, num_val=4, size=32, dir=str(data_dir))
    config.model.update(widths=(8, 8, 16), blocks=(0, 0, 1), num_skips=2)
    config.crf.update(num_iterations=2, method="exact")
    config.log_every = 1
    for name, steps in (("fcn", 4), ("plain", 2), ("end_to_end", 4)):
        config[name].update(
            steps=steps,
            batch_size=2,
            crop=(32, 32),
            warmup_steps=1,
            checkpoint_every=2,
            eval_every=100,
        )
    config.eval.update(num_iterations=2, validation_images=2, panels=1)
    config.postprocessing.train_images = 2
    return config


def make_folder_config(folder, data_dir):
    """The same on four photographs in a folder, and its first stage alone."""
    config = make_tiny_config(data_dir)
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 1)):
        for kind, shape in (("images", (32, 32, 3)), ("labels", (32, 32))):
            (folder / split / kind).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 2, shape).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / kind / f"photo {i}.png")
    names = {"class_names": ("a", "b"), "ignore_label": 255}
    config.data = ConfigDict(dict(name="folder", dir=str(folder), **names))
    config.stages = ("fcn",)
    return config
