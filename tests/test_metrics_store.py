"""What metrics keep on disk and read from it: blocks that survive an interruption, real pictures in both forms."""

import os

import numpy as np
import pytest
from PIL import Image

import config
from dnnlib.util import UserError
from metrics.reals import Reals, mirrored, reduced, world_of
from metrics.store import Store
from preprocess import dataset_writer
from tests.common import assert_close
from worlds import label


class Maker:
    """Makes rows `start` .. and remembers which; stops before row `stop_at` as Ctrl-C would."""

    def __init__(self, stop_at=None):
        self.stop_at, self.made = stop_at, []

    def __call__(self, start, count):
        if self.stop_at is not None and start >= self.stop_at:
            raise KeyboardInterrupt
        self.made.append((start, count))
        return {'x': np.arange(start, start + count)[:, None] * [1.0, 2.0], 'y': np.full(count, start)}


def _collect(folder, maker, facts=None, total=10, passing=False):
    store = Store(folder)
    return store, store.collect('thing', facts or {'a': 1}, total, 4, maker, passing=passing)


def test_an_interrupted_collection_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _collect(str(tmp_path), Maker(stop_at=8))
    rest, none = Maker(), Maker()
    _, arrays = _collect(str(tmp_path), rest)
    assert rest.made == [(8, 2)]
    assert_close(arrays['x'], np.arange(10)[:, None] * [1.0, 2.0])
    assert_close(arrays['y'], [0, 0, 0, 0, 4, 4, 4, 4, 8, 8])
    _, again = _collect(str(tmp_path), none)
    assert not none.made and again['x'].tolist() == arrays['x'].tolist()
    assert [name for name in os.listdir(str(tmp_path)) if not name.endswith('.npz')] == []


def test_what_decides_the_arrays_is_their_key(tmp_path):
    _collect(str(tmp_path), Maker())
    for facts, total in (({'a': 2}, 10), ({'a': 1}, 9)):
        maker = Maker()
        _collect(str(tmp_path), maker, facts, total)
        assert maker.made


@pytest.mark.parametrize('damage', [b'', b'PK\x03\x04 no zip', None])
def test_a_damaged_file_is_made_again(tmp_path, capsys, damage):
    with pytest.raises(KeyboardInterrupt):
        _collect(str(tmp_path), Maker(stop_at=8))
    parts = os.path.join(str(tmp_path), os.listdir(str(tmp_path))[0])
    path = os.path.join(parts, sorted(os.listdir(parts))[0])
    with open(path, 'rb') as file:
        content = file.read()
    with open(path, 'wb') as file:
        file.write(content[:-30] if damage is None else damage)
    maker = Maker()
    _, arrays = _collect(str(tmp_path), maker)
    assert maker.made == [(0, 4), (8, 2)] and arrays['x'][1, 1] == 2
    assert 'damaged; it is made again' in capsys.readouterr().err


def test_passing_arrays_are_discarded(tmp_path):
    store, _ = _collect(str(tmp_path), Maker(), passing=True)
    kept, _ = _collect(str(tmp_path), Maker(), {'a': 5})
    store.discard()
    kept.discard()
    assert len(os.listdir(str(tmp_path))) == 1


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='no folder for half-finished work can be made'):
        _collect(str(tmp_path / 'file'), Maker())


# ---- real pictures

@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """(folder of 7 pictures of 16 pixels, the pictures)."""
    folder = tmp_path_factory.mktemp('real') / 'img'
    folder.mkdir()
    arrays = np.random.RandomState(0).randint(0, 256, [7, 16, 16, 3]).astype(np.uint8)
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(str(folder / f'{i:03d}.png'))
    label.write(str(folder.parent), 'human')
    return str(folder.parent), arrays


@pytest.fixture(scope='module')
def records(pictures, tmp_path_factory):
    """The same pictures as TFRecords in their order."""
    folder = str(tmp_path_factory.mktemp('records') / 'set')
    source = dataset_writer.ImageFiles(os.path.join(pictures[0], 'img'))
    dataset_writer.write_dataset(folder, source, shuffle=False, workers=1, world_name='human')
    return folder


def test_reals_are_the_same_from_both_forms(pictures, records):
    folder, arrays = pictures
    for place in (folder, os.path.join(folder, 'img'), records):
        reals = Reals(place, 16, 100)
        assert reals.count == 7 and world_of(place) == 'human'
        assert_close(reals.read(2, 3), arrays[2:5])
        assert_close(reals.read(5, 2), arrays[5:])
        assert_close(reals.read(0, 4), arrays[:4])      # backwards too
        assert Reals(place, 16, 3).count == 3
        small = Reals(place, 8, 100).read(0, 7)
        assert_close(small, np.stack([reduced(array, 2) for array in arrays]))


def test_facts_of_reals_follow_their_files(pictures):
    before = Reals(pictures[0], 16, 9).facts
    assert before == Reals(pictures[0], 16, 9).facts != Reals(pictures[0], 8, 9).facts
    path = os.path.join(pictures[0], 'img', '000.png')
    os.utime(path, (1, 1))
    assert before != Reals(pictures[0], 16, 9).facts


def test_reals_that_do_not_fit_are_named(pictures, records, tmp_path):
    with pytest.raises(UserError, match='000.png: 16x16 pixels; expected a square of 32'):
        Reals(pictures[0], 32, 9).read(0, 1)
    with pytest.raises(UserError, match='no pictures of 32 pixels, the finest have 16'):
        Reals(records, 32, 9)
    with pytest.raises(UserError, match='neither TFRecords'):
        Reals(str(tmp_path), 16, 9)
    with pytest.raises(UserError, match='no such dataset folder'):
        Reals(os.path.join(config.ROOT, 'nowhere'), 16, 9)
    (tmp_path / 'a.png').write_bytes(b'nothing')
    with pytest.raises(UserError, match='a.png: cannot be read as a picture'):
        Reals(str(tmp_path), 16, 9).read(0, 1)


def test_mirroring_depends_on_seed_and_number_alone(pictures):
    whole = mirrored(pictures[1], 5, 0)
    assert_close(np.concatenate([mirrored(pictures[1][:3], 5, 0), mirrored(pictures[1][3:], 5, 3)]), whole)
    turned = [bool((a != b).any()) for a, b in zip(whole, pictures[1])]
    assert_close(whole[turned], pictures[1][turned][:, :, ::-1])
    assert 0 < sum(turned) < 7
