"""A generator as one file that other programs draw faces with: ONNX (for onnxruntime), or TensorFlow's SavedModel.

In go 254 coefficients (or 179 latents, with --input latents) and noise, out come pictures, uint8 RGB; truncation is
inside. What the numbers mean, and the names with their ranges, lie in the file as JSON: demo/draw_onnx.py uses it.
"""

import importlib.util
import os

from dnnlib import places
from dnnlib.util import UserError, one_line, run_main
from sampling import options

EXAMPLES = '''examples:
  python export_model.py --output faces.onnx                    coefficients, noise -> pictures
  python export_model.py --output random.onnx --input latents   normal random numbers -> pictures
  python export_model.py --output faces_saved                   both, as signatures of a SavedModel'''
INPUTS = ('coefficients', 'latents')
_TOOLS = ('tf2onnx', 'onnx', 'onnxruntime')
_FOLDER = {'saved_model.pb', 'assets.extra', 'variables'}       # what a SavedModel of ours may hold


def _parse():
    parser = options.Parser(description=__doc__, epilog=EXAMPLES,
                            formatter_class=options.argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--output', required=True, metavar='PATH', help='NAME.onnx; any other name: the folder of a '
                        'SavedModel')
    parser.add_argument('--input', choices=INPUTS, help='what goes into an .onnx; a SavedModel has both '
                        f'(default: {INPUTS[0]})')
    options.add_rate_option(parser)
    parser.add_argument('--noise-mode', choices=['const', 'none'], default='const', help='noise maps of the generator: '
                        'the stored ones, so that the same numbers give the same picture, or none (default: '
                        '%(default)s)')
    parser.add_argument('--overwrite', action='store_true', help='replace what was exported there before (default: '
                        'refused)')
    options.add_model_options(parser)
    args = parser.parse_args()
    args.onnx = args.output.lower().endswith('.onnx')
    if args.input and not args.onnx:
        parser.error('--input: a SavedModel has both; leave it out, or name an --output NAME.onnx')
    return args


def check_output(path: str, onnx: bool, overwrite: bool) -> None:
    """UserError when something is at `path` that may not be replaced."""
    if path and not os.path.lexists(path):      # '' is the folder where one stands
        return
    if not overwrite:
        raise UserError(f'--output {path}: is there already; choose another name, or replace it with --overwrite')
    if onnx and not os.path.isfile(path):
        raise UserError(f'--output {path}: is no file; choose another name')
    if not onnx and not (os.path.isdir(path) and set(os.listdir(path)) <= _FOLDER):
        raise UserError(f'--output {path}: is no SavedModel, or holds other things too; choose another name')


def check_tools() -> None:
    """UserError unless what ONNX needs is installed."""
    missing = [name for name in _TOOLS if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'--output NAME.onnx needs {", ".join(missing)}: pip install -e .[export] (Python 3.10 and '
                        'newer), or write a SavedModel: a name without .onnx')


def main():
    """Options -> sampling.export."""
    args = _parse()
    options.check_files(args)
    places.check_apart({f'--{name}': getattr(args, name) for name in ('model', 'vae_weights', 'average_w')},
                       {'--output': args.output})
    check_output(args.output, args.onnx, args.overwrite)
    if args.onnx:
        check_tools()
    from sampling import export, generator
    with generator.FaceGenerator(args.model, args.vae_weights, args.average_w, noise_mode=args.noise_mode) as faces:
        faces.load_all(args.rate)
        if args.onnx:
            kinds = [args.input or INPUTS[0]]
            off = export.write_onnx(faces, args.output, kinds[0], args.rate)
        else:
            kinds = INPUTS
            off = export.write_saved_model(faces, args.output, args.rate)
        _report(args, faces, kinds, off, export)


def _report(args, faces, kinds, off, export):
    print(one_line(args.output) + (':' if args.onnx else ', a SavedModel:'))
    for kind in kinds:
        name = '' if args.onnx else f'{export.SIGNATURES[kind]}: '
        print(f'  {name}{kind} [N, {export.SIZES[kind]}], noise [N, {faces.noise_dim}] -> pictures '
              f'[N, {faces.resolution}, {faces.resolution}, 3], uint8 RGB')
    print(f'  largest difference from our own pictures: {off} of 255 (allowed: {export.MOST_OFF})')


if __name__ == '__main__':
    run_main(main)
