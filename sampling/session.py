"""What the page (app.py) does, without the page: a face's state, moved value by value, and its pictures.

    with Session() as session:
        state = session.set(session.new_person(None, seed=3), 'yaw', 0.4)
        drawn = session.draw(state)                     # what was asked, what came
"""

import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np

from dnnlib import pictures
from dnnlib.tflib.compat import tf
from dnnlib.tflib.runner import GraphRunner
from dnnlib.util import UserError
from perception import experts
from preprocess import alignment, conventions, landmarks, picture_files
from renderer import factors
from renderer.face_renderer import FaceRenderer
from sampling import controls, editing, health, inversion
from sampling.faces import part_name
from sampling.generator import FaceGenerator
from sampling.options import RATE, STEPS, W_ID
from worlds import parts

NUMBERED = 10                   # components of a part that are offered where the world names none
MOST_COLUMNS = 9                # of a strip
MOST_PIXELS = 24 * 10 ** 6      # of a photo: larger ones take the memory of everybody's page
_STEPS_OF_A_SLIDER = 100        # at least


class Slider(NamedTuple):
    """A named value: what `set` takes, where it stands on the page, its limits and the step between them."""

    name: str
    group: str
    low: float
    high: float
    step: float

    def shown(self, value: float) -> float:
        """A value as the slider can show it."""
        steps = round((min(max(value, self.low), self.high) - self.low) / self.step)
        return round(self.low + steps * self.step, 6)


class State(NamedTuple):
    """What one visitor sees. A new one is made of it for each change.

    face: Face. seed: of its noise vector. rate: of truncation. note: a line about it. inversion, photo: of a photo
    that was found in the generator, uint8 [R, R, 3]; None of a person who was drawn.
    """

    face: Any
    seed: int
    rate: float = RATE
    note: str = ''
    inversion: Any = None
    photo: Any = None


class Drawn(NamedTuple):
    """Pictures of a State, uint8 [R, R, 3] RGB: what was asked (None: no face model is here), what came."""

    render: Optional[np.ndarray]
    picture: np.ndarray


class Session:
    """A generator that stays open, the renderer of its world, and the values that its faces have.

    model, vae_weights, average_w: as for FaceGenerator. Attributes: faces; world (its name); sliders [Slider];
    no_render: why there are no renders, '' where there are. UserError where model or VAEs cannot be used.
    Use as a context manager, or call `close`. One caller at a time; one `embed` may run beside them.
    """

    def __init__(self, model: Optional[str] = None, vae_weights: Optional[str] = None,
                 average_w: Optional[str] = None) -> None:
        self.faces = FaceGenerator(model, vae_weights, average_w)
        self._renderer: Optional[_Renderer] = None
        self._inverter: Optional[inversion.Inverter] = None
        self._directions: Dict[str, controls.Direction] = {}
        try:
            self.faces.load_all()
            self._world = parts.of_model(self.faces.path)
            self.world, self.no_render = self._world.name, ''
            self.sliders = self._find_sliders()
            try:
                self._renderer = _Renderer(self._world.face_model(), self.faces.resolution)
            except UserError as error:
                self.no_render = str(error)
        except BaseException:
            self.close()
            raise

    def _find_sliders(self) -> List[Slider]:
        names = [(name, 'Pose') for name in controls.ANGLES] + [(name, 'Light') for name in controls.LIGHT_NAMES]
        named = [(name, part_name(entry[0]).capitalize()) for name, entry in self._world.names().items()]
        if not named:
            named = [(f'{part}[{i}]', group) for part, group in (
                ('expression', 'Expression'), ('shape', 'Identity'), ('texture', 'Identity')) for i in range(NUMBERED)]
        return [self._slider(name, group) for name, group in names + sorted(named, key=lambda item: item[1])]

    def _slider(self, name, group):
        direction = self._directions[name] = self.faces.controls.find(name)
        step = 10.0 ** math.floor(math.log10(max(direction.high - direction.low, 1e-3) / _STEPS_OF_A_SLIDER))
        low = math.ceil(direction.low / step - 1e-6) * step
        high = math.floor(direction.high / step + 1e-6) * step
        return Slider(name, group, round(low, 6), round(high, 6), step)

    # ---- changes: State -> State

    def new_person(self, state: Optional[State], seed: int) -> State:
        """Another identity and other noise, of this seed; expression, lighting and pose stay. state None: the first."""
        old = state.face if state else self.faces.mean_face()
        face = old.transfer(self.faces.random_face(_checked_seed(seed)), 'identity')
        rate = state.rate if state else RATE
        return self.with_seed(State(face, seed, rate, f'person {seed}'), seed)

    def new_part(self, state: State, part: str, seed: int) -> State:
        """Another 'expression', 'lighting' or 'pose', of this seed; all else stays."""
        return state._replace(face=state.face.transfer(self.faces.random_face(_checked_seed(seed)), part),
                              note=f'{part} {seed}')

    def straight(self, state: State) -> State:
        """The head turned to the camera."""
        face = state.face.copy()
        face.pose = 0
        return state._replace(face=face, note='straight')

    def with_seed(self, state: State, seed: int) -> State:
        """Another noise vector: what the face model does not describe, such as hair. A photo keeps its own."""
        face = state.face.copy()
        if state.inversion is None:
            face.noise = np.random.RandomState(_checked_seed(seed)).standard_normal(self.faces.noise_dim)
        return state._replace(face=face, seed=int(seed))

    def with_rate(self, state: State, rate: float) -> State:
        """Another truncation, 0 to 1. UserError for what is not."""
        if not 0 <= rate <= 1:
            raise UserError('truncation: a number from 0 to 1 was expected')
        return state._replace(rate=float(rate))

    def set(self, state: State, name: str, value: float) -> State:
        """A named value, moved to the edge of what training saw where it lies beyond. UserError: an unknown name."""
        return state._replace(face=state.face.changed([self._change(name, value)]))

    def _change(self, name, value):
        direction = self._directions.get(name) or self.faces.controls.find(name)
        if not isinstance(value, (int, float)) or not np.isfinite(value):
            raise UserError(f'{name}: a number was expected')
        return direction, min(max(float(value), direction.low), direction.high)

    # ---- what they look like

    def values(self, state: State) -> Dict[str, float]:
        """{name: value} of all sliders, as they can show it."""
        return {slider.name: slider.shown(float(self._directions[slider.name].value(state.face.coeffs)))
                for slider in self.sliders}

    def draw(self, state: State) -> Drawn:
        """Both pictures. UserError when the generator's holds NaN or infinity."""
        return Drawn(self._renders([state.face])[0] if self._renderer else None, self._pictures(state, [state.face])[0])

    def _renders(self, faces):
        return self._renderer(np.stack([face.coeffs[:factors.NUM_COEFFS] for face in faces]))

    def _pictures(self, state, faces):
        """Pictures of the state with other faces in it: of its person, or of its photo edited."""
        if state.inversion is None:
            drawn, finite = self.faces.images_and_health(faces, state.rate)
        else:
            edits = [editing.Edit(state.inversion, face) for face in faces]
            drawn, finite = editing.PhotoEditor(self.faces).images_and_health(edits)
        if not finite.all():
            raise UserError('the picture holds NaN or infinity: the model is broken')
        return drawn

    def strip(self, state: State, name: str, first: float, last: float, count: int) -> np.ndarray:
        """A labelled sheet, uint8 [H, W, 3]: what came above what was asked, a column for each of `count` values."""
        if not 2 <= count <= MOST_COLUMNS:
            raise UserError(f'a strip has 2 to {MOST_COLUMNS} columns')
        changes = [self._change(name, value) for value in np.linspace(first, last, int(count))]
        faces = [state.face.changed([change]) for change in changes]
        rows = [self._pictures(state, faces)] + ([self._renders(faces)] if self._renderer else [])
        tiles = np.concatenate(rows)
        tiles = pictures.enlarge(tiles, pictures.natural_scale(self.faces.resolution), 'bicubic')
        return pictures.labelled_grid(tiles, len(faces), ['came', 'asked'][:len(rows)],
                                      [f'{name}={value:.2g}' for _, value in changes])

    # ---- photos

    def embed(self, state: State, photo: bytes, points: str = '', steps: int = STEPS,
              progress: Optional[Callable[[], Any]] = None) -> State:
        """The state of a photo that is searched for in the generator, in `steps` steps; progress: called after each.

        photo: the bytes of a picture file. points: five landmarks as preprocess.landmarks reads them; '': the picture
        is an aligned square already, such as preprocess_data.py makes. UserError for what cannot be used.
        """
        picture, coeffs = self._estimate(photo, points)
        picture = inversion.fit_photo(picture, self.faces.resolution)
        if self._inverter is None:
            specs = self._world.expert_specs()
            experts.check_weights(specs, ('id',))
            self._inverter = inversion.Inverter(self.faces, specs, W_ID, batch=1)
        found = self._inverter.invert(picture[np.newaxis], [coeffs], steps, progress)[0]
        if found is None:
            raise UserError('the search for this photo ended in NaN or infinity')
        note = f'photo, found to {found.error:.1f} of 255; likeness of identity {found.likeness:.2f}'
        trouble = health.photo_trouble(self.faces, [picture], ['yours'], self.world)
        return State(found.face, state.seed, state.rate, f'{note}; {trouble}' if trouble else note, found, picture)

    def _estimate(self, photo, points):
        """(aligned square [S, S, 3] uint8, coefficients [254]) of a photo."""
        _, height, width = picture_files.shape(photo)
        if width * height > MOST_PIXELS:
            raise UserError(f'{width} x {height} pixels: at most {MOST_PIXELS / 1e6:.0f} million were expected')
        opened, specs = picture_files.read(photo), self._world.expert_specs()
        experts.check_weights(specs, ('recon',))
        if points.strip():
            return self._align(opened, landmarks.parse(points), specs)
        if height != width:
            raise UserError(f'{width} x {height} pixels: five landmarks were expected with it, or a square, aligned '
                            'picture as preprocess_data.py makes it')
        square = inversion.fit_photo(picture_files.rgb(opened.pixels), self.faces.resolution)
        with health.Judge(specs, self.faces.resolution) as judge:
            return square, judge(square[np.newaxis])[0, :factors.NUM_COEFFS]

    def _align(self, opened, points, specs):
        """What preprocess_data.py does with a photo that has landmarks."""
        template, size = landmarks.five_points(self._world.template()), opened.pixels.shape[1::-1]
        reading = conventions.understand(points, template, size, opened.orientation)
        aligned = alignment.align(picture_files.rgb(opened.pixels), alignment.fit(reading.points, template, size))
        with experts.Reconstructor(specs, batch=1) as reconstruct:
            coeffs = reconstruct(alignment.recon_input(aligned)[np.newaxis])[0]
        return alignment.crop_face(aligned, coeffs[factors.TRANSLATION]), coeffs[:factors.NUM_COEFFS]

    def close(self) -> None:
        """Give back memory and devices; closing twice is harmless."""
        if self._renderer:
            self._renderer.close()
        self.faces.close()

    def __enter__(self) -> 'Session':
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class _Renderer(GraphRunner):
    """Coefficients [N, 254] -> renders of the face model, uint8 [N, R, R, 3]."""

    def __init__(self, model, resolution):
        super().__init__()
        with self.building():
            self._coeffs = tf.placeholder(tf.float32, [None, factors.NUM_COEFFS])
            self._image = FaceRenderer(model).render(self._coeffs, resolution).image

    def __call__(self, coeffs):
        return np.rint(self.run(self._image, {self._coeffs: coeffs})).astype(np.uint8)


def _checked_seed(seed):
    if not isinstance(seed, (int, float)) or not 0 <= seed < 2 ** 32 or seed != int(seed):
        raise UserError('seed: a whole number from 0 to 4294967295 was expected')
    return int(seed)
