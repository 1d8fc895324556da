"""Contact sheets of pictures on disk: a row for each subject or photo, a column for each variation, with labels."""

import os
from typing import List, Optional

import numpy as np
from PIL import Image

from dnnlib import pictures
from sampling.image_folder import GRID, ImageFolder

LONGEST_SIDE = 8192         # pixels of a row or column of tiles; what is beyond is left out
MOST_PIXELS = 32 * 10 ** 6


def write_sheet(folder: ImageFolder, rows: List[List[str]], row_labels: List[str], column_labels: List[str],
                scale: Optional[int] = None, resample: str = 'bicubic') -> Optional[str]:
    """Contact sheet of pictures in the folder -> its path, None when there is no picture.

    rows: picture names, all rows of one length; missing pictures leave white cells. column_labels may be empty.
    scale: enlarges the tiles; None: to at least 128 pixels. A line says what does not fit on the sheet.
    """
    sample = next((name for row in rows for name in row if os.path.isfile(folder.file(name))), None)
    if sample is None:
        return None
    size = _read(folder.file(sample)).shape
    scale = scale or pictures.natural_scale(size[1])
    columns = min(len(rows[0]), max(1, LONGEST_SIDE // (size[1] * scale)))
    count = min(len(rows), max(1, MOST_PIXELS // (size[0] * size[1] * scale * scale * columns)))
    if (count, columns) != (len(rows), len(rows[0])):
        print(f'{GRID} shows the first {count} of {len(rows)} rows, {columns} of {len(rows[0])} columns')
    white = np.full(size, 255, np.uint8)
    paths = [folder.file(name) for row in rows[:count] for name in row[:columns]]
    tiles = np.stack([_read(path) if os.path.isfile(path) else white for path in paths])
    sheet = pictures.labelled_grid(pictures.enlarge(tiles, scale, resample), columns, row_labels[:count],
                                   column_labels[:columns])
    return folder.save_grid(sheet)


def _read(path):
    with Image.open(path) as image:
        return np.asarray(image.convert('RGB'))
