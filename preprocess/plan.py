"""What there is to do in a folder of photos: which result belongs to which photo, and which still fit what they were
made from (dnnlib.places.Record). No TensorFlow.
"""

import collections
import os
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from dnnlib import places
from dnnlib.util import UserError, one_line
from preprocess import landmarks, picture_files
from worlds import label

SKIPPED_FILE = 'skipped.txt'
_LONGEST_NAME = 255             # bytes, of a file


class Job(NamedTuple):
    """One photo to do. name: of its results; file: the photo inside its folder; photo, landmarks: paths; known: digests
    that its results had when they were made here before.
    """
    name: str
    file: str
    photo: str
    landmarks: str
    known: Dict[str, List[Optional[str]]]


class Outcome:
    """What became of the photos: `new` done in this run, `before` done earlier, `skipped` {photo: reason}, `again`
    {reason: how many of the earlier results no longer fit}, `adopted` results without a record, `turned` {photo: how}.
    """

    def __init__(self) -> None:
        self.new, self.before, self.adopted = 0, 0, 0
        self.skipped: Dict[str, str] = {}
        self.turned: Dict[str, str] = {}
        self.again: Dict[str, int] = collections.Counter()


def result_files(name: str) -> List[str]:
    """The two results of a photo, inside the folder of results; the picture is written last."""
    return [f'coeff/{name}.mat', f'img/{name}.png']


def image_path(save_path: str, name: str) -> str:
    """The 256-pixel crop of photo `name` (without extension)."""
    return os.path.join(save_path, 'img', name + '.png')


def coeff_path(save_path: str, name: str) -> str:
    """The coefficients of photo `name` (without extension)."""
    return os.path.join(save_path, 'coeff', name + '.mat')


# ------------------------------------------------------------------------------------------------ which photos

def check_places(photo_folder: str, landmark_folder: str, save_path: str) -> None:
    """UserError when results would lie among the photos or landmarks."""
    inputs = {'--image_path': photo_folder, '--lm_path': landmark_folder}
    results = {'the results\' folder': os.path.join(save_path, 'img'),
               'the coefficients\' folder': os.path.join(save_path, 'coeff')}
    places.check_apart(inputs, results)
    if not os.path.exists(os.path.join(save_path, places.RECORD)) and not _by_an_earlier_version(save_path):
        for what, folder in results.items():
            if places.inside(folder, photo_folder) and os.path.isdir(folder) and os.listdir(folder):
                raise UserError(f'--save_path {save_path}: {what} {folder} lies among the photos and holds files that '
                                'were not made here; choose another --save_path')


def photo_names(photo_folder: str, save_path: Optional[str] = None) -> Tuple[Dict[str, str], Dict[str, str]]:
    """Photos of a folder and the folders in it -> ({name of the results: photo}, {photo: why it is left out}).

    A photo a/b.jpg is called a_b. Of two photos of one name a PNG has it, else the first by the alphabet. UserError:
    there is no photo.
    """
    files = picture_files.list_files(photo_folder, _own_folders(photo_folder, save_path) if save_path else ())
    png_first = lambda file: (not file.lower().endswith('.png'), file)
    names, skipped = {}, {}
    for file in sorted(filter(picture_files.is_picture, files), key=png_first):
        name = os.path.splitext(file)[0].replace('/', '_')
        if name in names:
            skipped[file] = f'has the name of {names[name]}, whose results it would overwrite; rename it'
        elif len(os.fsencode(name + '.png')) > _LONGEST_NAME:
            skipped[file] = 'its name, with those of its folders, is too long for the results; rename it'
        else:
            names[name] = file
    skipped.update((file, picture_files.NOT_READ) for file in files if picture_files.is_other_picture(file))
    if not names:
        raise UserError(f'{photo_folder}: no photos; {picture_files.EXPECTED}')
    return names, skipped


def _own_folders(photo_folder: str, save_path: str) -> List[str]:
    """Folders below the photos whose pictures are results."""
    results = [os.path.join(save_path, 'img'), os.path.join(save_path, 'coeff')]
    return results if places.inside(photo_folder, save_path) else results + [save_path]


def landmark_paths(photos: Sequence[str], landmark_folder: str) -> Dict[str, str]:
    """{photo: its landmark file, which need not be there}: beside it, or as if all lay in one folder."""
    stems = collections.Counter(_stem(photo) for photo in photos)
    paths = {}
    for photo in photos:
        beside = landmarks.path_of(landmark_folder, os.path.splitext(photo)[0])
        flat = landmarks.path_of(landmark_folder, _stem(photo))
        unmistakable = stems[_stem(photo)] == 1 and os.path.exists(flat)
        paths[photo] = flat if unmistakable and not os.path.exists(beside) else beside
    return paths


def _stem(photo: str) -> str:
    return os.path.splitext(photo.rpartition('/')[2])[0]


# ------------------------------------------------------------------------------------------------ what is done

def plan(photo_folder: str, landmark_folder: str, save_path: str, settings: Optional[Mapping[str, str]] = None,
         undetected: Optional[Mapping[str, str]] = None) -> Tuple[List[Job], Outcome]:
    """What there is to do: -> (jobs by name, Outcome so far).

    settings: {what: text}, what the results depend on besides photo and landmarks. undetected: {photo: why there are no
    landmarks}. Raises UserError when there are no photos at all, or results could not be kept apart from them.
    """
    check_places(photo_folder, landmark_folder, save_path)
    names, skipped = photo_names(photo_folder, save_path)
    outcome, jobs = Outcome(), []
    outcome.skipped.update(skipped)
    points = landmark_paths(list(names.values()), landmark_folder)
    sources = {name: {'photo': os.path.join(photo_folder, photo), 'landmarks': points[photo]}
               for name, photo in names.items()}
    record = places.Record(save_path)
    if _by_an_earlier_version(save_path):
        outcome.adopted = _adopt(record, sources, settings or {})
    if os.path.lexists(os.path.join(save_path, SKIPPED_FILE)) and not record.owns(SKIPPED_FILE):
        raise UserError(f'{os.path.join(save_path, SKIPPED_FILE)}: not written here, or changed since; move it away, '
                        'or choose another --save_path')
    for name, photo in names.items():
        if not os.path.exists(points[photo]):
            reason = (undetected or {}).get(photo) or f'no landmarks: {points[photo]} is missing'
            outcome.skipped[photo] = reason + _leftover(save_path, name)
            continue
        why = record.why_again(name, sources[name], settings or {})
        if why is None:
            outcome.before += 1
            continue
        in_the_way = [file for file in result_files(name)
                      if os.path.lexists(os.path.join(save_path, file)) and not record.owns(file)]
        if in_the_way:
            outcome.skipped[photo] = (f'{os.path.join(save_path, in_the_way[0])} is there, but was not made here, or '
                                      'was changed since; move it away to have it made')
            continue
        if why not in ('new', 'not finished'):
            outcome.again[why] += 1
        jobs.append(Job(name, photo, sources[name]['photo'], points[photo], record.known(result_files(name))))
    return sorted(jobs), outcome


def _by_an_earlier_version(save_path: str) -> bool:
    """Whether an earlier version, which kept no record, wrote into this folder: it left the world's name there.

    So does human.photos, with photos.json beside it; its img/ and coeff/ are no results.
    """
    names = (label.FILE, places.RECORD, 'photos.json')
    return [os.path.exists(os.path.join(save_path, name)) for name in names] == [True, False, False]


def _adopt(record: places.Record, sources: Mapping[str, Mapping[str, str]], settings: Mapping[str, str]) -> int:
    """Take what an earlier version made into the record -> how many results count as done: those not older than their
    photo and landmarks. The others are ours to replace, and so is its skipped.txt.
    """
    found, done = {}, 0
    for name, paths in sources.items():
        results = [os.path.join(record.folder, file) for file in result_files(name)]
        if not all(os.path.isfile(path) for path in results):
            continue
        newest = max(os.stat(path).st_mtime_ns for path in paths.values() if os.path.exists(path))
        fits = newest <= min(os.stat(path).st_mtime_ns for path in results)
        contents = {what: _unread(path) for what, path in paths.items() if os.path.exists(path)} if fits else {}
        found[name] = places.Made(dict.fromkeys(result_files(name)), contents, dict(settings))
        done += fits
    if os.path.isfile(os.path.join(record.folder, SKIPPED_FILE)):
        found[SKIPPED_FILE] = places.Made({SKIPPED_FILE: None}, {}, {})
    record.adopt(found)
    return done


def _unread(path: str) -> places.Content:
    about = os.stat(path)
    return places.Content(about.st_size, about.st_mtime_ns, about.st_ctime_ns, None)


def _leftover(save_path: str, name: str) -> str:
    """What to add to a reason when results of an earlier run are still there."""
    there = os.path.exists(image_path(save_path, name))
    return f'; {image_path(save_path, name)} is of an earlier run' if there else ''


def begin(save_path: str, world: str) -> None:
    """Begin to write into a folder: from now on it has a record, and the world's name."""
    places.Record(save_path).begin()
    if label.read(save_path) is None:
        label.write(save_path, world)


def write_skipped(save_path: str, skipped: Mapping[str, str]) -> None:
    """Write `skipped.txt`, a line "FILE: reason" for each photo; remove that of an earlier run when all went well."""
    record = places.Record(save_path)
    text = ''.join(one_line(f'{name}: {skipped[name]}') + '\n' for name in sorted(skipped))
    if text:
        record.put(SKIPPED_FILE, {SKIPPED_FILE: text.encode('utf-8')}, {}, {})
    else:
        record.remove(SKIPPED_FILE)
