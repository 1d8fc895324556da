"""The real world: the Basel face model, the released VAEs and perception networks, photographs (paper section 4)."""

import os

import config
from dnnlib.util import UserError
from renderer import face_model
from worlds.label import REAL
from worlds.parts import Parts, check_part, register

TEMPLATE_FILE = 'similarity_Lm3D_all.mat'


def load_template(folder=None):
    """The 68 landmarks of the alignment's template, [68, 3] float32, of a face model's folder (config.FACE_MODEL_DIR).

    The face model there is converted at its first use. UserError when files are missing.
    """
    folder = folder or config.FACE_MODEL_DIR
    path = os.path.join(folder, TEMPLATE_FILE)
    if not os.path.exists(os.path.join(folder, face_model.MODEL_FILE)):
        face_model.convert_face_model(folder)
    if not os.path.exists(path):
        raise UserError(f'{path} is missing; get it from folder BFM/ of '
                        'https://github.com/microsoft/Deep3DFaceReconstruction, or name another --face_model')
    return face_model.load_landmarks_3d(path)


def _template(folder=None):
    return load_template(_own(folder))


def _face_model(folder=None):
    return face_model.load_face_model(_own(folder))


def _own(folder):
    """The folder, else config.FACE_MODEL_DIR. UserError when it says that it is of another world."""
    folder = folder or config.FACE_MODEL_DIR
    check_part('face_model', folder, REAL)
    return folder


register(REAL, Parts(face_model=_face_model, template=_template))
