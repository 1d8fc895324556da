"""Photos of the human world: the prior, what is around the face, the files, and alignment back to the crop."""

import concurrent.futures
import os

import cv2
import numpy as np
import pytest
import scipy.io

from dnnlib.util import UserError
from human import anatomy, canvas, clothes, face_model, hair, photos, prior, scenes, shading
from preprocess import alignment, landmarks
from renderer import factors
from tests.common import assert_close


@pytest.fixture(scope='module')
def small():
    photographer = photos.Photographer(64, 'crop', threads=2)
    yield photographer
    photographer.close()


def test_prior_is_deterministic_and_keeps_its_limits():
    drawn = np.stack([prior.draw(0, i, free=True)[0] for i in range(200)])
    assert_close(drawn[7], prior.draw(0, 7, free=True)[0])
    assert (drawn[7] != prior.draw(1, 7, free=True)[0]).any()
    assert np.abs(drawn[:, factors.SHAPE]).max() <= prior.IDENTITY_LIMIT
    for column, (deviation, limit) in zip(drawn[:, factors.ANGLES].T, prior.ANGLES):
        assert np.abs(column).max() <= limit + 1e-6 and 0.8 < column.std() / deviation < 1.15
    assert (drawn[:, factors.TRANSLATION].std(axis=0) > 0.08).all()
    crop = prior.draw(0, 7)[0]
    assert (crop[factors.TRANSLATION] == 0).all() and (crop[:254] == drawn[7, :254]).all()


def test_scenes_do_not_depend_on_the_face():
    drawn = [prior.draw(0, i)[:2] for i in range(300)]
    faces = np.stack([coeff for coeff, _ in drawn])
    faces = faces[:, faces.std(axis=0) > 0]
    numbers = np.array([[s.hair.length, s.hair.color.mean(), s.hair.grey, s.hair.recede, s.clothes.color.mean(),
                         s.glasses is not None, s.skin.freckles, s.backdrop.colors.mean()] for _, s in drawn])
    correlation = np.corrcoef(faces.T, numbers.T)[:faces.shape[1], faces.shape[1]:]
    assert np.abs(correlation).max() < 0.28     # 5 standard deviations of chance


def test_every_style_occurs():
    drawn = [scenes.draw(np.random.RandomState(i)) for i in range(400)]
    assert {scene.hair.style for scene in drawn} == set(scenes.HAIR_STYLES)
    assert {scene.clothes.cut for scene in drawn} == set(scenes.CUTS)
    assert {scene.backdrop.kind for scene in drawn} == set(scenes.BACKDROPS)
    assert 0.08 < np.mean([scene.glasses is not None for scene in drawn]) < 0.25


# ------------------------------------------------------------------------------------------------ what is drawn

def _scene(index=1, seed=5, **hair):
    scene = prior.draw(seed, index)[1]
    return scene._replace(hair=scene.hair._replace(**hair), glasses=None)


@pytest.mark.parametrize('style', sorted(set(scenes.HAIR_STYLES) - {'bald'}))
def test_strands_grow_outside_the_head(style):
    model = face_model.load_model()
    coeff = prior.draw(5, 3)[0]
    shape = face_model.identity_shape(coeff)
    surface = anatomy.Surface(shape, face_model.normals(shape))
    scene = _scene(style=style, length=1.0, thin=0.0, recede=0.0)
    strands = hair.grow(scene.hair, surface, np.float32([0, -1, 0]), np.float32([0, 0, 1]))
    assert len(strands.points) > 200 and all(np.isfinite(part).all() for part in strands)
    depth, _ = surface.depth(strands.points.reshape(-1, 3), False)
    is_head = strands.points.reshape(-1, 3)[:, 1] > 0           # below, hair hangs before and behind the neck
    assert (depth[is_head] > -0.08).mean() > 0.97
    scalp = model.mean_shape[anatomy.scalp() > -0.2]
    distance = np.linalg.norm(strands.points[::25, 0][:, None] - scalp, axis=2).min(axis=1)
    assert distance.max() < 0.35                                # other people's roots are not far from the mean's
    assert (strands.colors >= 0).all() and (strands.width > 0).all()


@pytest.mark.parametrize('cut', sorted(scenes.CUTS))
def test_clothes_fit_around_the_chest_and_look_outwards(cut):
    for i in range(2):
        coeff, scene, _ = prior.draw(3, i)
        mesh = clothes.garment(scene.clothes._replace(cut=cut), face_model.identity_shape(coeff))
        assert all(np.isfinite(part).all() for part in mesh)
        lengths = np.linalg.norm(mesh.normals, axis=1)              # 0 where rows of the hem lie on each other
        assert np.minimum(lengths, np.abs(lengths - 1)).max() < 1e-3 and (lengths > 0.5).mean() > 0.9
        middle = anatomy.from_base(*clothes.CHEST)
        assert ((mesh.normals * (mesh.points - middle)).sum(axis=1) > 0).mean() > 0.8


def test_bald_people_have_no_hair(small):
    coeff = prior.draw(5, 1)[0]
    _, masks, _ = small.draw([coeff, coeff], [_scene(style='bald'), _scene(style='crop')])
    assert (masks[0, ..., 0] == 0).all()
    assert masks[1, ..., 0].mean() > 0.03


def test_masks_are_what_is_drawn(small):
    """Where the masks say background, another background is seen; where they say hair, hair of another colour."""
    coeff, scene, _ = prior.draw(5, 1)
    scene = scene._replace(film=scene.film._replace(blur=0.0, vignette=0.0))
    backdrop = scene.backdrop._replace(colors=255 - scene.backdrop.colors, kind='wall')
    dyed = scene.hair._replace(color=np.array([20.0, 200.0, 20.0]), tips=np.array([20.0, 200.0, 20.0]), grey=0.0)
    photos_, masks, _ = small.draw([coeff] * 3, [scene._replace(backdrop=scene.backdrop._replace(kind='wall')),
                                                 scene._replace(backdrop=backdrop), scene._replace(hair=dyed)])
    assert (masks[0] == masks[1]).all() and (masks[0] == masks[2]).all()
    share = masks[0, ..., 1]
    changed = np.abs(photos_[0].astype(float) - photos_[1]).sum(axis=2)
    assert (changed[share == 0] <= 3).all() and (changed[share > 0.9] > 0).mean() > 0.9
    greener = (photos_[2, ..., 1].astype(float) - photos_[2, ..., 0])[share == 0]
    is_hair = masks[0, ..., 0][share == 0]
    assert greener[is_hair > 0.9].mean() > 15 and greener[is_hair < 0.01].mean() < 5


def test_photos_do_not_depend_on_the_batch_or_on_threads(small):
    coeffs, drawn, _ = zip(*[prior.draw(5, i) for i in range(4)])
    together = small.draw(coeffs, drawn)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        alone = list(pool.map(lambda i: small.draw(coeffs[i:i + 1], drawn[i:i + 1]), range(4)))
    for i, one in enumerate(alone):
        for array, other in zip(together, one):
            assert (array[i] == other[0]).all()


def test_expression_and_light_move_no_hair(small):
    coeff, scene, _ = prior.draw(5, 1)
    scene = scene._replace(hair=scene.hair._replace(style='crop', length=0.3), glasses=None)
    other = coeff.copy()
    other[factors.EXPRESSION], other[factors.LIGHTING] = prior.draw(5, 2)[0][factors.EXPRESSION], 0
    _, masks, _ = small.draw([coeff, other], [scene, scene])
    assert np.abs(masks[0, ..., 0] - masks[1, ..., 0]).mean() < 0.01


def test_glasses_and_clothes_are_drawn(small):
    coeff, scene, _ = prior.draw(5, 1)
    frame = scenes.Glasses(shape=0.5, size=0.23, rim=0.02, color=np.array([10.0, 10.0, 10.0]))
    pictures, masks, points = small.draw([coeff, coeff], [scene._replace(glasses=None), scene._replace(glasses=frame)])
    changed = np.abs(pictures[0].astype(float) - pictures[1]).mean(axis=2) > 8
    assert 0.005 < changed.mean() < 0.15
    rows = 64 - points[0][36:48, 1].mean()
    assert abs(np.nonzero(changed)[0].mean() - rows) < 8        # at the eyes
    bottom = (masks[0, -4:].sum(axis=2) < 0.1).mean()
    assert bottom > 0.4                                         # shoulders: neither hair nor background


def test_light_is_the_decoders(tf_session):
    from dnnlib.tflib.compat import tf
    from renderer.face_decoder import harmonic_light
    coeff = prior.draw(5, 1)[0]
    normals = np.random.RandomState(0).standard_normal([40, 3]).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    expected = tf_session.run(harmonic_light(tf.constant(normals[None]), tf.eye(3, batch_shape=[1]),
                                             tf.constant(coeff[None, factors.LIGHTING])))[0]
    assert_close(shading.Light(coeff)(normals), np.maximum(expected, 0), atol=1e-5)


def test_shadows_fall_behind_things():
    """A square in front of a wall: light from the front is blocked behind it, and nowhere else."""
    square = np.float32([[-0.5, -0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, 0.5], [-0.5, 0.5, 0.5]])
    with canvas.Canvas(threads=1) as drawing:
        shadows = drawing.shadows(square, np.int32([[0, 1, 2], [0, 2, 3]]), [0, 0, 1])
    lit = shadows.lit(np.float32([[0, 0, -0.5], [1.2, 0, -0.5], [0, 0, 0.52]]), 20.0, 1.0)
    assert lit[0] < 0.01 and lit[1] > 0.99 and lit[2] > 0.9


def test_photo(small):
    coeffs, drawn, randoms = zip(*[prior.draw(5, i) for i in range(8)])
    pictures, masks, points = small.draw(coeffs, drawn, randoms)
    assert pictures.shape == (8, 64, 64, 3) and pictures.dtype == np.uint8 and masks.shape == (8, 64, 64, 2)
    assert 0 <= masks.min() and masks.sum(axis=3).max() <= 1 + 1e-5
    assert (points > 0).all() and (points < 64).all()
    for picture, mask, lm in zip(pictures, masks, points):
        assert picture.std() > 15
        for x, y in landmarks.five_points(lm)[2:]:                  # neither hair nor background at nose and mouth
            assert mask[int(64 - y), int(x)].sum() < 0.5


def test_face_part_is_the_render_the_generator_imitates(small, tf_session):
    """Where the drawn face is, a photo without noise is the training render with shadows, gloss and pores."""
    from dnnlib.tflib.compat import tf
    from renderer.face_renderer import FaceRenderer
    coeff, scene, _ = prior.draw(5, 1)
    scene = scene._replace(glasses=None, film=scene.film._replace(gain=np.ones(3), vignette=0.0, contrast=1.0))
    picture, masks, points = small.draw([coeff], [scene])
    render = FaceRenderer(face_model.load_model()).render(tf.constant(coeff[None]), 64)
    image, mask, lm = tf_session.run(render)
    sure = cv2.erode(mask[0, ..., 0] * (masks[0, ..., 0] < 0.01), np.ones([5, 5])) > 0.5
    assert sure.mean() > 0.12
    shown, expected = picture[0][sure].astype(np.float32), image[0][sure]
    assert np.median(np.abs(shown - expected)) < 20 and np.corrcoef(shown.ravel(), expected.ravel())[0, 1] > 0.8
    assert_close(points[0] * 4, lm[0], atol=1e-3)


def test_alignment_gives_the_training_crop_back():
    """A photo by R_Net's camera, aligned by its five landmarks and the template, is the crop with zero translation."""
    coeff, scene, _ = prior.draw(5, 2)
    coeff[:224] = 0             # the mean face: whatever else a face does, its landmarks move
    coeff[factors.ANGLES] = 0
    free, crop = photos.Photographer(224, 'free', threads=2), photos.Photographer(256, 'crop', threads=2)
    photo, _, points = free.draw([coeff], [scene])
    expected = crop.draw([coeff], [scene])[0][0].astype(np.float32)
    template = landmarks.five_points(face_model.template())
    placement = alignment.fit(photos.photo_landmarks(points[0], 224), template, (224, 224))
    assert abs(placement.scale / photos.face_model.TEMPLATE_SCALE * 512 / 224 - 1) < 1e-3
    aligned = alignment.crop_face(alignment.align(photo[0], placement), [0, 0, 0]).astype(np.float32)
    inside = np.s_[24:-24, 24:-24]
    shifts = [np.abs(np.roll(aligned, (dy, dx), (0, 1))[inside] - expected[inside]).mean()
              for dy in (-3, 0, 3) for dx in (-3, 0, 3)]
    assert shifts[4] == min(shifts) and shifts[4] < 5
    free.close()
    crop.close()


def test_files_resume_and_are_always_the_same(tmp_path):
    folder = tmp_path / 'set'
    assert photos.write_photos(str(folder), 3, size=32, seed=9) == 3
    first = {name: (folder / 'img' / name).read_bytes() for name in os.listdir(str(folder / 'img'))}
    assert sorted(first) == ['000000.png', '000001.png', '000002.png']
    os.remove(str(folder / 'img' / '000001.png'))
    assert photos.write_photos(str(folder), 4, size=32, seed=9) == 2
    assert photos.write_photos(str(folder), 4, size=32, seed=9) == 0
    for name, content in first.items():
        assert (folder / 'img' / name).read_bytes() == content
    for i in range(4):
        coeff = scipy.io.loadmat(str(folder / 'coeff' / f'{i:06d}.mat'))['coeff']
        assert coeff.shape == (1, 257) and (coeff[0] == prior.draw(9, i)[0]).all()
        points = landmarks.read(str(folder / 'lm' / f'{i:06d}.txt'), (32, 32))
        assert points[0, 0] < points[1, 0] and points[0, 1] < points[3, 1]          # left eye left, mouth below
        for masks in photos.MASKS:
            assert cv2.imread(str(folder / masks / f'{i:06d}.png'), cv2.IMREAD_UNCHANGED).shape == (32, 32)
    assert not [name for _, _, names in os.walk(str(folder)) for name in names if name.startswith('.tmp')]
    with pytest.raises(UserError, match='the files beside it were made with'):
        photos.write_photos(str(folder), 4, size=64, seed=9)


def test_unusable_folder(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='--save_path .*file'):
        photos.write_photos(str(tmp_path / 'file'), 1, size=32)
    with pytest.raises(ValueError, match='view must be one of'):
        photos.Photographer(32, 'side')
