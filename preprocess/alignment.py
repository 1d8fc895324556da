"""A photo and five landmarks -> the upright 512-pixel face, R_Net's input and the final 256-pixel crop (paper section
4, as in Deep3DFaceReconstruction). Every pixel is as recorded from the release; no TensorFlow. Pictures are RGB uint8.
"""

from collections import namedtuple

import cv2
import numpy as np
import scipy.sparse

from dnnlib.util import UserError
from renderer.camera import ALIGNED_SIZE, DISTANCE, FOCAL_224, RECON_SIZE, RENDER_SIZE, ZOOM

TARGET_SCALE = 102.0                # pixels per unit of the face model in R_Net's training pictures
MAX_ENLARGEMENT = 48.0              # of a photo: eyes about 3 pixels apart; smaller faces have nothing to show
_FRACTION_BITS = 22                 # Pillow's fixed-point weights for 8-bit pictures

# scale: pixels of the photo per unit, times 224/512; origin: (t0, t1), the template's origin in the photo, y up;
# photo_size, resized: (width, height); box: left, top, right, bottom of the 512 square in the resized photo.
Placement = namedtuple('Placement', 'scale origin photo_size resized box')


def fit(landmarks, template, photo_size):
    """Where the 512-pixel square lies: two linear fits of the landmarks to the 3-D template -> Placement.

    landmarks: [5, 2] pixels of the photo, y down; template: [5, 3], see `landmarks.five_points`; photo_size: (width,
    height). Raises UserError when the landmarks describe no face that could be cut out.
    """
    landmarks, template = np.asarray(landmarks, np.float64), np.asarray(template, np.float64)
    w0, h0 = int(photo_size[0]), int(photo_size[1])
    flipped = np.stack([landmarks[:, 0], h0 - 1 - landmarks[:, 1]], axis=1)             # y up
    unknowns = np.concatenate([template, np.ones([5, 1])], axis=1)                      # [5, 4]
    solution = np.linalg.lstsq(unknowns, flipped, rcond=None)[0]                        # [4, 2] a and t0, b and t1
    t0, t1 = (float(t) for t in solution[3])
    lengths = np.sqrt((solution[:3] ** 2).sum(axis=0))
    scale = float(lengths[0] + lengths[1]) / 2 * RECON_SIZE / ALIGNED_SIZE
    if not scale * MAX_ENLARGEMENT > TARGET_SCALE:      # NaN too
        raise UserError(f'the landmarks lie too close together (the face would be enlarged more than '
                        f'{MAX_ENLARGEMENT:.0f} times); the eyes should be at least 3 pixels apart')
    enlargement = TARGET_SCALE / scale
    w, h = int(w0 / scale * TARGET_SCALE), int(h0 / scale * TARGET_SCALE)
    half = ALIGNED_SIZE // 2
    left = int(w / 2 - half + (t0 - w0 / 2) * enlargement)      # int() cuts towards zero, as the release did
    top = int(h / 2 - half + (h0 / 2 - t1) * enlargement)
    box = (left, top, left + ALIGNED_SIZE, top + ALIGNED_SIZE)
    if min(w, h) < 1 or box[0] >= w or box[1] >= h or box[2] <= 0 or box[3] <= 0:
        raise UserError('the landmarks are not those of a face: the square cut out around them would lie outside the '
                        'photo; expected left eye, right eye, nose, left and right mouth corner, in this order')
    return Placement(scale, (t0, t1), (w0, h0), (w, h), box)


def align(photo, placement):
    """photo: [H, W, 3] RGB uint8 -> [512, 512, 3] RGB uint8, upright face of standard size, black outside the photo."""
    return resize_region(photo, placement.resized, placement.box)


def recon_input(aligned):
    """Aligned picture [512, 512, 3] RGB uint8 -> R_Net's input [224, 224, 3] BGR uint8."""
    return cv2.resize(cv2.cvtColor(aligned, cv2.COLOR_RGB2BGR), (RECON_SIZE, RECON_SIZE))


def crop_face(aligned, translation):
    """Cancel the head's translation and cut out the training picture -> [256, 256, 3] RGB uint8, black outside.

    aligned: [512, 512, 3] RGB uint8; translation: 3 numbers in the face model's unit, coefficients 254:257. Raises
    UserError for a translation no camera could see.
    """
    tx, ty, tz = (float(t) for t in translation)        # Python floats: NumPy 1 and 2 promote float32 differently
    size = ALIGNED_SIZE * ZOOM * RECON_SIZE / ALIGNED_SIZE * (DISTANCE - tz) / DISTANCE
    if not (1 <= size <= 16 * RENDER_SIZE and abs(tx) < 100 and abs(ty) < 100):
        raise UserError(f'the reconstructed translation ({tx:.3g}, {ty:.3g}, {tz:.3g}) is not that of a face before '
                        'the camera; the landmarks or the weights of R_Net are wrong')
    focal = FOCAL_224 * ALIGNED_SIZE / RECON_SIZE
    shift = np.float32([[1, 0, -focal * tx / (DISTANCE - tz)], [0, 1, focal * ty / (DISTANCE - tz)]])
    centred = cv2.warpAffine(aligned, shift, (ALIGNED_SIZE, ALIGNED_SIZE))
    w = int(size)
    resized = cv2.resize(centred, (w, w))
    start = round(w / 2) - RENDER_SIZE // 2             # round half to even, as the release did
    return _cut(resized, (start, start, start + RENDER_SIZE, start + RENDER_SIZE))


def _cut(picture, box):
    """Region left, top, right, bottom of a picture [H, W, C]; black where the box lies outside."""
    left, top, right, bottom = box
    height, width = picture.shape[:2]
    out = np.zeros([bottom - top, right - left, picture.shape[2]], picture.dtype)
    rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    out[rows.start - top:rows.stop - top, columns.start - left:columns.stop - left] = picture[rows, columns]
    return out


# Resizing a photo to several times its size only to keep 512 x 512 of it is most of the release's time. Here only the
# kept pixels are computed, with Pillow's own fixed-point arithmetic, so they are equal to Pillow's to the last bit.

def resize_region(picture, size, box):
    """Region `box` (left, top, right, bottom) of `picture` resized to `size` (width, height) by Pillow's bicubic.

    picture: [H, W, 3] uint8 -> [bottom - top, right - left, 3] uint8, black outside. Rows are filtered first, as in
    Pillow up to 12 (13 turns the order round for some tall pictures).
    """
    left, top, right, bottom = box
    inside = (max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1]))
    first_x, last_x, along_x = _bicubic_weights(picture.shape[1], size[0], inside[0], inside[2])
    first_y, last_y, along_y = _bicubic_weights(picture.shape[0], size[1], inside[1], inside[3])
    x = cv2.transpose(picture[first_y:last_y, first_x:last_x])                              # [w h C]
    x = cv2.transpose(_filter(along_x, x))                                                  # [h W C]
    x = _filter(along_y, x)                                                                 # [H W C]
    return _cut(x, (left - inside[0], top - inside[1], right - inside[0], bottom - inside[1])) if inside != box else x


def _filter(weights, x):
    """Sparse weights [n_out, n_in] along the first axis of x [n_in, a, b] uint8 -> [n_out, a, b] uint8."""
    flat = np.ascontiguousarray(x).reshape(len(x), -1).astype(np.int32)
    out = weights @ flat
    out += 1 << (_FRACTION_BITS - 1)
    out >>= _FRACTION_BITS
    return np.clip(out, 0, 255, out=out).astype(np.uint8).reshape((-1,) + x.shape[1:])


def _bicubic_weights(n_in, n_out, start, stop):
    """Weights of output pixels start..stop - 1 -> first and last (exclusive) input pixel, CSR matrix of int32.

    The filter grows with the step between output pixels when shrinking: antialiasing.
    """
    step = n_in / n_out
    stretch = max(step, 1.0)
    centre = (np.arange(start, stop) + 0.5) * step
    first = np.maximum((centre - 2 * stretch + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + 2 * stretch + 0.5).astype(np.int64), n_in)
    columns = first[:, None] + np.arange((last - first).max())                              # [n_out taps]
    weights = _keys_cubic((columns - centre[:, None] + 0.5) * (1.0 / stretch))
    weights[columns >= last[:, None]] = 0
    weights *= (1.0 / np.cumsum(weights, axis=1)[:, -1:])       # cumsum adds from left to right, as Pillow does
    fixed = weights * (1 << _FRACTION_BITS)
    fixed = np.trunc(fixed + np.where(fixed < 0, -0.5, 0.5)).astype(np.int32)
    low, high = int(first.min()), int(last.max())
    columns = np.minimum(columns, high - 1) - low
    rows = np.arange(0, fixed.size + 1, fixed.shape[1])
    return low, high, scipy.sparse.csr_matrix((fixed.ravel(), columns.ravel(), rows), shape=(len(fixed), high - low))


def _keys_cubic(x):
    """Keys' cubic convolution kernel with a = -1/2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
