"""Writes the files beside it: `python tests/weights/recorded/record.py`.

They were written by torch 2.13.0 and h5py 3.16, so that the readers meet PyTorch's and
HDF5's own bytes where those aren't installed. `recorded_values.py` says what they hold.
"""

import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from recorded_values import recorded_layers, recorded_tensors  # noqa: E402
from weight_files import write_keras  # noqa: E402


def state_dict():
    """The recorded tensors, as views, halves and parameters of torch."""
    values = {name: torch.from_numpy(v) for name, v in recorded_tensors().items()}
    shared = torch.cat([values["shared.first"].ravel(), values["shared.rest"].ravel()])
    count = values["shared.first"].numel()
    module = torch.nn.Conv2d(1, 1, 1)  # for a state dict with its versions
    made = module.state_dict()
    made.clear()
    made["parameter"] = torch.nn.Parameter(values["parameter"])
    made["half"] = values["half"].half()
    made["bfloat16"] = values["bfloat16"].bfloat16()
    made["double"] = values["double"]
    made["long"] = values["long"]
    made["turned"] = values["turned"].permute(2, 0, 1).contiguous().permute(1, 2, 0)
    made["shared.first"] = shared[:count].view(values["shared.first"].shape)
    made["shared.rest"] = shared[count:]
    made["scalar"] = values["scalar"]
    made["empty"] = values["empty"]
    return made


def record():
    """Writes all files."""
    plain = state_dict()
    prefixed = {f"module.{name}": value for name, value in plain.items()}
    checkpoint = {"epoch": 3, "best": 0.5, "note": "x", "model_state_dict": plain}
    torch.save(plain, HERE / "zip.pth")
    torch.save(plain, HERE / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(prefixed, HERE / "module.pth")
    torch.save(checkpoint, HERE / "checkpoint.pth")
    torch.save(plain, HERE / "protocol4.pth", pickle_protocol=4)
    write_keras(HERE / "keras1.h5", recorded_layers(), old=True)
    write_keras(HERE / "keras2.h5", recorded_layers(), top="model_weights")


if __name__ == "__main__":
    record()
