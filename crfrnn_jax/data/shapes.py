"""The synthetic scenes as a TFDS data set, drawn once and kept on disk.

Works without TensorFlow: images are handed over as PNG bytes, stored in array_record
files and read back as a random-access source. Nothing is ever downloaded.
"""

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from crfrnn_jax.checks import InputError, check_at_least
from crfrnn_jax.data.dataset import NotPreparedError
from crfrnn_jax.data.scenes import CLASS_NAMES, make_scene


@dataclasses.dataclass(eq=False, kw_only=True)
class ShapesConfig(tfds.core.BuilderConfig):
    """Which scenes to draw; different settings live in different folders.

    Attributes:
      num_train: scenes to train on.
      num_val: scenes to validate on.
      size: side of a scene in pixels.
      seed: scene i of a split depends on the seed, the split and i alone.

    Raises:
      ValueError: a number is not an integer, or too small.
    """

    name: str = dataclasses.field(init=False)
    num_train: int
    num_val: int
    size: int
    seed: int

    def __post_init__(self):
        least = {"num_train": 1, "num_val": 1, "size": 32, "seed": 0}
        for field, lowest in least.items():
            check_at_least(f"config.data.{field}", getattr(self, field), lowest)
        self.name = f"{self.num_train}_{self.num_val}_{self.size}px_seed{self.seed}"


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Builder of the scenes; pass it `config`, `data_dir` and `file_format`."""

    # A change to the scenes needs a new version: prepared ones are never redrawn.
    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        png = tfds.features.Image
        return tfds.core.DatasetInfo(
            builder=self,
            description="Objects on cluttered backgrounds, told by shape.",
            features=tfds.features.FeaturesDict(
                {
                    "image": png(shape=(None, None, 3), encoding_format="png"),
                    "label": png(shape=(None, None, 1), encoding_format="png"),
                }
            ),
            metadata=tfds.core.MetadataDict(class_names=list(CLASS_NAMES)),
            disable_shuffling=True,  # item i of the source is scene i
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        config: Any = self.builder_config
        return {
            "train": self._generate_examples(0, config.num_train),
            "val": self._generate_examples(1, config.num_val),
        }

    def _generate_examples(
        self, split: int, count: int
    ) -> Iterator[tuple[int, dict[str, bytes]]]:
        config: Any = self.builder_config
        for i in range(count):
            rng = np.random.default_rng([config.seed, split, i])
            image, label = make_scene(rng, config.size)
            yield i, {"image": _png(image), "label": _png(label)}


class ShapesSource:
    """One split of the prepared scenes, as `Source` describes it."""

    def __init__(self, records: Any, split: str):
        self._records = records
        self._split = split

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self._records[index]
        return {
            "image": record["image"],
            "label": record["label"][..., 0].astype(np.int32),
            "name": f"{self._split}_{index:06d}",
        }


def prepare_shapes(
    config: ShapesConfig, data_dir: str | os.PathLike[str], make: bool = True
) -> dict[str, ShapesSource]:
    """Draws and stores the scenes unless that was done before, and opens them.

    Args:
      config: which scenes.
      data_dir: folder of all prepared data sets.
      make: whether to draw them if they are not there.

    Returns:
      The sources "train" and "val".

    Raises:
      NotPreparedError: they are not there, and not to be drawn.
      ValueError: what is stored is damaged; the message names the folder to remove.
    """
    options = {"config": config, "data_dir": data_dir, "file_format": "array_record"}
    # TFDS writes beside the final folder and renames at the end, so that a run which
    # was stopped half-way leaves nothing that would be taken for whole. The folder
    # exists by then if another run drew the same scenes at the same time.
    if make:
        with contextlib.suppress(FileExistsError):
            Shapes(**options).download_and_prepare()
    builder: Any = Shapes(**options)
    if not make and not Path(builder.data_dir).is_dir():
        raise NotPreparedError(f"{builder.data_dir}: expected drawn scenes, got none")
    try:
        sources = {
            split: ShapesSource(builder.as_data_source(split), split)
            for split in ("train", "val")
        }
        for source in sources.values():
            source[len(source) - 1]  # a cut-off file fails here, not during training
    except (KeyError, OSError, RuntimeError) as error:
        raise InputError(
            f"{builder.data_dir}: expected prepared scenes, got: {error}; remove the "
            "folder to have them drawn again"
        ) from error
    return sources


def _png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="png")
    return buffer.getvalue()
