"""A page in the browser: sliders move a face, the render that is asked for stands beside the picture that comes.

Needs Gradio, on Python 3.10 or newer: `make app`. It listens on this machine only, unless --host says otherwise, and
loads nothing from the network. Uploaded photos are kept for ten minutes, at most until it ends.
"""

import base64
import functools
import html
import itertools
import os
import secrets
import signal
import sys
import tempfile

import dnnlib  # noqa: F401       first, so that Ctrl-C during the imports leaves no traceback
from dnnlib import guard
from dnnlib.options import whole
from dnnlib.util import UserError, run_main
from sampling import options

HOST = os.environ.get('GRADIO_SERVER_NAME', '127.0.0.1')       # Hugging Face Spaces sets it
ENDINGS = ['.png', '.jpg', '.jpeg', '.webp', '.bmp', '.tif', '.tiff']
COLUMNS = 3                     # of sliders
CSS = '''
.faces { display: flex; gap: 12px; flex-wrap: wrap; } .faces figure { margin: 0; flex: 1 1 140px; max-width: 320px; }
.faces img { width: 100%; display: block; border-radius: 6px; } .strip img { max-width: 100%; }
.faces figcaption, .note { font-size: 0.9em; margin-top: 4px; } .note a { margin-right: 1em; }
#left { position: sticky; top: 8px; align-self: flex-start; }
'''


def _parse():
    parser = options.Parser(description=__doc__, formatter_class=options.argparse.RawDescriptionHelpFormatter)
    options.add_model_options(parser)
    group = parser.add_argument_group('page')
    group.add_argument('--host', metavar='ADDRESS', default=HOST, help='where it listens; 0.0.0.0: on all networks of '
                       'this machine (default: %(default)s)')
    group.add_argument('--port', type=whole(1, 65535), default=7860, metavar='N', help='(default: %(default)s)')
    group.add_argument('--share', action='store_true', help='open it to everybody through a tunnel of gradio.live '
                       '(default: off)')
    args = parser.parse_args()
    options.check_files(args)
    return args


def import_gradio():
    """The module, told to keep to itself. UserError where it is not there."""
    os.environ.update(GRADIO_ANALYTICS_ENABLED='False', HF_HUB_DISABLE_TELEMETRY='1')
    try:
        import gradio
    except ImportError as error:
        raise UserError(f'the page needs Gradio on Python 3.10 or newer ({error}): `make app` installs it, or pip '
                        'install -r requirements-app.txt')
    return gradio


# ---- what the page shows

def data_uri(data, kind):
    """Bytes as an address that holds them: nothing is left on the disk."""
    return f'data:{kind};base64,{base64.b64encode(data).decode()}'


def picture_tag(picture, what):
    """<img> of uint8 [H, W, 3]."""
    from dnnlib import pictures
    return f'<img alt="{html.escape(what)}" src="{data_uri(pictures.encode_image(picture), "image/png")}">'


def faces_html(session, state, drawn):
    """What was asked, what came, the photo if there is one; a line about them, and what can be saved."""
    from dnnlib import pictures
    shown = [('photo', state.photo, 'the photo'), ('asked', drawn.render, 'asked: the face model’s render'),
             ('came', drawn.picture, 'came: the generator’s picture')]
    figures = ''.join(f'<figure id="{name}">{picture_tag(picture, text)}<figcaption>{text}</figcaption></figure>'
                      for name, picture, text in shown if picture is not None)
    links = [('face.png', data_uri(pictures.encode_image(drawn.picture), 'image/png'), 'save the picture'),
             ('face.mat', data_uri(state.face.encoded('mat'), 'application/octet-stream'), 'save its coefficients')]
    saved = ''.join(f'<a download="{name}" href="{address}">{text}</a>' for name, address, text in links)
    about = html.escape(state.note) + ('; what was asked cannot be rendered here' if session.no_render else '')
    return (f'<div class="faces">{figures}</div><div class="note" id="note">{about}</div>'
            f'<div class="note">{saved}</div>')


class Page:
    """The page of a Session: `blocks`, to be launched."""

    def __init__(self, gradio, session):
        self._gr, self._session, self._first = gradio, session, session.new_person(None, 1)
        with gradio.Blocks(title='DiscoFaceGAN', analytics_enabled=False) as self.blocks:
            self._state = gradio.State(time_to_live=3600)
            gradio.Markdown(f'### DiscoFaceGAN: faces of people who do not exist\nWorld: {session.world}, '
                            f'{session.faces.resolution} pixels.')
            with gradio.Row():
                with gradio.Column(scale=2, min_width=320, elem_id='left'):
                    self._faces = gradio.HTML(elem_id='faces')
                    self._build_buttons()
                with gradio.Column(scale=3, min_width=360):
                    self._build_tabs()
            self._connect()

    def _build_buttons(self):
        gr = self._gr
        with gr.Row():
            self._person, self._expression, self._light, self._straight = (
                gr.Button(text, size='sm', min_width=90)
                for text in ('New person', 'New expression', 'New light', 'Straight'))
        with gr.Row():
            self._seed = gr.Number(1, label='noise seed (hair, background)', precision=0, minimum=0,
                                   maximum=2 ** 32 - 1, min_width=120, elem_id='seed')
            self._rate = gr.Slider(0, 1, options.RATE, step=0.05, label='truncation (1: none)', min_width=160)

    def _build_tabs(self):
        gr, self._sliders = self._gr, {}
        groups = list(dict.fromkeys(slider.group for slider in self._session.sliders))
        with gr.Tab('Values'):
            for group in groups:
                with gr.Accordion(group, open=group != 'Identity'):
                    self._build_group([slider for slider in self._session.sliders if slider.group == group])
        with gr.Tab('Sweep'):
            self._build_sweep()
        with gr.Tab('Photo'):
            self._build_photo()

    def _build_group(self, sliders):
        for start in range(0, len(sliders), COLUMNS):
            with self._gr.Row():
                for slider in sliders[start:start + COLUMNS]:
                    unit = ' (radians)' if slider.group == 'Pose' else ''
                    self._sliders[slider.name] = self._gr.Slider(
                        slider.low, slider.high, 0.0, step=slider.step, label=slider.name.replace('_', ' ') + unit,
                        min_width=130, buttons=[], elem_id='value-' + slider.name.replace(' ', '-'))

    def _build_sweep(self):
        gr, first = self._gr, self._session.sliders[1]
        with gr.Row():
            self._swept = gr.Dropdown([slider.name for slider in self._session.sliders], value=first.name,
                                      label='value', min_width=140)
            self._from = gr.Number(first.low, label='from', min_width=80)
            self._to = gr.Number(first.high, label='to', min_width=80)
            self._count = gr.Slider(2, 9, 5, step=1, label='columns', min_width=120, buttons=[])
        self._sweep = gr.Button('Draw the strip', variant='primary')
        self._strip = gr.HTML(elem_id='strip')

    def _build_photo(self):
        gr, world = self._gr, self._session.world
        gr.Markdown(f'A photo of the {world} world is searched for in the generator; then all values change the photo. '
                    'A square, aligned picture, as `preprocess_data.py` makes it, or any photo with five landmarks. '
                    'Only use photos of people who agree to it.')
        self._photo = gr.File(label='photo, at most 8 MB', file_types=ENDINGS, type='binary', height=120,
                              elem_id='photo-file')
        self._points = gr.Textbox(label='landmarks: five lines “x y”: left eye, right eye, nose, left and right mouth '
                                  'corner, in pixels from the top left; empty: the picture is aligned', lines=2)
        self._steps = gr.Slider(50, 600, options.STEPS, step=50, label='steps of the search', elem_id='steps')
        self._embed = gr.Button('Search for the photo', variant='primary')

    # ---- what happens

    def _connect(self):
        gr, session = self._gr, self._session
        person = [self._state, self._faces]
        everything = person + [self._seed] + list(self._sliders.values())
        self._on(self.blocks.load, lambda: self._whole(self._first), [], everything)
        for button, change in (
                (self._person, session.new_person), (self._straight, lambda state, seed: session.straight(state)),
                (self._expression, lambda state, seed: session.new_part(state, 'expression', seed)),
                (self._light, lambda state, seed: session.new_part(state, 'lighting', seed))):
            self._on(button.click, functools.partial(self._pressed, change), [self._state], everything)
        for control, change in ((self._seed, session.with_seed), (self._rate, session.with_rate)):
            self._on(control.input, functools.partial(self._moved, change), [self._state, control], person)
        for name, slider in self._sliders.items():
            change = functools.partial(lambda state, value, name: session.set(state, name, value), name=name)
            self._on(slider.input, functools.partial(self._moved, change), [self._state, slider], person)
            self._on(slider.release, self._values, [self._state], list(self._sliders.values()))
        self._on(self._swept.change, self._limits, [self._swept], [self._from, self._to])
        self._on(self._sweep.click, self._draw_strip, [self._state, self._swept, self._from, self._to, self._count],
                 [self._strip], progress='minimal')

        def search(state, photo, points, steps, progress=gr.Progress()):        # noqa: B008  how Gradio finds it
            return self._whole(self._found(state or self._first, photo, points, int(steps), progress))

        self._on(self._embed.click, search, [self._state, self._photo, self._points, self._steps], everything,
                 progress='full', on=[self._photo], queue='photo')

    def _on(self, event, handler, inputs, outputs, progress='hidden', on=None, queue='session'):
        """One at a time of each queue; while one is at work, of those that come only the last is kept."""
        event(self._told(handler), inputs, outputs, show_progress=progress, show_progress_on=on,
              trigger_mode='always_last', concurrency_limit=1, concurrency_id=queue, api_visibility='private')

    def _told(self, handler):
        """A handler whose mistakes become one line on the page."""
        @functools.wraps(handler)
        def told(*arguments):
            try:
                return handler(*arguments)
            except UserError as error:
                raise self._gr.Error(html.escape(error.args[0]), print_exception=False)
        return told

    def _moved(self, change, state, value):
        state = change(state or self._first, value)
        return state, faces_html(self._session, state, self._session.draw(state))

    def _pressed(self, change, state):
        return self._whole(change(state or self._first, secrets.randbelow(10 ** 6)))

    def _whole(self, state):
        """Values of all that shows a state."""
        drawn = faces_html(self._session, state, self._session.draw(state))
        return [state, drawn, state.seed] + self._values(state)

    def _values(self, state):
        return list(self._session.values(state or self._first).values())

    def _limits(self, name):
        slider = next(slider for slider in self._session.sliders if slider.name == name)
        return slider.low, slider.high

    def _draw_strip(self, state, name, first, last, count):
        sheet = self._session.strip(state or self._first, name, first, last, count)
        return f'<div class="strip">{picture_tag(sheet, "strip of " + name)}</div>'

    def _found(self, state, photo, points, steps, progress):
        if not photo:
            raise UserError('no photo: choose a file first')
        done = itertools.count(1)
        return self._session.embed(state, photo, points or '', steps,
                                   lambda: progress((next(done), steps), desc='search', unit='steps'))


def launch(gradio, session, args):
    """Serve the page until it is interrupted. UserError when the address cannot be listened on."""
    from starlette.middleware import Middleware
    with tempfile.TemporaryDirectory(prefix='discofacegan-') as uploads:
        os.environ['GRADIO_TEMP_DIR'] = uploads
        theme = gradio.themes.Base(font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace'])
        blocks = Page(gradio, session).blocks.queue(max_size=64)
        try:
            blocks.launch(server_name=args.host, server_port=args.port, share=args.share, theme=theme,
                          css=CSS, max_file_size=guard.MOST_BYTES, footer_links=[], run_history=False, ssr_mode=False,
                          enable_monitoring=False, state_session_capacity=100, quiet=True, prevent_thread_lock=True,
                          app_kwargs={'middleware': [Middleware(guard.Guard, uploads=uploads)]})
            print(f'the page: {blocks.local_url}' + (f', for everybody: {blocks.share_url}' if args.share else ''),
                  flush=True)
            signal.pause()
        except OSError as error:
            raise UserError(f'--host {args.host} --port {args.port}: cannot be listened on ({error}); choose another')
        finally:
            blocks.close(verbose=False)


def main():
    """Options -> a Session and its page."""
    args = _parse()
    gradio = import_gradio()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    from sampling.session import Session
    with Session(args.model, args.vae_weights, args.average_w) as session:
        if session.no_render:
            print(f'no renders: {session.no_render}', file=sys.stderr)
        launch(gradio, session, args)


if __name__ == '__main__':
    run_main(main)
