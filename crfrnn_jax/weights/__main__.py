"""`python -m crfrnn_jax.weights convert FILE OUT`: published weights into ours."""

import argparse
import sys

from crfrnn_jax.checks import InputError
from crfrnn_jax.weights.convert import Conversion, convert_file
from crfrnn_jax.weights.layouts import LAYOUTS
from crfrnn_jax.writing import print_any_name


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
      arguments: what follows the program's name; `sys.argv`'s unless given.

    Returns:
      The exit status: 0, or 1 if a file is not as it should be.
    """
    options = _parser().parse_args(arguments)
    print_any_name()
    try:
        conversion = convert_file(
            options.file, options.out, layout=options.layout, force=options.force
        )
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(_report(options.file, options.out, conversion))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m crfrnn_jax.weights")
    commands = parser.add_subparsers(required=True, metavar="convert")
    convert = commands.add_parser(
        "convert", help="a published .pth, .h5, .caffemodel or .npz into our .npz"
    )
    convert.add_argument("file", metavar="FILE", help="the published file")
    convert.add_argument("out", metavar="OUT", help="the file to write, an .npz")
    convert.add_argument(
        "--layout",
        choices=sorted(LAYOUTS),
        help="what FILE is, where it can't be told from its tensors' names",
    )
    convert.add_argument("--force", action="store_true", help="replace OUT")
    return parser


def _report(source: str, out: str, conversion: Conversion) -> str:
    tensors = conversion.tensors
    lines = [
        f"{source}: {conversion.layout.name} ({conversion.layout.title})",
        f"{len(tensors)} tensors, {sum(a.size for a in tensors.values()):,} parameters",
    ]
    twins = [k.name for k in LAYOUTS.values() if k.twin == conversion.layout.name]
    if conversion.labels is not None:
        lines.append(f"labels: {conversion.labels}")
    if conversion.dropped:
        lines.append(f"dropped: {', '.join(conversion.dropped)}")
    if conversion.zeros:
        lines.append(f"zeros, as the file has none: {', '.join(conversion.zeros)}")
    if twins:
        lines.append(f"if its values are those of {twins[0]}: --layout {twins[0]}")
    return "\n".join([*lines, f"written: {out}"])


if __name__ == "__main__":
    sys.exit(main())
