"""The frozen experts that judge pictures (paper sections 3.2 and 3.3): reconstruction, identity, face parsing.

`Experts` builds each network once, restores it and owns what it wants to see: size, colour order, range. Which
networks these are stands in a table of specs: the released ones, or those of a world's JSON file.
"""

import os
from collections import namedtuple

import numpy as np

import config
from dnnlib.json_files import read_json
from dnnlib.tflib import checkpoints, images
from dnnlib.tflib.compat import tf
from dnnlib.tflib.runner import GraphRunner
from dnnlib.util import EasyDict, UserError, listed, shown
from perception import SMALL_SIZES, networks_id, networks_parser, networks_recon, networks_small
from renderer import camera, factors

# A kind of network. build(images [N, S, S, 3] in `order`, 0-255, **options), for parsers that want them with
# landmarks behind the images; scopes: of its variables; size: S, None where the spec must say it; averages: larger
# pictures are shrunk by area, else as TensorFlow 1 does it, by picking points.
Kind = namedtuple('Kind', 'expert build scopes size order wants_landmarks averages')

KINDS = {
    'R_Net': Kind('recon', networks_recon.R_Net, networks_recon.SCOPES, camera.RECON_SIZE, 'bgr', False, False),
    'Perceptual_Net': Kind('id', networks_id.Perceptual_Net, networks_id.SCOPES, camera.ID_SIZE, 'rgb', False, False),
    'Parsing': Kind('parser', networks_parser.Parsing, networks_parser.SCOPES, camera.RENDER_SIZE, 'rgb', True, False),
    'small_recon': Kind('recon', networks_small.small_recon, ('small_recon',), None, 'rgb', False, True),
    'small_id': Kind('id', networks_small.small_id, ('small_id',), None, 'rgb', False, True),
    'small_parser': Kind('parser', networks_small.small_parser, ('small_parser',), None, 'rgb', False, True),
}
EXPERTS = ('recon', 'id', 'parser')
STAGE_EXPERTS = {1: ('recon', 'id'), 2: EXPERTS}        # which experts a training stage needs
HAIR = networks_parser.HAIR
BACKGROUND = networks_small.BACKGROUND

_LINKED = 'linked in the README of https://github.com/microsoft/DiscoFaceGAN'
_RELEASED = {       # expert: network, weights below config.PRETRAINED_DIR, where they come from
    'recon': ('R_Net', ('recon_net', 'FaceReconModel'), 'the reconstruction network, ' + _LINKED),
    'id': ('Perceptual_Net', ('id_net', 'model-20170512-110547.ckpt-250000'),
           'model 20170512-110547 of https://github.com/davidsandberg/facenet, ' + _LINKED),
    'parser': ('Parsing', ('parsing_net', 'faceparser_public'), 'the face parser, ' + _LINKED),
}


def released_specs(folder=None):
    """The specs of the released networks; `folder` holds recon_net, id_net, parsing_net (config.PRETRAINED_DIR)."""
    folder = config.PRETRAINED_DIR if folder is None else folder
    return {expert: EasyDict(network=network, weights=os.path.join(folder, *weights), source=source)
            for expert, (network, weights, source) in _RELEASED.items()}


def load_specs(path):
    """Specs from a JSON file {"recon": {"network", "weights", "size", "width"}, "id": ..., "parser": ...}.

    `weights` is the path of a checkpoint without .index, relative to the JSON file. Other keys of the file, and an
    expert that is absent, are allowed. UserError on anything else.
    """
    content = read_json(path, f'a table of perception networks with the keys {", ".join(EXPERTS)}')
    return {name: _spec_from(path, name, content[name]) for name in EXPERTS if name in content}


def _spec_from(path, expert, entry):
    if not isinstance(entry, dict) or not isinstance(entry.get('weights', ''), str):
        raise UserError(f'{path}: {expert} must be a table such as {{"network": "R_Net", "weights": "file"}}')
    spec = EasyDict(entry)
    unknown = sorted(set(spec) - {'network', 'weights', 'size', 'width', 'source'})
    if unknown or 'weights' not in spec:
        raise UserError(f'{path}: {expert} must have the keys network and weights, may have size, width and '
                        + 'source; ' + (f'unknown: {listed(unknown)}' if unknown else 'weights is missing'))
    spec.weights = os.path.join(os.path.dirname(os.path.abspath(path)), spec.weights)
    spec.setdefault('source', f'it belongs to {os.path.basename(path)}')
    _kind(expert, spec)
    return spec


def _kind(expert, spec):
    """The Kind of a spec with its size filled in. UserError when the spec asks for what there is not."""
    choices = sorted(name for name, kind in KINDS.items() if kind.expert == expert)
    if spec.get('network') not in choices:
        raise UserError(f'perception network {shown(spec.get("network"))} for {expert}: expected '
                        + ' or '.join(choices))
    kind = KINDS[spec.network]
    if kind.size is None:
        size = spec.get('size')
        if size not in SMALL_SIZES:
            sizes = listed(SMALL_SIZES)
            raise UserError(f'{spec.network} with size {shown(size)}: one of {sizes} is expected')
        return kind._replace(size=size)
    if spec.get('size', kind.size) != kind.size or 'width' in spec:
        raise UserError(f'{spec.network} has the fixed size {kind.size} and no width; leave both out')
    return kind


def check_weights(specs, names):
    """One UserError that lists every missing weights file of the experts `names`, its place and its source."""
    absent = [name for name in names if name not in specs]
    if absent:
        raise UserError(f'no perception network is named for: {", ".join(absent)}')
    missing = [specs[name] for name in names if not checkpoints.exists(specs[name].weights)]
    if missing:
        lines = [f'weights of {len(missing)} perception network(s) are missing:']
        lines += [f'  {spec.weights}.index and .data-00000-of-00001: put them there; {spec.source}' for spec in missing]
        raise UserError(*lines)


def tells_background(specs):
    """Whether the parser of `specs` has a class of its own for the background."""
    return specs['parser'].network == 'small_parser'


class Experts:
    """The experts `names` ('recon', 'id', 'parser'), built on demand and shared by all towers of a graph.

    Pictures come as [N, 3, R, R] float32, RGB, [-1, 1], any R; they are mapped to 0-255, clipped, resized: for the
    released networks the way of TensorFlow 1, for small ones by averages where R is larger than what they see.
    Gradients reach the pictures; the networks' variables are not trainable. One object serves one graph.
    UserError when weights are missing.
    """

    def __init__(self, specs=None, names=STAGE_EXPERTS[1]):
        self.specs = released_specs() if specs is None else specs
        check_weights(self.specs, names)
        self.kinds = {name: _kind(name, self.specs[name]) for name in names}

    def reconstruct(self, images_nchw):
        """Reconstruction vectors [N, 257] of pictures, in the order of renderer/factors.py."""
        return self.apply('recon', self.network_input('recon', images_nchw))

    def identity(self, images_nchw, mask=None):
        """Identity embeddings [N, E] of pictures, not normalised. mask: [N, 1, R, R]; outside of it is black."""
        return self.apply('id', self.network_input('id', images_nchw, mask))

    def hair(self, images_nchw, landmarks_256):
        """How much each pixel is hair, [N, S, S] in [0, 1], S the parser's size.

        landmarks_256: [N, 68, 2], x right, y UP, in pixels of a 256 picture whatever R is. No gradient reaches them.
        """
        return self.parse(self.network_input('parser', images_nchw), landmarks_256)[..., HAIR]

    def regions(self, images_nchw, landmarks_256):
        """(colours [N, S, S, 3] RGB 0-1, {'hair', 'background': how much each pixel is it, [N, S, S] in [0, 1]}).

        The pictures as the parser sees them, and what it says, of the background where it `tells_background`;
        arguments as for `hair`.
        """
        x = self.network_input('parser', images_nchw)
        classes = self.parse(x, landmarks_256)
        found = {'hair': classes[..., HAIR]}
        if tells_background(self.specs):
            found['background'] = classes[..., BACKGROUND]
        return x / 255.0, found

    def parse(self, x, landmarks_256):
        """All classes of the parser, [N, S, S, 3 or 4], of its `network_input` x; landmarks_256 as for `hair`."""
        return self.apply('parser', x, *[landmarks_256] * self.kinds['parser'].wants_landmarks)

    def network_input(self, name, images_nchw, mask=None):
        """What expert `name` is shown: [N, S, S, 3], 0-255, in its colour order. The mask comes before the resize."""
        x = images.clip_255(images.to_255(images.nchw_to_nhwc(images_nchw)))
        if mask is not None:
            x = x * images.nchw_to_nhwc(mask)
        return self.resized(name, x)

    def resized(self, name, x_rgb255):
        """[N, H, W, 3] RGB, 0-255 -> the size and the colour order of expert `name`."""
        kind = self.kinds[name]
        if kind.order == 'bgr':
            x_rgb255 = images.swap_rgb_bgr(x_rgb255)
        return (_shrunk if kind.averages else images.resize)(x_rgb255, kind.size, kind.size)

    def apply(self, name, *inputs):
        """The output of expert `name` for its own kind of input (`network_input`, for some parsers landmarks)."""
        spec = self.specs[name]
        options = {'width': spec.width} if 'width' in spec else {}
        return self.kinds[name].build(*inputs, **options)

    def restore(self):
        """Load the weights of all experts into the default session. UserError when a checkpoint does not fit."""
        for name, kind in self.kinds.items():
            if not self._variables(kind):       # not asked for yet
                self._build_unused(name, kind)
            checkpoints.restore(self.specs[name].weights, self._variables(kind))

    def _build_unused(self, name, kind):
        inputs = [tf.zeros([1, kind.size, kind.size, 3])] + [tf.zeros([1, 68, 2])] * kind.wants_landmarks
        self.apply(name, *inputs)

    @staticmethod
    def _variables(kind):
        scopes = tuple(scope + '/' for scope in kind.scopes)
        return [v for v in tf.global_variables() if v.op.name.startswith(scopes)]


def _shrunk(x_nhwc, height, width):
    """Averages where the picture gets smaller, else as `resize`; the picture's size may be known at run time only."""
    rows, columns = x_nhwc.shape.as_list()[1:3]
    if rows is not None and columns is not None:
        return (images.shrink if rows > height else images.resize)(x_nhwc, height, width)
    smaller = tf.cond(tf.shape(x_nhwc)[1] > height, lambda: images.shrink(x_nhwc, height, width),
                      lambda: images.resize(x_nhwc, height, width))
    smaller.set_shape([None, height, width, x_nhwc.shape.as_list()[3]])
    return smaller


class Reconstructor(GraphRunner):
    """Coefficients of many photos outside training: a graph and a session of its own. Close it, or use it in `with`.

    specs: as for Experts. batch: photos per run of the network. precision: see tfutil.check_precision. UserError when
    weights are missing or do not fit.
    """

    def __init__(self, specs=None, batch=16, threads=None, precision='float32'):
        super().__init__(threads, precision)
        self.batch = batch
        with self.building():
            experts = Experts(specs, names=('recon',))
            self._photos = tf.placeholder(tf.uint8, [None, camera.RECON_SIZE, camera.RECON_SIZE, 3])
            rgb255 = images.swap_rgb_bgr(tf.cast(self._photos, tf.float32))
            self._coeff = experts.apply('recon', experts.resized('recon', rgb255))
            experts.restore()

    def __call__(self, photos_bgr):
        """[N, 224, 224, 3] uint8 BGR -> [N, 257] float32, any N; ValueError on another shape or type."""
        photos_bgr = np.asarray(photos_bgr)
        size = camera.RECON_SIZE
        if photos_bgr.dtype != np.uint8 or photos_bgr.shape[1:] != (size, size, 3):
            raise ValueError(f'photos: [N, {size}, {size}, 3] uint8 expected, {photos_bgr.dtype} '
                             f'{list(photos_bgr.shape)} given')
        if not len(photos_bgr):
            return np.zeros([0, factors.NUM_RECON], np.float32)
        return self.run(self._coeff, {self._photos: photos_bgr}, self.batch)
