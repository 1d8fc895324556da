"""generate_video.py: what moves, frames equal to those of generate_images.py, files, messages, nothing half-written."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import config
from dnnlib import videos
from dnnlib.util import UserError
from renderer import factors
from sampling import motion
from tests.test_generate_images import SCRIPT as PICTURES_SCRIPT
from tests.test_generate_images import here, pictures, run_script, world  # noqa: F401

SCRIPT = os.path.join(config.ROOT, 'generate_video.py')


class _Move:
    def __init__(self, stops):
        self.stops = stops


# ---- ways

@pytest.mark.parametrize('count', (5, 7, 60))
def test_a_closed_way_rests_at_each_stop_once(count):
    moves = [_Move(2), _Move(3)]
    way = list(motion.closed_way(moves, count))
    assert len(way) == count
    stops = [(moves.index(move), step.start) for move, step in way if step.share == 0]
    assert stops == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    assert all(0 <= step.share < 1 and step.end == (step.start + 1) % move.stops for move, step in way)
    assert [moves.index(move) for move, _ in way] == sorted(moves.index(move) for move, _ in way)


def test_latents_move_on_great_circles_and_the_pose_straight():
    a, b = np.random.RandomState(0).standard_normal([2, factors.NUM_LATENTS + 32])
    assert np.array_equal(motion.between(a, b, 0), a)
    assert np.array_equal(motion.between(a, a, 0.3), a)         # what does not move stays exactly
    identity, pose = factors.BY_NAME['id'].latents, factors.BY_NAME['rot'].latents
    noise = slice(factors.NUM_LATENTS, None)
    half = motion.between(a, b, 0.5)
    np.testing.assert_allclose(half[pose], (a[pose] + b[pose]) / 2)
    for where in (identity, noise):
        ends = np.linalg.norm(a[where]), np.linalg.norm(b[where])
        assert min(ends) * 0.95 < np.linalg.norm(half[where]) < max(ends) * 1.05
        assert np.linalg.norm((a + b)[where] / 2) < min(ends) * 0.85            # what a straight line would do
    np.testing.assert_allclose(motion.between(a, b, 1 - 1e-9), b, atol=1e-6)
    assert np.isfinite(motion.between(a, -a, 0.5)).all() and np.isfinite(motion.between(0 * a, b, 0.5)).all()


# ---- frames

def _tiles(folder, columns):
    """Frames kept at scale 1 -> [frames, places, 8, 8, 3]."""
    frames = np.stack(list(pictures(folder).values()))
    count, height, width = frames.shape[:3]
    tiles = frames.reshape(count, height // 8, 8, width // 8, 8, 3).transpose(0, 1, 3, 2, 4, 5)
    assert width == columns * 8
    return tiles.reshape(count, -1, 8, 8, 3)


def _film(options, columns, capsys):
    """Frames of a gif of ten frames a second."""
    name = f'film{len(os.listdir("."))}'
    code, out, err = run_script(SCRIPT, options + ['--fps', 10, '--scale', 1, '--out', f'{name}.gif', '--frames', name],
                                capsys)
    assert code == 0 and f'{name}.gif' in out, err
    return _tiles(name, columns)


def _draw(options, capsys):
    """Pictures of generate_images.py."""
    folder = f'drawn{len(os.listdir("."))}'
    code, _, err = run_script(PICTURES_SCRIPT, options + ['--outdir', folder], capsys)
    assert code == 0, err
    return pictures(folder)


def test_frames_of_a_sweep_are_the_pictures_of_these_values(world, here, capsys):  # noqa: F811
    common = world + ['--seeds', '3,7', '--set', 'light_left=0.1,pitch=0.05', '--trunc', 0.5, '--batch', 2]
    tiles = _film(common + ['--sweep', 'roll=-0.02:0.02', '--seconds', 1], 2, capsys)
    assert tiles.shape[:2] == (10, 2) and len(np.unique(tiles[:6, 0], axis=0)) == 6
    share = float(1 - np.cos(np.pi * 2 / 5)) / 2
    for frame, value, mirrored in ((0, -0.02, 0), (5, 0.02, 5), (2, -0.02 + 0.04 * share, 8)):
        drawn = _draw(common + ['--sweep', f'roll={value!r}:{value!r}:2'], capsys)
        assert np.array_equal(tiles[frame, 0], drawn['003_00.png'])
        assert np.array_equal(tiles[frame, 1], drawn['007_00.png'])
        assert np.array_equal(tiles[frame], tiles[mirrored])            # there and back: a loop without a seam


def test_stops_of_walks_are_the_pictures_of_generate_images(world, here, capsys):  # noqa: F811
    common = world + ['--seeds', '3,7', '--factor', 'expression', '--variation', 2, '--batch', 2]
    tiles = _film(common + ['--seconds', 1.2], 2, capsys)
    drawn = _draw(common, capsys)
    for place, name in enumerate(('003', '007')):
        for frame, variation in ((4, '00'), (8, '01')):
            assert np.array_equal(tiles[frame, place], drawn[f'{name}_{variation}.png'])
    assert not np.array_equal(tiles[6], tiles[4])
    people = world + ['--seeds', '3,7', '--batch', 1]
    tiles = _film(people + ['--grid', '1x1', '--walk', 2, '--set', 'roll=0.01', '--seconds', 0.8], 1, capsys)
    drawn = _draw(people + ['--sweep', 'roll=0.01:0.02:2'], capsys)
    assert np.array_equal(tiles[0, 0], drawn['003_00.png']) and np.array_equal(tiles[4, 0], drawn['007_00.png'])
    assert len(np.unique(tiles[:5, 0], axis=0)) == 5


def test_without_options_three_things_move(world, here, capsys):  # noqa: F811
    code, out, err = run_script(SCRIPT, world + ['--fps', 2, '--seconds', 10, '--frames', 'f', '--scale', 2], capsys)
    assert code == 0 and '4 x 2 people, 20 frames: generate_video/tour.mp4' in out, err
    frames = pictures('f')
    assert len(frames) == 20 and {frame.shape for frame in frames.values()} == {(32, 64, 3)}
    first = frames['00000.png']
    for name in ('00002.png', '00008.png', '00014.png'):        # away from rest in each move
        assert not np.array_equal(frames[name], first), name
    for name in ('00006.png', '00012.png'):                     # at rest between them
        assert np.array_equal(frames[name], first), name
    assert os.path.getsize('generate_video/tour.mp4') > 500


# ---- files

def _rainbow(count, height=32, width=48):
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return [np.stack([x, y, np.full_like(x, 255 * i / count)], axis=2).astype(np.uint8) for i in range(count)]


def _write(path, frames, fps, **options):
    with videos.writing(path, fps, len(frames), **options) as add:
        for frame in frames:
            add(frame)


@pytest.mark.parametrize('kind', ('gif', 'webp'))
def test_animations_hold_frames_times_and_loop(kind, here):  # noqa: F811
    frames = _rainbow(7)
    _write(f'a.{kind}', frames, 24)
    with Image.open(f'a.{kind}') as image:
        assert image.n_frames == 7 and image.size == (48, 32) and image.info['loop'] == 0
        total = 0
        for i, frame in enumerate(frames):
            image.seek(i)
            image.load()
            total += image.info['duration']
            assert np.abs(np.asarray(image.convert('RGB')).astype(int) - frame).mean() < 9, i
    assert total == (290 if kind == 'gif' else 292)


def test_mp4_holds_the_frames(here):  # noqa: F811
    import imageio_ffmpeg
    frames = _rainbow(9)
    _write('a.mp4', frames, 24)
    reader = imageio_ffmpeg.read_frames('a.mp4')
    about = next(reader)
    assert about['size'] == (48, 32) and about['fps'] == 24 and about['codec'] == 'h264'
    found = [np.frombuffer(data, np.uint8).reshape(32, 48, 3) for data in reader]
    assert len(found) == 9
    assert max(np.abs(a.astype(int) - b).mean() for a, b in zip(frames, found)) < 6


def test_what_cannot_be_written_is_said_before_or_at_the_first_frame(here, monkeypatch):  # noqa: F811
    for frames, name, message in ((_rainbow(2, 31, 48), 'a.mp4', 'even'), (_rainbow(1, 1, 20000), 'a.gif', '16383')):
        with pytest.raises(UserError, match=message):
            _write(name, frames, 25)
    monkeypatch.setattr(videos, '_MOST_BYTES', 1000)
    with pytest.raises(UserError, match='too large for .webp; use .mp4'):
        _write('a.webp', _rainbow(2), 25)
    monkeypatch.setenv('IMAGEIO_FFMPEG_EXE', 'none/ffmpeg')
    with pytest.raises(UserError, match='IMAGEIO_FFMPEG_EXE=none/ffmpeg: no such program'):
        _write('a.mp4', _rainbow(2), 25)
    monkeypatch.setitem(sys.modules, 'imageio_ffmpeg', None)
    with pytest.raises(UserError, match='pip install imageio-ffmpeg'):
        _write('a.mp4', _rainbow(2), 25)
    assert os.listdir('.') == []


@pytest.mark.parametrize('script', ('cat > /dev/null; exit 1', 'exit 1'))
def test_an_ffmpeg_that_fails_leaves_nothing(script, here, monkeypatch):  # noqa: F811
    import imageio_ffmpeg
    imageio_ffmpeg.get_ffmpeg_version()
    with open('ffmpeg', 'w') as file:
        file.write(f'#!/bin/bash\n{script}\n')
    os.chmod('ffmpeg', 0o755)
    monkeypatch.setenv('IMAGEIO_FFMPEG_EXE', os.path.abspath('ffmpeg'))
    with pytest.raises(UserError, match='a.mp4: ffmpeg could not write it'):
        _write('a.mp4', _rainbow(40, 256, 256), 25)
    assert os.listdir('.') == ['ffmpeg']


@pytest.mark.parametrize('kind', ('mp4', 'gif'))
def test_a_video_appears_whole_or_not_at_all(kind, here):  # noqa: F811
    name = f'a.{kind}'
    for stopped in (KeyboardInterrupt, ValueError):
        with pytest.raises(stopped), videos.writing(name, 25, 3) as add:
            add(_rainbow(3)[0])
            raise stopped
    assert os.listdir('.') == []
    _write(name, _rainbow(3), 25)
    with open(name, 'rb') as file:
        before = file.read()
    with pytest.raises(UserError, match='is there already; .* --overwrite'):
        _write(name, _rainbow(2), 25)
    with open(name, 'rb') as file:
        assert file.read() == before
    _write(name, _rainbow(2), 25, overwrite=True)
    assert os.listdir('.') == [name] and os.path.getsize(name) != len(before)


def test_an_interrupted_run_leaves_nothing(world, here):  # noqa: F811
    options = [str(option) for option in world + ['--seconds', 900, '--frames', 'f', '--out', 'o/a.mp4']]
    child = subprocess.Popen([sys.executable, SCRIPT] + options, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                             universal_newlines=True)
    end = time.time() + 120
    while time.time() < end and not any('00009.png' in files for _, _, files in os.walk('.')):
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 130 and err.endswith('interrupted\n'), err
    assert os.listdir('.') == ['o'] and os.listdir('o') == []


# ---- messages

@pytest.mark.parametrize('bad,message', [
    (['--out', 'a.avi'], 'a.avi: expected a name that ends in .mp4, .gif or .webp'),
    (['--out', 'a'], 'a: expected a name that ends in'),
    (['--fps', '0'], '--fps: 0 is out of range'),
    (['--fps', '60', '--out', 'a.gif'], '.gif has 50 at most'),
    (['--seconds', '0'], '--seconds: 0 is out of range'),
    (['--seconds', '0.1'], 'are 2 frames; expected 10'),
    (['--seconds', '3600', '--fps', '120'], 'to 100000: change --seconds or --fps'),
    (['--grid', '4'], "'4': expected columns x rows"),
    (['--grid', '0x2'], "'0x2': expected columns x rows"),
    (['--grid', '2x2', '--seeds', '1-3'], '--seeds names 3 people; --grid 2x2 has 4 places: 4 are needed'),
    (['--walk', '2', '--seeds', '1-3'], 'each with 2 to walk through: 2 are needed'),
    (['--walk', '1'], '--walk: 1 is out of range'),
    (['--sweep', 'yaw=-1:1:9'], 'expected name=from:to, e.g. yaw=-0.6:0.6, without a count'),
    (['--sweep', 'yaw'], 'expected name=from:to'),
    (['--sweep', 'yaw=x:1'], 'expected a number, radians'),
    (['--rate', '2'], '--rate: 2 is out of range'),
    (['--model', 'none.pkl'], '--model none.pkl: no such file'),
    (['--out', '/proc/none/a.gif'], '/proc/none/a.gif: cannot be written'),
    (['--frames', 'full'], 'not an empty folder'),
    (['--out', 'full/mine.gif'], 'full/mine.gif: is there already; choose another name, or --overwrite'),
    (['--out', 'full.gif', '--overwrite'], 'full.gif: is there already; choose another name'),
])
def test_bad_options_are_one_line(bad, message, here, capsys):  # noqa: F811
    os.makedirs('full')
    os.mkdir('full.gif')
    with open('full/mine.gif', 'w'):
        pass
    code, out, err = run_script(SCRIPT, bad, capsys)
    assert code == 1 and message in err and err.startswith('error: ') and err.count('\n') == 1, err
    assert set(os.listdir('.')) - {'generate_video'} == {'full', 'full.gif'} and os.listdir('full') == ['mine.gif']


def test_unknown_names_are_one_line_and_leave_nothing(world, here, capsys):  # noqa: F811
    code, _, err = run_script(SCRIPT, world + ['--sweep', 'smyle=0:1', '--out', 'a.gif', '--frames', 'f'], capsys)
    assert code == 1 and "unknown name 'smyle'" in err and err.splitlines()[-1].startswith('error: ')
    assert os.listdir('.') == []
