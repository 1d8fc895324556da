"""The page in a real browser: chromium, driven by Playwright. Skips, with its reason, where one of them is missing."""

import contextlib
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

import config
from dnnlib import guard
from renderer import coefficient_files
from sampling.faces import Face
from sampling.generator import FaceGenerator
from sampling.pretrained import small_model
from tests.common import assert_close

SCRIPT = os.path.join(config.ROOT, 'app.py')
def _browser():
    """Path of a browser."""
    pytest.importorskip('playwright', reason='Playwright is not installed (it needs Python 3.10 or newer)')
    pytest.importorskip('gradio', reason='Gradio is not installed (it needs Python 3.10 or newer)')
    path = shutil.which('chromium') or shutil.which('google-chrome')
    return path or pytest.skip('no browser: install chromium (Debian: apt install chromium)')


@contextlib.contextmanager
def _served(*options):
    """Address of the page, served by a process of its own."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, SCRIPT, '--port', str(port)] + list(options), stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, universal_newlines=True)
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith('the page: '):
                break
        assert said[-1].startswith('the page: '), ''.join(said)
        yield said[-1].split()[2].rstrip('/')
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope='module')
def address():
    _browser()
    with _served('--model', small_model()) as found:
        yield found


@pytest.fixture(scope='module')
def browser(address):
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=_browser())
        yield opened
        opened.close()


@pytest.fixture
def page(browser, address):
    """The page, loaded; it must not ask other hosts for anything."""
    asked, opened = [], browser.new_page(viewport={'width': 1280, 'height': 900})
    opened.on('request', lambda request: asked.append(request.url))
    opened.goto(address)
    opened.wait_for_selector('#came img', timeout=120000)
    yield opened
    opened.close()
    foreign = [url for url in asked if not url.startswith((address, 'data:', 'blob:'))]
    assert len(asked) > 5 and not foreign


def _picture(page, name='came'):
    return page.locator(f'#{name} img').get_attribute('src')


def _wait_for_another(page, old, name='came', seconds=60):
    page.wait_for_function('([name, old]) => document.querySelector(`#${name} img`).src !== old', arg=[name, old],
                           timeout=1000 * seconds)


# Moves a slider as a hand does and waits until the picture has changed -> milliseconds.
_MOVE = """async ([id, value]) => {
    const slider = document.querySelector(`#${id} input[type=range]`), old = document.querySelector('#came img').src;
    const start = performance.now();
    slider.value = value;
    slider.dispatchEvent(new Event('input', {bubbles: true}));
    while (document.querySelector('#came img').src === old && performance.now() - start < 20000)
        await new Promise(resolve => setTimeout(resolve, 1));
    await document.querySelector('#came img').decode();
    return performance.now() - start;
}"""


def test_a_slider_moves_the_picture_soon(page):
    first = _picture(page), _picture(page, 'asked')
    times = sorted(page.evaluate(_MOVE, ['value-yaw', value]) for value in (0.1, 0.2, 0.3, 0.4, 0.3, 0.2, 0.1, 0.35))
    assert _picture(page) != first[0] and _picture(page, 'asked') != first[1]
    print(f'from slider to picture: {times[0]:.0f} to {times[-1]:.0f} ms, median {times[len(times) // 2]:.0f}')


def test_many_moves_end_with_the_last_value(page):
    """Events do not pile up: what is drawn in the end is what the slider shows."""
    for value in [i / 100 for i in range(-30, 30)] + [0.3]:
        page.evaluate("""value => { const slider = document.querySelector('#value-yaw input[type=range]');
            slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }""", value)
    page.wait_for_timeout(3000)
    assert _saved(page, 'face.mat').yaw == pytest.approx(0.3, abs=0.006)


def _saved(page, name):
    with page.expect_download() as download:
        page.click(f'a[download="{name}"]')
    path = os.path.join(os.path.dirname(download.value.path()), name)       # the ending tells the kind
    download.value.save_as(path)
    return Face.load(path) if name.endswith('.mat') else path


def test_buttons_make_another_person_who_is_kept(page):
    old = _picture(page)
    page.get_by_role('button', name='New person').click()
    _wait_for_another(page, old)
    assert re.match('person [0-9]+$', page.locator('#note').inner_text())
    face = _saved(page, 'face.mat')
    with FaceGenerator(small_model()) as faces:
        shown = page.evaluate("fetch(document.querySelector('#came img').src).then(x => x.arrayBuffer())"
                              ".then(x => Array.from(new Uint8Array(x)))")
        shown = np.asarray(Image.open(io.BytesIO(bytes(shown))))
        assert_close(shown, faces.images([face])[0], atol=1)        # a level, where pictures share a batch
    assert page.locator('#seed input').input_value() == page.locator('#note').inner_text().split()[1]
    for name in ('New expression', 'New light', 'Straight'):
        old = _picture(page)
        page.get_by_role('button', name=name).click()
        _wait_for_another(page, old)
    assert not _saved(page, 'face.mat').pose.any()


def test_saved_coefficients_are_what_generate_images_mine_reads(page, tmp_path):
    face = _saved(page, 'face.mat')
    (tmp_path / 'in').mkdir()
    face.save(str(tmp_path / 'in' / 'face.mat'))
    assert_close(coefficient_files.read_reconstruction(str(tmp_path / 'in' / 'face.mat'))[:254], face.coeffs[:254])
    command = ['generate_images_mine.py', '--model', small_model(), '--input', str(tmp_path / 'in'), '--outdir',
               str(tmp_path / 'out'), '--take', 'identity,expression,lighting,pose']
    subprocess.check_call([sys.executable] + command, cwd=config.ROOT)
    assert os.listdir(str(tmp_path / 'out')).count('face.png') == 1


def test_a_strip(page):
    page.get_by_role('tab', name='Sweep').click()
    page.get_by_role('button', name='Draw the strip').click()
    page.wait_for_selector('#strip img', timeout=60000)
    width, height = page.locator('#strip img').evaluate('image => [image.naturalWidth, image.naturalHeight]')
    assert width > 5 * 128 and height > 2 * 128


def _search_for(page, path):
    page.get_by_role('tab', name='Photo').click()
    page.locator('#photo-file input[type=file]').set_input_files(path)
    page.wait_for_selector('#photo-file .file-preview', timeout=30000)
    page.get_by_role('button', name='Search for the photo').click()


def test_a_broken_file_is_one_line(page, tmp_path):
    (tmp_path / 'broken.png').write_bytes(b'\x89PNG\r\n\x1a\n, and then nothing')
    old = _picture(page)
    _search_for(page, str(tmp_path / 'broken.png'))
    page.wait_for_selector('.toast-body.error', timeout=30000)
    said = page.locator('.toast-message-text').inner_text()
    assert 'cannot be read as a picture' in said and '\n' not in said.strip() and str(tmp_path) not in said
    assert _picture(page) == old
    _shot(page, 'app-error.png')


def test_a_photo_is_searched_for_and_turned(page, tmp_path):
    path = _saved(page, 'face.png')
    shutil.copy(path, str(tmp_path / 'photo.png'))
    page.get_by_role('tab', name='Photo').click()
    page.locator('#steps input[type=number]').fill('50')
    page.locator('#steps input[type=number]').press('Enter')
    _search_for(page, str(tmp_path / 'photo.png'))
    page.wait_for_selector('#photo img', timeout=240000)
    assert page.locator('#note').inner_text().startswith('photo, found to')
    page.get_by_role('tab', name='Values').click()
    before = _picture(page)
    page.evaluate(_MOVE, ['value-yaw', -0.4])
    assert _picture(page) != before
    _shot(page, 'app-photo.png')


def test_too_large_a_file_is_refused(page, tmp_path):
    (tmp_path / 'large.png').write_bytes(bytes(guard.MOST_BYTES + 100000))
    page.get_by_role('tab', name='Photo').click()
    page.locator('#photo-file input[type=file]').set_input_files(str(tmp_path / 'large.png'))
    page.wait_for_selector('.toast-body.error', timeout=30000)
    assert not page.locator('#photo-file .file-preview').count()


def test_the_page_looks_as_it_should(page):
    """Everything in sight, nothing out of the window; the screenshot is for people to look at."""
    _shot(page, 'app.png')
    width = page.evaluate('document.documentElement.scrollWidth')
    assert width <= 1280
    for name in ('#asked img', '#came img', '#value-yaw', '#value-smile', '#seed'):
        box = page.locator(name).bounding_box()
        assert box['width'] > 60 and box['x'] >= 0 and box['y'] + box['height'] <= 900, name


def _shot(page, name):
    """A screenshot, kept where DISCO_SHOTS says."""
    folder = os.environ.get('DISCO_SHOTS')
    if folder:
        page.screenshot(path=os.path.join(folder, name))


# ---- without a browser

@pytest.mark.parametrize('path', ['gradio_api/file=README.md', f'gradio_api/file={SCRIPT}', 'file=app.py',
                                  'gradio_api/file=/etc/passwd', 'gradio_api/file=../../README.md',
                                  'gradio_api/file%3DREADME.md', 'gradio_api/file=http://127.0.0.1:1/'])
def test_nothing_is_read_by_path(address, path):
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f'{address}/{path}')
    assert caught.value.code in (403, 404) and b'import' not in caught.value.read()


def test_it_listens_on_this_machine_only(address):
    port, others = int(address.rpartition(':')[2]), set(socket.gethostbyname_ex(socket.gethostname())[2])
    for host in others - {'127.0.0.1', '127.0.1.1'}:
        with socket.socket() as probe:
            probe.settimeout(5)
            assert probe.connect_ex((host, port)) != 0, host


def test_without_gradio_it_says_what_to_do(tmp_path):
    (tmp_path / 'gradio.py').write_text('raise ImportError("No module named gradio")')
    environment = dict(os.environ, PYTHONPATH=str(tmp_path))
    done = subprocess.run([sys.executable, SCRIPT, '--model', small_model()], env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=120)
    assert done.returncode == 1 and done.stderr.startswith('error: the page needs Gradio') and 'make app' in done.stderr
