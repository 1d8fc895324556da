"""What looks at pictures: the experts and the face model for what a face shows, feature networks for distributions."""

import os
from typing import Any, Dict, Sequence

import numpy as np

import config
from dnnlib.hashes import files_digest
from dnnlib.tflib import checkpoints, images
from dnnlib.tflib.compat import tf
from dnnlib.tflib.runner import GraphRunner
from dnnlib.util import UserError
from perception import experts
from renderer import camera, factors
from renderer.face_renderer import FaceRenderer

INCEPTION_INPUT, INCEPTION_OUTPUT = 'ExpandDims', 'pool_3'      # nodes of the public graph
_HALF = 0.5             # of a pixel: from there on it counts as hair, or as background


class Judge(GraphRunner):
    """Experts and face model in a graph of their own: what pictures show, and what they should show. Close it.

    specs: of perception.experts. model: FaceModel. with_parser: hair and background too.
    facts: what decides the answers. background: what the parser counts as such.
    UserError when weights are missing or do not fit.
    """

    def __init__(self, specs, model, with_parser, threads=None):
        super().__init__(threads)
        self.names = experts.EXPERTS if with_parser else ('recon', 'id')
        self.facts = expert_facts(specs, self.names)
        with self.building():
            frozen = experts.Experts(specs, self.names)
            self._faces = FaceRenderer(model)
            self._pictures = tf.placeholder(tf.float32, [None, None, None, 3])
            self._masks = tf.placeholder(tf.float32, [None, None, None, 1])
            pictures_nchw = images.nhwc_to_nchw(images.from_255(self._pictures))
            self._seen = self._build(frozen, pictures_nchw)
            masked = frozen.identity(pictures_nchw, images.nhwc_to_nchw(self._masks))
            self._masked = tf.nn.l2_normalize(masked, axis=1)
            self._coeff = tf.placeholder(tf.float32, [None, factors.NUM_COEFFS])
            self._resolution = tf.placeholder(tf.int32, [])
            self._render = self._faces.render(self._coeff, self._resolution)
            frozen.restore()

    def _build(self, frozen, pictures_nchw):
        seen = {'estimate': frozen.reconstruct(pictures_nchw)}
        seen['landmarks'] = landmarks = self._faces.landmarks_224(seen['estimate'])
        seen['embedding'] = tf.nn.l2_normalize(frozen.identity(pictures_nchw), axis=1)
        if 'parser' in self.names:
            seen['parsed'] = shown = frozen.network_input('parser', pictures_nchw)
            classes = frozen.parse(shown, landmarks * (camera.RENDER_SIZE / camera.RECON_SIZE))
            told = experts.tells_background(frozen.specs)
            self.background = 'what is behind the person' if told else 'this parser does not tell it'
            seen['hair'] = hair = classes[..., experts.HAIR] > _HALF
            seen['background'] = classes[..., experts.BACKGROUND] > _HALF if told else tf.zeros_like(hair)
        return seen

    def look(self, pictures: np.ndarray, batch: int = 8) -> Dict[str, np.ndarray]:
        """What the experts see in pictures [N, R, R, 3] RGB, 0-255 -> {name: array}.

        estimate [N, 257]: reconstruction vectors. landmarks [N, 68, 2]: theirs, pixels of a 224 picture, y UP.
        embedding [N, E]: identity, unit length. With the parser hair and background [N, S, S]: bool, and parsed
        [N, S, S, 3]: the pictures as it sees them, RGB, 0-255.
        """
        return self.run(self._seen, {self._pictures: pictures}, batch)

    def faces(self, pictures: np.ndarray, masks: np.ndarray, batch: int = 8) -> np.ndarray:
        """Embeddings [N, E], unit length, of pictures [N, r, r, 3], 0-255, where masks [N, r, r, 1] are 1; else black.
        """
        return self.run(self._masked, {self._pictures: pictures, self._masks: masks}, batch)

    def renders(self, coeff: np.ndarray, resolution: int, batch: int = 8) -> Any:
        """Renders of lambda [N, 254] -> (image [N, r, r, 3] 0-255, mask [N, r, r, 1], landmarks [N, 68, 2]), float32.

        landmarks: pixels of a 224 picture that shows the same as the render, y UP.
        """
        image, mask, landmarks = self.run(list(self._render), {self._coeff: coeff}, batch,
                                          same={self._resolution: resolution})
        return image, mask, landmarks * np.float32(camera.RECON_SIZE / camera.RENDER_SIZE)


class ExpertFeatures(GraphRunner):
    """Features of pictures from the identity expert: its embedding scaled to the length sqrt(size), so that numbers
    are about 1 and the kernel distance's a.b/D is a cosine. independent: whether it is a judge's own. Close it.
    """

    def __init__(self, specs, independent=False, threads=None):
        super().__init__(threads)
        folder = os.path.relpath(os.path.dirname(os.path.abspath(specs['id'].weights)), config.ROOT)
        with self.building():
            frozen = experts.Experts(specs, ('id',))
            self._pictures = tf.placeholder(tf.float32, [None, None, None, 3])
            embedding = frozen.apply('id', frozen.resized('id', images.clip_255(self._pictures)))
            self.size = embedding.shape.as_list()[1]
            self._features = tf.nn.l2_normalize(embedding, axis=1) * self.size ** 0.5
            frozen.restore()
        trained = 'of no generator\'s training' if independent else 'a generator may have been trained against it'
        self.title = (f'perception network {specs["id"].network}, {self.size} numbers scaled to length '
                      f'sqrt({self.size}), of {folder}, {trained} (not Inception: not comparable with published '
                      'values)')
        self.facts = dict(expert_facts(specs, ('id',)), scaled_to='sqrt(size)')

    def __call__(self, pictures, batch=8):
        """Pictures [N, H, W, 3] RGB, 0-255, any size and number type -> float32 [N, size]."""
        return self.run(self._features, {self._pictures: pictures}, batch)


class InceptionFeatures(ExpertFeatures):
    """Features from the public frozen Inception graph, classify_image_graph_def.pb: its pool_3, 2048 numbers.

    The graph resizes pictures to 299 pixels itself (TensorFlow 1's bilinear) and maps 0-255 to its own range.
    UserError when the file is not that graph.
    """

    def __init__(self, path, threads=None):
        GraphRunner.__init__(self, threads)
        with self.building():
            definition = _read_graph(path)
            self._pictures = tf.placeholder(tf.float32, [None, None, None, 3])
            try:
                output, = tf.import_graph_def(definition, {INCEPTION_INPUT + ':0': self._pictures},
                                              [INCEPTION_OUTPUT + ':0'], name='inception')
            except ValueError as error:
                raise UserError(f'--inception {path}: cannot be built: {" ".join(str(error).split())[:200]}')
            channels = output.shape.as_list()[-1] if output.shape.ndims == 4 else None
            if channels is None:
                raise UserError(f'--inception {path}: its {INCEPTION_OUTPUT} has shape {output.shape}; expected '
                                '[N, 1, 1, 2048]')
            self._features = tf.reshape(output, [-1, channels])
        self.size = channels
        self.title = f'Inception {os.path.basename(path)}, {INCEPTION_OUTPUT}, {channels} numbers'
        self.facts = dict(inception=files_digest([path]))


def _read_graph(path):
    try:
        with open(path, 'rb') as file:
            definition = tf.GraphDef.FromString(file.read())
    except OSError as error:
        raise UserError(f'--inception {path}: cannot be read ({error.strerror}); expected classify_image_graph_def.pb')
    except Exception as error:      # protobuf's DecodeError has another home in every version
        raise UserError(f'--inception {path}: not a frozen graph ({error}); expected classify_image_graph_def.pb')
    names = {node.name for node in definition.node}
    missing = [name for name in (INCEPTION_INPUT, INCEPTION_OUTPUT) if name not in names]
    if missing:
        raise UserError(f'--inception {path}: a graph without {" and ".join(missing)}; expected '
                        'classify_image_graph_def.pb of the archive inception-2015-12-05.tgz')
    # Some nodes hold the shape of one picture; without that note shapes are worked out anew.
    for node in definition.node:
        node.attr.pop('_output_shapes', None)
    return tf.graph_util.extract_sub_graph(definition, [INCEPTION_OUTPUT])


def expert_facts(specs: Dict[str, Any], names: Sequence[str]) -> Dict[str, Any]:
    """What decides the answers of experts: network, options, contents of the weights."""
    return {name: dict({key: specs[name].get(key) for key in ('network', 'size', 'width')},
                       weights=files_digest(checkpoints.data_files(specs[name].weights))) for name in names}
