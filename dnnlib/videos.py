"""Videos of frames: mp4 (ffmpeg, which imageio-ffmpeg brings along), gif and animated webp (Pillow); they loop."""

import contextlib
import os
import shutil
from typing import Any, Callable, Iterator, List

import numpy as np
from PIL import Image, features

from dnnlib.util import UserError, atomic_path

KINDS = ('.mp4', '.gif', '.webp')
FASTEST = {'.gif': 50}          # frames a second: viewers slow down a gif that is faster
_LONGEST_SIDE = 16383           # pixels: the format's of webp, and about what ffmpeg takes
_MOST_BYTES = 10 ** 9           # of the frames of a gif or webp, which Pillow wants all at once
_BT709 = [                      # said twice: old ffmpegs take it from the options, new ones from the frames
    '-vf', 'scale=out_color_matrix=bt709,setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709',
    '-color_primaries', 'bt709', '-color_trc', 'bt709', '-colorspace', 'bt709']
_SAMPLE = 16                    # frames that give a gif its colours


def kind_of(path: str) -> str:
    """'.mp4', '.gif' or '.webp' of a file name, in any letters. UserError for another one."""
    kind = os.path.splitext(path)[1].lower()
    if kind not in KINDS:
        raise UserError(f'{path}: expected a name that ends in {", ".join(KINDS[:-1])} or {KINDS[-1]}')
    return kind


def check_request(path: str, fps: float, overwrite: bool = False) -> None:
    """UserError, before any work, where a video could not be written: its place, its kind, its pace."""
    kind = kind_of(path)
    if fps > FASTEST.get(kind, fps):
        raise UserError(f'{fps:g} frames a second: {kind} has {FASTEST[kind]} at most; ask for fewer, or for .mp4')
    if kind == '.mp4':
        _find_ffmpeg()
    if kind == '.webp' and not features.check('webp'):
        raise UserError(f'{path}: this Pillow was built without webp; use .gif or .mp4')
    if os.path.isdir(path) or os.path.lexists(path) and not overwrite:
        raise UserError(f'{path}: is there already; choose another name'
                        + ('' if os.path.isdir(path) else ', or --overwrite'))


@contextlib.contextmanager
def writing(path: str, fps: float, count: int, overwrite: bool = False) -> Iterator[Callable[[np.ndarray], None]]:
    """Write a video of `count` frames so that it appears complete or not at all.

    Yields add(frame), frame: uint8 RGB [H, W, 3], all of one size, even for mp4. The kind is that of the file's name.
    """
    check_request(path, fps, overwrite)
    with atomic_path(path) as temporary:
        video: Any = (_Mp4 if kind_of(path) == '.mp4' else _Animation)(temporary, fps)

        def add(frame: np.ndarray) -> None:
            if not video.count:
                _check_size(kind_of(path), frame.shape, count)
            video.add(frame)
            video.count += 1

        try:
            yield add
            if video.count != count:
                raise ValueError(f'{video.count} frames instead of {count}')
            video.finish()
        finally:
            video.close()
        check_request(path, fps, overwrite)         # the work may have taken hours


def _check_size(kind, shape, count):
    height, width = shape[:2]
    size = f'frames of {width} x {height} pixels'
    if max(height, width) > _LONGEST_SIDE:
        raise UserError(f'{size}: {_LONGEST_SIDE} is the longest side; use a smaller grid or scale')
    if kind == '.mp4' and (height % 2 or width % 2):
        raise UserError(f'{size}: mp4 wants even numbers; use an even scale, or .gif or .webp')
    if kind != '.mp4' and count * height * width * 3 > _MOST_BYTES:
        raise UserError(f'{count} {size}: too large for {kind}; use .mp4, fewer frames, or a smaller grid or scale')


def _find_ffmpeg():
    """imageio_ffmpeg, when its ffmpeg can be run."""
    try:
        import imageio_ffmpeg
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        raise UserError('.mp4 needs ffmpeg: pip install imageio-ffmpeg brings one along; or use .gif or .webp')
    if not shutil.which(program):
        raise UserError(f'IMAGEIO_FFMPEG_EXE={program}: no such program; unset it, or use .gif or .webp')
    return imageio_ffmpeg


class _Mp4:
    """H.264 as every player takes it. Colours are marked as BT.709, which players assume of large pictures only."""

    def __init__(self, path: str, fps: float) -> None:
        self.count = 0
        self._path, self._fps = path, fps
        self._ffmpeg: Any = None

    def add(self, frame: np.ndarray) -> None:
        """Hand a frame to ffmpeg, which starts with the first."""
        if self._ffmpeg is None:
            self._ffmpeg = _find_ffmpeg().write_frames(
                self._path, (frame.shape[1], frame.shape[0]), fps=self._fps, quality=7, macro_block_size=2,
                ffmpeg_log_level='quiet', output_params=_BT709 + ['-movflags', '+faststart'])
        try:
            if not self.count:
                self._ffmpeg.send(None)         # starts it
            self._ffmpeg.send(frame.tobytes())
        except (OSError, RuntimeError) as error:
            raise self._failed() from error

    def _failed(self):
        return UserError(f'{os.path.basename(self._path)}: ffmpeg could not write it: is the disk full, does this '
                         'ffmpeg know H.264? Or use .gif or .webp')

    def finish(self) -> None:
        """Wait for ffmpeg, whose exit code nobody tells: count what it wrote."""
        self.close()
        try:
            written, _ = _find_ffmpeg().count_frames_and_secs(self._path)
        except (OSError, RuntimeError) as error:
            raise self._failed() from error
        if written != self.count:
            raise self._failed()

    def close(self) -> None:
        """End ffmpeg; closing twice is harmless."""
        if self._ffmpeg is not None:
            self._ffmpeg.close()


class _Animation:
    """A gif or webp."""

    def __init__(self, path: str, fps: float) -> None:
        self.count = 0
        self._path, self._fps = path, fps
        self._frames: List[Image.Image] = []

    def add(self, frame: np.ndarray) -> None:
        """Keep a frame."""
        self._frames.append(Image.fromarray(frame))

    def finish(self) -> None:
        """Write all frames; a frame lasts whole hundredths of a second in a gif, thousandths in a webp."""
        gif, frames = kind_of(self._path) == '.gif', self._frames
        unit = 10 if gif else 1                     # milliseconds
        times = [int(round(1000 / unit * i / self._fps)) * unit for i in range(len(frames) + 1)]
        kind_options = {'optimize': False} if gif else {'quality': 80, 'method': 4}
        frames = _in_few_colours(frames) if gif else frames
        frames[0].save(self._path, save_all=True, append_images=frames[1:], loop=0,
                       duration=[int(n) for n in np.diff(times)], **kind_options)

    def close(self) -> None:
        """Free the frames."""
        self._frames = []


def _in_few_colours(frames):
    """RGB frames with one palette for all, so that what stands still does not flicker."""
    chosen = [np.asarray(frames[i]) for i in np.linspace(0, len(frames) - 1, min(_SAMPLE, len(frames))).astype(int)]
    palette = Image.fromarray(np.concatenate(chosen)).quantize(256, method=Image.MEDIANCUT, kmeans=1)
    return [frame.quantize(palette=palette, dither=Image.NONE) for frame in frames]
