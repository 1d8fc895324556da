"""From a decoded head and a Scene to a picture: everything as one mesh, light at its vertices, then pixel by pixel.

Colours at the vertices carry light and shadows; the pixels add what is finer than the mesh: pores, strands, gloss.
"""

import functools
from collections import namedtuple

import cv2
import numpy as np

from human import anatomy, clothes, face_model, hair, paint
from human.canvas import sample
from human.shading import Light, gloss, strand_light, turned, unit
from renderer import camera, factors

SUPERSAMPLE = 2                 # pictures are drawn at this many times their size, then averaged: smooth edges
SKIN, HAIR, CLOTH, FRAME, EYE, NOTHING = range(6)           # what a pixel shows; FRAME: of glasses; beards, too
_SKY = np.array([0.0, 0.78, 0.62])
_ATLAS = 1024                   # pixels of the skin's and of the strands' part of the atlas
_PER_DECIMETRE = 210.0          # pixels of the atlas

# What the face decoder says of one face: shape, normals before the pose, colors under the light, texture, vertices
# [N, 3]; rotation [3, 3]; rest, rest_normals: shape and normals without the expression, which hair grows on.
Head = namedtuple('Head', 'shape normals colors texture vertices rotation rest rest_normals')
# Parts of the picture: points, attributes (color, normal * gloss, (u, v, cover)) [n, 3] each, triangles, what [t]
_Part = namedtuple('_Part', 'points color normal detail triangles what')


def draw(canvas, head, coeff, scene, size):
    """Picture of a head in a scene before the background is there.

    canvas: Canvas with three groups. Returns color [size, size, 3] float32 RGB 0-255, multiplied by coverage; shares
    [size, size, 2] float32 of hair and of background.
    """
    light = Light(coeff)
    # What hides much comes first: what is behind it is then drawn faster.
    parts = _strips(head, coeff, scene, size) + [_skin(head, scene), _garment(head, coeff, scene)]
    starts = np.cumsum([0] + [len(part.points) for part in parts])
    points = np.concatenate([part.points for part in parts])
    triangles = np.concatenate([part.triangles + np.int32(start) for part, start in zip(parts, starts)])
    what = np.concatenate([part.what for part in parts] + [[NOTHING]]).astype(np.uint8)
    casting = np.concatenate([_casting(part) + np.int32(start) for part, start in zip(parts, starts)])
    lit = [canvas.shadows(points, casting, direction) for direction in (light.key, _SKY)]
    colors = [_SHADE[part.what[0]](part, head, light, lit) for part in parts]
    groups = [np.concatenate(colors)] + [np.concatenate([part[i] for part in parts]) for i in (2, 3)]
    pictures, number = canvas.picture(points, triangles, groups, SUPERSAMPLE * size)
    return _developed(pictures, what[number], light, scene, head)


def _casting(part):
    """Triangles of a part that cast shadows: every other strand is enough."""
    if part.what[0] != HAIR:
        return part.triangles
    return part.triangles.reshape(len(part.color), -1, 3)[::2].reshape(-1, 3)


# ------------------------------------------------------------------------------------------------ parts

def _view(points):
    return unit(np.array([0, 0, camera.DISTANCE], np.float32) - points)


def _skin(head, scene):
    place = np.asarray(scene.skin.place) * 0.3 * _ATLAS
    facts = _face_facts()
    detail = np.concatenate([facts.uv + np.float32(place), hair.scalp_cover(scene.hair)[:, None]], axis=1)
    normals = unit(turned(head.normals, head.rotation))
    shine = np.where(facts.is_eye, 1.0, facts.shine * scene.skin.gloss + 0.05)
    return _Part(head.vertices, head.colors, np.float32(normals * shine[:, None]), np.float32(detail), facts.triangles,
                 facts.what)


def _strips(head, coeff, scene, size):
    """Hair, beard, glasses."""
    out, coarse = [], max(1.0, camera.RENDER_SIZE / size) ** 0.8      # small pictures: strands no thinner than a pixel
    surface = anatomy.Surface(head.rest, head.rest_normals)
    strands = hair.grow(scene.hair, surface, np.float32([0, -1, 0]) @ head.rotation.T,
                        np.float32([0, 0, 1]) @ head.rotation.T)
    if strands is not None:
        strands = strands._replace(width=strands.width * np.float32(coarse))
        shine = scene.hair.gloss * (0.2 if scene.hair.style == 'buzz' else 1.0)
        out.append(_ribbons(head, coeff, strands, HAIR, shine))
    beard = hair.beard(scene.hair, coeff, head.shape, head.normals, head.texture)
    if beard is not None:
        out.append(_ribbons(head, coeff, beard, FRAME, 0.1))
    if scene.glasses is not None:
        points, width = clothes.glasses(scene.glasses, head.rest[face_model.load_model().landmarks])
        color = np.broadcast_to(np.float32(scene.glasses.color), points.shape)
        still = hair.Strands(points, color, width, np.broadcast_to(np.float32([0, 0.5, 0.87]), points.shape),
                             np.zeros(len(points)))
        out.append(_ribbons(head, coeff, still, FRAME, 0.8))
    return out


def _ribbons(head, coeff, strands, what, shine):
    points = turned(strands.points, head.rotation) + coeff[factors.TRANSLATION]
    view = _view(points)
    corners, tangents = hair.ribbons(points, strands.width, view)
    count, size = points.shape[:2]
    length = np.linalg.norm(np.diff(points[:, ::size - 1], axis=1), axis=2)     # [n, 1]
    along = np.linspace(0, 1, size) * length * _PER_DECIMETRE * 0.6
    detail = np.empty([count, size, 2, 3], np.float32)
    detail[..., 0] = 8 + 1000 * strands.texture[:, None, None] + [0.0, 7.0]
    detail[..., 1] = (along + 400 * strands.texture[:, None])[..., None]
    detail[..., 2] = shine
    outwards = turned(strands.outwards, head.rotation)
    triangles = hair.ribbon_triangles(count, size)
    normal = np.stack([tangents, outwards], axis=2)         # for `_shade_strands`; no pixel needs them
    return _Part(corners.reshape(-1, 3), strands.colors, np.float32(normal).reshape(-1, 3), detail.reshape(-1, 3),
                 triangles, np.full(len(triangles), what))


def _garment(head, coeff, scene):
    mesh = clothes.garment(scene.clothes, head.rest)
    points = turned(mesh.points, head.rotation) + coeff[factors.TRANSLATION]
    color = np.broadcast_to(np.float32(scene.clothes.color), points.shape)
    return _Part(points, color, turned(mesh.normals, head.rotation), mesh.place, mesh.triangles,
                 np.full(len(mesh.triangles), CLOTH))


# ------------------------------------------------------------------------------------------------ light at vertices

def _shade_skin(part, head, light, lit):
    """Colours [N, 3] of the head under shadows, warm where they begin."""
    facts = _face_facts()
    normals = unit(part.normal)
    at = part.points + 0.035 * normals
    direct = light.shadowed(normals, lit[0].lit(at, 22.0, 1.6))
    sky = 1 - 0.38 * (1 - lit[1].lit(at, 10.0, 3.0)) * np.clip(normals @ _SKY + 0.4, 0, 1)
    shade = np.clip(direct * sky * facts.open, 0.12, 1)[:, None]
    return np.float32(part.color * shade ** np.float32([0.85, 1.05, 1.12]))


def _shade_cloth(part, head, light, lit):
    at = part.points + 0.05 * part.normal
    shade = light.shadowed(part.normal, lit[0].lit(at, 14.0, 2.0))
    shade = shade * (1 - 0.5 * (1 - lit[1].lit(at, 6.0, 3.0)))
    return np.float32(part.color * light(part.normal) * shade[:, None])


def _shade_strands(part, head, light, lit):
    """Colours of strips: [n * K * 2, 3]."""
    colors = part.color
    points = part.points.reshape(colors.shape[:2] + (2, 3))[:, :, 0].reshape(-1, 3)
    tangents, outwards = part.normal.reshape(-1, 2, 3)[:, 0], unit(part.normal.reshape(-1, 2, 3)[:, 1])
    is_hair = part.what[0] == HAIR
    at = points + 0.02 * outwards
    key = lit[0].lit(at, 6.0 if is_hair else 30.0, 1.2)
    sky = lit[1].lit(at, 5.0 if is_hair else 20.0, 2.0)
    diffuse, along, facing = strand_light(light, tangents, outwards, _view(points))
    shade = (1 - light.share * (1 - key)) * (1 - 0.45 * (1 - sky))
    out = colors.reshape(-1, 3) * diffuse * shade[:, None]
    shine = part.detail.reshape(-1, 2, 3)[:, 0, 2] * key * facing
    shift = 0.08 * np.repeat(np.sin(40 * np.arange(len(colors))), colors.shape[1])
    white = np.maximum(1 - (along + shift - 0.06) ** 2, 0) ** 40
    tinted = np.maximum(1 - (along + shift + 0.14) ** 2, 0) ** 14
    out += (7 * white * shine)[:, None] * light.color
    out += (0.4 * tinted * shine)[:, None] * colors.reshape(-1, 3) * light.color
    return np.float32(np.repeat(np.maximum(out, 0), 2, axis=0))


_SHADE = {SKIN: _shade_skin, EYE: _shade_skin, CLOTH: _shade_cloth, HAIR: _shade_strands, FRAME: _shade_strands}


# ------------------------------------------------------------------------------------------------ the face, once

_Facts = namedtuple('_Facts', 'uv shine open is_eye triangles what')


@functools.lru_cache(maxsize=None)
def _face_facts():
    """What is known of the model's vertices: place in the atlas, gloss, openness to the sky, what they are."""
    model = face_model.load_model()
    points, regions = anatomy.base(), paint.regions()
    turn = np.arctan2(points[:, 0], points[:, 2] - 0.3)
    uv = np.stack([np.clip(0.42 * _ATLAS + turn * 1.1 * _PER_DECIMETRE, 0, _ATLAS),
                   (8.6 - points[:, 1]) * _PER_DECIMETRE], axis=1)
    shine = 0.35 + np.zeros(len(points))
    for x, y, z, radius, more in ((0, 7.75, 1.45, 0.35, 0.35), (0, 6.95, 1.7, 0.16, 0.6), (0, 7.2, 1.55, 0.12, 0.3),
                                  (0.42, 7.02, 1.3, 0.18, 0.35), (-0.42, 7.02, 1.3, 0.18, 0.35),
                                  (0, 6.35, 1.45, 0.15, 0.25), (0, 6.62, 1.55, 0.14, 0.35)):
        shine += more * np.exp(-((points - [x, y, z]) ** 2).sum(axis=1) / radius ** 2)
    is_eye = regions['eye'] > 0.5
    shine = (shine + 0.8 * regions['lips'] + regions['teeth'] + regions['tongue']) * (1 - regions['lashes'])
    sky = anatomy.occlusion()
    front = sky[model.landmarks[27]]
    opened = np.clip((sky / front) ** 0.4, 0.3, 1.0)
    # The mean head's mouth is shut: what is in it is painted as dark as it is in an open one.
    in_mouth = np.max([regions[name] for name in ('teeth', 'tongue', 'inside')], axis=0) > 0.5
    opened = np.where(in_mouth, 0.95, opened)
    what = np.where(is_eye[model.triangles].all(axis=1), EYE, SKIN)
    return _Facts(np.float32(uv), np.float32(shine), np.float32(opened), is_eye, model.triangles, what)


@functools.lru_cache(maxsize=None)
def _atlas():
    """Skin: pores, blotches, freckles, gloss; strands: brightness: [1024, 1024] float32 about 128 each."""
    random = np.random.RandomState(7)
    size = _ATLAS
    white = lambda: random.standard_normal([size, size]).astype(np.float32)
    noise = lambda blur: _normal(cv2.GaussianBlur(white(), (0, 0), blur))
    fine, middle, coarse = noise(0.9), noise(2.2), noise(14)
    freckles = np.clip(noise(1.5) + 0.5 * noise(40) - 1.7, 0, 1.2)
    skin = ([128 + 5 * fine + 4 * middle, 128 + 30 * coarse, 255 * freckles / 1.2,
                     128 + 34 * fine + 22 * middle])
    streaks = _normal(cv2.GaussianBlur(white(), (0, 0), sigmaX=0.9, sigmaY=40))
    return [np.clip(one, 0, 255) for one in skin], np.clip(128 + 34 * streaks, 0, 255)


def _normal(picture):
    return (picture - picture.mean()) / picture.std()


# ------------------------------------------------------------------------------------------------ pixels

def _developed(pictures, what, light, scene, head):
    """Attributes of the fine pixels [F, F, 3] and what they show [F, F] -> see `draw`."""
    color, normal, detail = pictures
    size = len(what) // SUPERSAMPLE
    is_hair = (what == HAIR).astype(np.float32)
    strand = cv2.remap(_atlas()[1], detail[..., 0], detail[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    strand = 1 + is_hair * (strand * np.float32(0.8 / 128) - np.float32(0.8))
    color = cv2.multiply(color, cv2.merge([strand] * 3))
    shares = _halved(np.stack([is_hair, what == NOTHING], axis=2).astype(np.float32))
    total = _halved(np.minimum(color, 330))
    for kind, finish in ((SKIN, _finish_skin), (EYE, _finish_eyes), (CLOTH, _finish_cloth)):
        rows, columns = (np.flatnonzero((what == kind).any(axis=axis)) // SUPERSAMPLE for axis in (1, 0))
        if not len(rows):
            continue
        box = np.s_[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        wide = tuple(slice(SUPERSAMPLE * side.start, SUPERSAMPLE * side.stop) for side in box)
        mask = (what[wide] == kind).astype(np.uint8)
        share = _halved(mask.astype(np.float32))
        there = np.nonzero(share)
        part = share[there][:, None]
        seen = [_halved(cv2.copyTo(one[wide], mask))[there] / part for one in (color, normal, detail)]
        view = _pixel_view(there[0] + rows[0], there[1] + columns[0], size)
        finished, cover = finish(*seen, view, light, scene, head)
        total[box][there] += (finished - seen[0]) * part
        shares[box][there + (0,)] += cover * part[:, 0]
    return total, shares


def _halved(picture):
    """A fine picture as coarse as the photo."""
    return cv2.resize(picture, (picture.shape[1] // SUPERSAMPLE, picture.shape[0] // SUPERSAMPLE),
                      interpolation=cv2.INTER_AREA)


def _pixel_view(rows, columns, size):
    """Unit [m, 3] towards the camera from pixels [m], roughly."""
    x, y = columns / size - 0.5, 0.5 - rows / size
    return unit(np.stack([-0.2 * x, -0.2 * y, np.ones_like(x)], axis=1).astype(np.float32))


def _finish_skin(color, normal, detail, view, light, scene, head):
    """Colours [m, 3] with pores, gloss and the roots of hair; share of hair [m]."""
    skin, style = scene.skin, scene.hair
    fine = np.stack([sample(one, detail[:, 0], detail[:, 1]) for one in _atlas()[0]]) / np.float32(128) - 1
    shine = np.sqrt(np.einsum('nj,nj->n', normal, normal)) + 1e-6
    grain = 1 + 0.55 * skin.pores * fine[0]
    red = skin.blotches * 0.06 * fine[1]
    freckles = 0.3 * skin.freckles * np.clip(fine[2] + 1, 0, 1)
    tone = np.stack([grain * (1 + 0.3 * red - 0.35 * freckles), grain * (1 - red - 0.6 * freckles),
                     grain * (1 - red - 0.8 * freckles)], axis=1)
    level = color.mean(axis=1)
    normal = normal / shine[:, None]
    spot = gloss(normal, view, light.key, (16, 64), (1.0, 0.35))
    spot = spot * shine * (1 + 1.5 * skin.pores * fine[3]) * np.minimum(level / 60, 1)
    out = color * tone + (300 * np.maximum(spot, 0))[:, None] * light.color
    cover = np.clip(1.25 * detail[:, 2] + 3.0 * fine[0] - 0.12, 0, 1) * np.float32(0.92)
    cover *= (detail[:, 2] > 0.01) & (np.einsum('nj,nj->n', normal, view) > -0.1)       # not inside the head
    root = np.float32(style.color * (1 - style.grey * 0.5) + 80 * style.grey) * np.float32(0.65)
    out += cover[:, None] * (root * (level / (_skin_level(head) + 1e-3))[:, None] - out)
    return out, cover


def _skin_level(head):
    """Brightness of this person's skin."""
    return float(head.texture[face_model.load_model().landmarks[27:36]].mean())


def _finish_eyes(color, normal, detail, view, light, scene, head):
    lamp = unit(light.key * np.float32([1, 0.5, 1]) + np.float32([0, 0.1, 0.9]))        # where the lids do not hide it
    spot = gloss(unit(normal), view, lamp, (140, 16), (1.0, 0.15))
    return color + np.minimum(1000 * spot, 210)[:, None] * light.color, 0


def _finish_cloth(color, normal, detail, view, light, scene, head):
    garment, u, v = scene.clothes, detail[:, 0], detail[:, 1]
    second = detail[:, 2]
    if garment.pattern == 3:
        second = np.maximum(second, np.sin(v * 40) > 0.2)
    elif garment.pattern == 4:
        second = np.maximum(second, np.sin(u * 55) > 0.5)
    elif garment.pattern == 5:
        second = np.maximum(second, 0.5 * (np.sin(v * 34) > 0.4) + 0.5 * (np.sin(u * 34) > 0.4))
    knit = 1 + 0.05 * np.sin(u * 300) * np.sin(v * 300)
    ratio = 1 + second[:, None] * (np.float32(garment.second / garment.color) - 1) * np.float32(0.9)
    return color * ratio * knit[:, None], 0
