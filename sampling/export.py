"""A generator as one file that needs none of this code: ONNX, or TensorFlow's SavedModel.

Two functions: (coefficients [N, 254], noise [N, noise_dim]) or (latents [N, 179], noise) -> pictures, uint8 RGB
[N, H, W, 3], any N, truncation inside. What is written is read again and compared with the FaceGenerator's pictures.
"""

import contextlib
import gc
import json
import os
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import numpy as np

from dnnlib.tflib.compat import tf
from dnnlib.util import UserError, atomic_path
from renderer import factors
from sampling.controls import ANGLES
from sampling.options import RATE
from worlds import label

SIZES = {'coefficients': factors.NUM_COEFFS, 'latents': factors.NUM_LATENTS}
SIGNATURES = {'coefficients': 'serving_default', 'latents': 'latents'}      # of a SavedModel
LAYOUT = 'layout'           # what the numbers mean, as JSON: in ONNX metadata, in assets.extra/layout.json
MOST_OFF = 1                # levels of 255 by which pictures may differ: sums of another order round to the next level
_CHECKED = 8                # faces whose pictures are compared
_OPSET = 15
_HOW = 'to give a control the value v: x = coefficients[index]; x += (v - x.vector / vector.vector) * vector'

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]        # (coefficients or latents, noise) -> pictures


class _Ends(NamedTuple):
    """Where one function begins and ends in a graph: names of tensors."""

    inputs: Dict[str, str]
    pictures: str


def write_onnx(faces: Any, path: str, kind: str = 'coefficients', rate: float = RATE) -> int:
    """Write one function of a FaceGenerator as .onnx -> the largest difference of its pictures, in levels of 255.

    faces: in float32, its noise mode not 'random'. kind: 'coefficients' or 'latents', its first input. An older file is
    replaced. Needs TensorFlow 2.x, tf2onnx and onnxruntime.
    UserError, and no file, when pictures differ by more than MOST_OFF.
    """
    import onnx
    import onnxruntime
    frozen, ends = _freeze(faces, [kind], rate, 'NCHW')        # ONNX knows no other convolution
    model = _to_onnx(frozen, ends[kind])
    onnx.helper.set_model_props(model, {LAYOUT: json.dumps(layout(faces, rate))})
    with atomic_path(path) as temporary:
        onnx.save(model, temporary)
        session = onnxruntime.InferenceSession(temporary, providers=['CPUExecutionProvider'])

        def run(first, noise):
            return session.run(['pictures'], {kind: first, 'noise': noise})[0]
        return _check(run, faces, kind, rate, path)


def _to_onnx(frozen, ends):
    import tf2onnx
    names = {tensor: name for name, tensor in list(ends.inputs.items()) + [('pictures', ends.pictures)]}
    tf2onnx.logging.set_level(tf2onnx.logging.ERROR)
    with _tidy():
        return tf2onnx.convert.from_graph_def(frozen, input_names=list(ends.inputs.values()), opset=_OPSET,
                                              output_names=[ends.pictures], tensors_to_rename=names)[0]


@contextlib.contextmanager
def _tidy():
    """Collect garbage often: each of tf2onnx's steps leaves a copy of the whole model in circles of references."""
    usual = gc.get_threshold()
    gc.freeze()                         # what is there already need not be walked each time
    gc.set_threshold(usual[0], 1, 1)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


def write_saved_model(faces: Any, path: str, rate: float = RATE) -> int:
    """As `write_onnx`, both functions as signatures of one SavedModel: 'serving_default' takes coefficients, 'latents'
    latents. An older folder is replaced as a whole. Both TensorFlow lines.
    """
    frozen, ends = _freeze(faces, list(SIZES), rate, 'NHWC')
    with atomic_path(path, directory=True) as temporary:
        _save(frozen, ends, temporary)
        extra = os.path.join(temporary, 'assets.extra')
        os.mkdir(extra)
        with open(os.path.join(extra, LAYOUT + '.json'), 'w', encoding='utf-8') as file:
            json.dump(layout(faces, rate), file)
        return max(_check_saved(temporary, faces, kind, rate, path) for kind in SIZES)


def _save(frozen, ends, folder):
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        tf.import_graph_def(frozen, name='')

        def info(tensor):
            return tf.saved_model.build_tensor_info(graph.get_tensor_by_name(tensor))

        signatures = {}
        for kind, end in ends.items():
            inputs = {name: info(tensor) for name, tensor in end.inputs.items()}
            signatures[SIGNATURES[kind]] = tf.saved_model.build_signature_def(
                inputs, {'pictures': info(end.pictures)}, tf.saved_model.PREDICT_METHOD_NAME)
        builder = tf.saved_model.Builder(folder)
        builder.add_meta_graph_and_variables(session, [tf.saved_model.SERVING], signatures)
        builder.save()


def _check_saved(folder, faces, kind, rate, path):
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        signature = tf.saved_model.load(session, [tf.saved_model.SERVING], folder).signature_def[SIGNATURES[kind]]

        def run(first, noise):
            feed = {signature.inputs[kind].name: first, signature.inputs['noise'].name: noise}
            return session.run(signature.outputs['pictures'].name, feed)
        return _check(run, faces, kind, rate, path)


# ---- the graph

def _freeze(faces, kinds, rate, data_format):
    """(GraphDef without variables, {kind: _Ends}) of functions that begin with these kinds of input."""
    ends = {kind: _build(faces, kind, rate, data_format) for kind in kinds}
    outputs = [end.pictures.split(':')[0] for end in ends.values()]
    with faces.active():
        frozen = tf.graph_util.convert_variables_to_constants(faces.session, faces.graph.as_graph_def(), outputs)
    return frozen, ends


def _build(faces, kind, rate, data_format):
    with faces.active(), tf.name_scope(f'export_{kind}'):
        first = tf.placeholder(tf.float32, [None, SIZES[kind]], name=kind)
        noise = tf.placeholder(tf.float32, [None, faces.noise_dim], name='noise')
        coeffs = first if kind == 'coefficients' else faces.decode_tensor(first)
        pictures = faces.portable_images(tf.concat([coeffs, noise], axis=1), rate, data_format)
        return _Ends({kind: first.name, 'noise': noise.name}, pictures.name)


# ---- what is said and checked

def layout(faces: Any, rate: float = RATE) -> Dict[str, Any]:
    """What the numbers of an exported file mean, for JSON: sizes, parts, the mean face, named values with ranges."""
    def spans(of):
        return {factor.word: [of(factor).start, of(factor).stop] for factor in factors.FACTORS}

    made_of = faces.identify()
    return {
        'model': os.path.basename(faces.path), 'made_of': made_of, 'world': label.read_model(faces.path)['world'],
        'rate': rate, 'noise_mode': made_of.get('noise_mode', 'const'),
        'coefficients': {'size': SIZES['coefficients'], 'parts': spans(lambda factor: factor.coeffs),
                         'mean': _short(faces.mean_face().coeffs[:factors.NUM_COEFFS])},
        'latents': {'size': SIZES['latents'], 'parts': spans(lambda factor: factor.latents),
                    'about': 'independent normal numbers'},
        'noise': {'size': faces.noise_dim, 'about': 'independent normal numbers, or zeros'},
        'pictures': {'shape': [None, faces.resolution, faces.resolution, 3], 'about': 'uint8 RGB'},
        'controls': {direction.name: _control(direction) for direction in faces.controls.all()}, 'how': _HOW}


def _control(direction):
    where = np.nonzero(direction.vector)[0]
    about = {'index': where.tolist(), 'vector': _short(direction.vector[where]),
             'low': _short([direction.low])[0], 'high': _short([direction.high])[0]}
    return dict(about, unit='radians') if direction.name in ANGLES else about


def _short(values: Sequence[float]) -> List[float]:
    return [float(f'{value:.6g}') for value in values]


def _check(run: Run, faces: Any, kind: str, rate: float, path: str) -> int:
    """Largest difference between pictures of `run` and of the FaceGenerator. UserError above MOST_OFF."""
    people = faces.random_faces(_CHECKED, seed=0)
    wanted = faces.images(people, rate)
    first = np.stack([face.latents if kind == 'latents' else face.coeffs[:factors.NUM_COEFFS] for face in people])
    noise = np.stack([face.noise for face in people])
    found = np.concatenate([run(first[:-1], noise[:-1]), run(first[-1:], noise[-1:])])      # batches of two sizes
    off = int(np.abs(found.astype(int) - wanted.astype(int)).max())
    if off > MOST_OFF:
        raise UserError(f'{path}: its pictures differ from our own by up to {off} of 255, more than {MOST_OFF}: it was '
                        'not kept; the model may be untrained, else try another version of what reads or writes it')
    return off
