"""Which files a measurement uses: world, model, experts, reals; opened from options, with one clear error each."""

import os

from dnnlib.util import UserError
from metrics.judges import ExpertFeatures, InceptionFeatures, Judge
from metrics.reals import Reals, world_of
from metrics.sources import GeneratorSource, PhotoSource, RenderSource
from perception import experts
from preprocess import detect
from sampling import pretrained
from worlds import parts
from worlds.agree import one_world


class Inputs:
    """Everything that options name, by path; nothing large is loaded before it is asked for. options: an Options."""

    def __init__(self, options):
        self._options = options
        own = options.vae_weights, options.face_model, options.experts
        if options.source == 'photos' and options.world == 'real':
            raise UserError('--source photos: the real world draws no photos; use --source renders')
        if options.source == 'generator' or options.model:
            self._model = pretrained.find_model(options.model, options.vae_weights)
            self.world = parts.of_model(self._model, *own, name=options.world)
        else:
            self._model, self.world = None, parts.World(options.world or _default_world(options), *own)
        parts.check_part('recon', options.recon, self.world.name)
        self.specs = self.world.expert_specs()
        judge = _judge_specs(options.recon) if options.recon else {}
        self.specs, self._independent = dict(self.specs, **judge), 'id' in judge
        self._face_model = None

    def check(self, needs):
        """UserError when a file that these needs ask for is not there."""
        if 'groups' in needs:
            experts.check_weights(self.specs, experts.EXPERTS if 'hair' in needs else ('recon', 'id'))
            self.face_model()
        if 'detector' in needs:
            detect.check_installed()
        if 'reals' in needs and self._options.data_dir:
            data_dir = self._options.data_dir
            one_world({f'--data_dir {data_dir}': world_of(data_dir), 'the model': self.world.name})
        if 'features' in needs and not self._options.inception:
            experts.check_weights(self.specs, ('id',))

    def face_model(self):
        """The world's FaceModel."""
        if self._face_model is None:
            self._face_model = self.world.face_model()
        return self._face_model

    def open_source(self):
        """The source of pictures that --source names."""
        options = self._options
        if options.source == 'generator':
            return GeneratorSource(self._model, self.world.vae_weights, options.average_w)
        kind = RenderSource if options.source == 'renders' else PhotoSource
        return kind(self.world, options.resolution or self.world.resolution, None)

    def open_photos(self, resolution):
        """The source of the world's own photos."""
        return PhotoSource(self.world, resolution, None)

    def open_judge(self, with_parser):
        """Experts, with or without the parser, and face model."""
        return Judge(self.specs, self.face_model(), with_parser)

    def open_features(self):
        """The feature network: Inception where the user has it, else the identity expert."""
        return InceptionFeatures(self._options.inception) if self._options.inception else ExpertFeatures(
            self.specs, self._independent)

    def open_reals(self, resolution):
        """The real pictures that the user names, at this resolution."""
        return Reals(self._options.data_dir, resolution, self._options.num)

    def describe(self, features):
        """What a result says of the world it was measured in."""
        facts = dict(world=self.world.name, vae_weights=self.world.vae_weights)
        if not features:
            facts['experts'] = {name: self.specs[name].weights for name in experts.EXPERTS if name in self.specs}
        return facts


def _default_world(options):
    return 'human' if options.source == 'photos' else 'real'


def _judge_specs(path):
    """Specs of networks in the world's place: those of a folder or table as human.experts writes it, a
    reconstruction network at least; or of a checkpoint of R_Net.
    """
    if os.path.isfile(path + '.index'):
        return {'recon': dict(experts.released_specs()['recon'], weights=path)}
    if not os.path.exists(path):
        raise UserError(f'--recon {path}: not there; expected a folder with {parts.EXPERTS_TABLE}, a .json table, or '
                        'a checkpoint of R_Net (path without .index)')
    specs = experts.load_specs(parts.experts_table(path))
    if 'recon' not in specs:
        raise UserError(f'--recon {path}: its table names no reconstruction network ("recon")')
    return specs
