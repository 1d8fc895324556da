"""Trains the VAE of one factor (paper section 3.1) on the coefficients of a set of photos; options as released."""

import argparse
import hashlib
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import dnnlib  # noqa: F401       first, so that Ctrl-C during the imports leaves no traceback

# isort: split
from typing import List, Optional

import numpy as np
from tqdm import tqdm

import config
from dnnlib.json_files import read_json, write_json
from dnnlib.options import SEED, real, whole
from dnnlib.submission.stop import StopSignals
from dnnlib.util import PRECISION_HELP, PRECISIONS, EasyDict, UserError, atomic_path, run_main, shown
from renderer.factors import BY_NAME, FACTORS
from vae import data
from worlds import label
from worlds.agree import one_world

SAVE_EVERY = 5          # epochs
KEEP = 5                # checkpoints
FITTED = 'fitted.ckpt'   # the last one after --fit-latents
HELD_OUT = 0.05         # part of the samples that --val keeps aside
SETTINGS, RESULT, LOG, SKIPPED = 'training.json', 'trained.json', 'log.jsonl', 'skipped.txt'
COLLAPSED = 0.05        # explained variance below this: the latents carry nothing
MUST_MATCH = ('samples', 'batch_size', 'seed', 'val', 'cross_entropy_loss', 'kl_warmup', 'start_gamma', 'lr',
              'lr_epochs', 'lr_fac')
EPILOG = """
Sampling and training take the result with --vae_weights <output-path>.
Checkpoints of every fifth and the last epoch go to
<output-path>/<factor>/from_scratch/stage1_epoch_N.ckpt (the last five are kept); at the end the last one is copied to
<output-path>/<factor>/stage1_epoch_395.ckpt, the name under which the released software looks for it, and
trained.json beside it says what it is, and world.json which world it is of, where <datapath> or the folder above says
so. Weights already there that this script did not write are left alone.
Ctrl-C finishes the epoch, saves and leaves; the same command goes on from there.
"""


# Options


def parse_options(arguments: Optional[List[str]] = None) -> EasyDict:
    """Command line -> EasyDict; argparse leaves with code 2 on a wrong one."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)

    def add(flag, text, **kwargs):
        default = kwargs.get('default', 'off')      # what has no default is a switch
        parser.add_argument(flag, help=f'{text} (default: {default})' if '(default' not in text else text, **kwargs)

    add('--root-folder', 'folder that relative --output-path and --datapath start from', default='.', metavar='DIR')
    add('--output-path', 'weights, logs and checkpoints go to <DIR>/<factor>', default='./weights', metavar='DIR')
    add('--factor', 'which VAE: ' + ', '.join(f'{f.name} ({f.word})' for f in FACTORS), default='rot',
        choices=sorted(BY_NAME))
    add('--datapath', 'folder of .mat files from preprocess_data.py', default='../FFHQ_data/coeff', metavar='DIR')
    add('--gpu', 'sets CUDA_VISIBLE_DEVICES; -1: CPU', default='0')
    add('--write-iteration', 'steps between two entries of the log', type=whole(1), default=600, metavar='N')
    add('--batch-size', 'samples per step, lowered to the number of samples', type=whole(1), default=64,
        metavar='N')
    add('--epochs', 'epochs in all', type=whole(1), default=400, metavar='N')
    add('--lr', 'learning rate of Adam', type=real(0, above=True), default=1e-4, metavar='X')
    add('--lr-epochs', 'epochs between two decays of the learning rate', type=whole(1), default=150, metavar='N')
    add('--lr-fac', 'factor of each decay', type=real(0, above=True), default=0.5, metavar='X')
    add('--cross-entropy-loss', 'cross-entropy as generation loss, for coefficients in [0, 1]', action='store_true')
    add('--kl-warmup', 'epochs until the KL divergence has its full weight, and half of those in which gamma stays at '
        '--start-gamma, against a collapse of the latents where most coefficients hardly vary; 0: full weight and a '
        'free gamma from the start, as released', type=whole(0), default=0, metavar='N')
    add('--start-gamma', 'first standard deviation that the decoder gives the coefficients; with --kl-warmup take '
        'about a third of what those that matter have; released: 1', type=real(0, above=True), default=1.0, metavar='X')
    add('--fit-latents', 'at the end, move the latents of all samples together to mean 0 and covariance 1, by changing '
        'the weights, so that random latents decode to as much variety as the samples have', action='store_true')
    add('--val', 'keep 5%% of the samples aside and report the reconstruction on them; they are not trained on',
        action='store_true')
    add('--seed', 'of first weights, order of samples, noise and the choice of --val', type=SEED, default=0,
        metavar='N')
    add('--threads', 'threads for computing, and four at least for reading files (default: one per core)',
        type=whole(1), metavar='N')
    add('--precision', PRECISION_HELP, choices=PRECISIONS, default='float32')
    add('--width', "width of the hidden layers (default: the released model's: "
        + ', '.join(f'{f.name} {f.width}' for f in FACTORS) + ')', type=whole(1), metavar='N')
    parser.add_argument('--resume', dest='resume', action='store_true', default=True,
                        help='go on from the latest checkpoint in from_scratch, if any (default: yes)')
    parser.add_argument('--no-resume', dest='resume', action='store_false',
                        help='start anew; an older from_scratch folder is renamed, not deleted (default: no)')
    return EasyDict(vars(parser.parse_args(arguments)))


# Files


def _folders(options):
    """Paths of this training: the factor's folder and what lies in it."""
    root = os.path.abspath(options.root_folder)
    factor = os.path.join(root, options.output_path, options.factor)
    return EasyDict(datapath=os.path.normpath(os.path.join(root, options.datapath)),
                    weights=os.path.normpath(os.path.dirname(factor)), factor=os.path.normpath(factor),
                    epochs=os.path.normpath(os.path.join(factor, 'from_scratch')))


def _facts(path):
    """Content of a JSON file of ours; {} when it is missing or unreadable."""
    try:
        return read_json(path)
    except UserError:
        return {}


def _set_aside(folder):
    """Rename a folder of an older training to the first free <folder>.N."""
    if os.path.isdir(folder) and os.listdir(folder):
        number = 1
        while os.path.exists(f'{folder}.{number}'):
            number += 1
        os.rename(folder, f'{folder}.{number}')
        print(f'--no-resume: the older training now lies in {folder}.{number}')


class Log:
    """Terms of the loss by step: lines of log.jsonl, and TensorBoard events in the same folder."""

    def __init__(self, folder, every, last_step):
        from dnnlib.tflib.compat import tf
        self._tf, self._every, self._path = tf, every, os.path.join(folder, LOG)
        os.makedirs(folder, exist_ok=True)
        self._drop_after(last_step)
        self._writer = tf.summary.FileWriter(folder)

    def _drop_after(self, last_step):
        """Forget lines of steps that will be taken again."""
        kept = []
        if os.path.exists(self._path):
            with open(self._path, encoding='utf-8') as file:
                kept = [line for line in file if _step_of(line) <= last_step]
        with atomic_path(self._path) as temporary, open(temporary, 'w', encoding='utf-8') as file:
            file.writelines(kept)

    def add(self, epoch, first_step, terms, names):
        """terms [steps, len(names)]: of the steps first_step, first_step + 1, ... (the first ever is 1)."""
        with open(self._path, 'a', encoding='utf-8') as file:
            for i in range(-first_step % self._every, len(terms), self._every):
                values = {name: float(value) for name, value in zip(names, terms[i])}
                file.write(json.dumps(dict(step=first_step + i, epoch=epoch, **values)) + '\n')
                summary = [self._tf.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
                self._writer.add_summary(self._tf.Summary(value=summary), first_step + i)

    def close(self) -> None:
        """Write what TensorBoard still waits for."""
        self._writer.close()


def _step_of(line):
    """Step of a line of the log; infinity for a broken line, so that it is dropped."""
    try:
        return json.loads(line)['step']
    except (ValueError, KeyError, TypeError):
        return float('inf')


# Training


def _split(coeffs, options):
    """(training samples, held-out samples or None)."""
    if not options.val:
        return coeffs, None
    if len(coeffs) < 2:
        raise UserError(f'--val: 2 samples at least are needed to keep one aside, {len(coeffs)} found; leave it out')
    order = np.random.RandomState(options.seed).permutation(len(coeffs))
    count = max(1, int(round(HELD_OUT * len(coeffs))))
    return coeffs[np.sort(order[count:])], coeffs[np.sort(order[:count])]


def _settings(options, samples):
    return dict({key: options[key] for key in MUST_MATCH if key != 'samples'}, samples=samples,
                factor=options.factor, datapath=options.datapath, precision=options.precision)


def _resume(trainer, folders, options, settings):
    """Restore the latest checkpoint, if any; the first epoch to train."""
    from vae import model
    if not options.resume:
        _set_aside(folders.epochs)
    epochs = model.epochs_in(folders.epochs)
    if not epochs:
        return 0
    prefix = os.path.join(folders.epochs, model.CHECKPOINT.format(epochs[-1]))
    width = model.stored_width(prefix, options.factor)
    if width != (options.width or BY_NAME[options.factor].width):
        raise UserError(f'{prefix} has hidden layers of width {width}: go on with --width {width}, or start anew with '
                        '--no-resume')
    trainer.restore(prefix)
    before = _facts(os.path.join(folders.epochs, SETTINGS))
    changed = [f'{key} {shown(before[key])} -> {settings[key]}' for key in MUST_MATCH
               if key in before and before[key] != settings[key]]
    if changed:
        print(f'warning: {prefix} was trained with other settings ({", ".join(changed)}): training goes on with the '
              'new ones; --no-resume starts anew', file=sys.stderr)
    print(f'resumed from {prefix}')
    return epochs[-1] + 1


def _train_epoch(trainer, epoch, options, log, bar):
    """One epoch with its log entries; the mean loss. UserError when the loss is no longer finite."""
    from vae.trainer import TERMS, holds_gamma, kl_weight
    rate = options.lr * options.lr_fac ** (epoch // options.lr_epochs)
    step, total = trainer.global_step + 1, 0.0
    for terms in trainer.train_epoch(epoch, rate, kl_weight(epoch, options.kl_warmup),
                                     holds_gamma(epoch, options.kl_warmup)):
        loss = float(terms[:, 2].astype(np.float64).sum())
        if not np.isfinite(terms).all():
            raise UserError(f'the loss is no longer finite in epoch {epoch}: training of {options.factor} diverged; '
                            'lower --lr, look for absurd values in --datapath, then run again: it goes on from the '
                            'last checkpoint')
        log.add(epoch, step, terms, TERMS)
        step, total = step + len(terms), total + loss
        bar.update(len(terms))
    return total / trainer.steps_per_epoch


def _save(trainer, folders, epoch):
    """Write the epoch's checkpoint and drop all but the newest KEEP."""
    from dnnlib.tflib import checkpoints
    from vae import model
    trainer.save(os.path.join(folders.epochs, model.CHECKPOINT.format(epoch)))
    for old in model.epochs_in(folders.epochs)[:-KEEP]:
        checkpoints.remove(os.path.join(folders.epochs, model.CHECKPOINT.format(old)))


def _train(trainer, folders, first, options, reports):
    """All epochs from `first` on; None when training came to its end, else the number of the signal that stopped it."""
    log = Log(folders.factor, options.write_iteration, trainer.global_step)
    with StopSignals('stopping after this epoch and saving; once more to leave at once') as stop, \
            tqdm(total=options.epochs * trainer.steps_per_epoch, initial=first * trainer.steps_per_epoch,
                 desc=f'VAE {options.factor}', unit='step', disable=None) as bar:
        for epoch in range(first, options.epochs):
            loss = _train_epoch(trainer, epoch, options, log, bar)
            tqdm.write(f'Date: {time.strftime("%Y/%m/%d %H:%M:%S")}\t'
                       f'Epoch: [Stage 1][{epoch}/{options.epochs}]\tLoss: {loss:.4f}.')
            last = stop.asked or epoch == options.epochs - 1
            if epoch % SAVE_EVERY == 0 or last:
                _save(trainer, folders, epoch)
                if options.val and not last:
                    tqdm.write(_describe('held out', reports.held_out()))
            if last:
                break
    log.close()
    return None if epoch == options.epochs - 1 else stop.asked


def _describe(what, report):
    if report['explained_variance'] is None:
        return f'{what}: RMS {report["rms"]:.5f}, no variance to explain, KL {report["kl"]:.3f}'
    return (f'{what}: RMS {report["rms"]:.5f}, explained variance {100 * report["explained_variance"]:.2f}%, '
            f'KL {report["kl"]:.3f}, random samples have {100 * report["sampled_spread"]:.0f}% of its spread')


def _warn_if_collapsed(report, options):
    if report['explained_variance'] is not None and report['explained_variance'] < COLLAPSED:
        print('warning: the latents carry nothing (posterior collapse): every sample is the mean; train anew with '
              f'--no-resume --kl-warmup {max(20, 2 * options.kl_warmup)} and --start-gamma a third of the deviation of '
              'those coefficients that vary', file=sys.stderr)


def _index_hash(prefix):
    """SHA-256 of a checkpoint's .index, which holds a checksum of each variable; None where there is none."""
    if not os.path.exists(prefix + '.index'):
        return None
    with open(prefix + '.index', 'rb') as file:
        return hashlib.sha256(file.read()).hexdigest()


def _publish(folders, epoch, result):
    """Copy the last checkpoint to where sampling looks first, unless weights that are not ours lie there."""
    from dnnlib.tflib import checkpoints
    from vae import model
    source = os.path.join(folders.epochs, FITTED if result.get('fit_latents') else model.CHECKPOINT.format(epoch))
    target, note = os.path.join(folders.factor, model.RELEASED), os.path.join(folders.factor, RESULT)
    there = _index_hash(target)
    if there is not None and there != _facts(note).get('index_sha256'):
        print(f'warning: {target} holds weights of other origin and was left alone, so sampling goes on using them; '
              f'to use the new ones, move it away and copy {source}.* in its place', file=sys.stderr)
        return
    label_path = os.path.join(folders.factor, label.FILE)
    if os.path.exists(label_path):
        os.remove(label_path)            # it speaks of the older weights
    checkpoints.copy(source, target)
    _pass_on_world(folders.epochs, folders.factor)
    write_json(note, dict(result, checkpoint=model.RELEASED, epoch=epoch, index_sha256=_index_hash(target)))
    print(f'weights: {target}')
    if os.path.realpath(folders.weights) != os.path.realpath(config.VAE_WEIGHTS_DIR):
        print(f'sampling and training use them with --vae_weights {folders.weights}, once all four factors are there')


def _check_world(folders):
    """UserError when the output folder holds VAEs of another world than that of the data."""
    name = label.of_data(folders.datapath)
    if not name:
        return
    from vae import model
    there = model.world_of(folders.weights)
    one_world({f'--datapath {folders.datapath}': name, f'--output-path {folders.weights}': there})


def _pass_on_world(source, target):
    """Tell in `target` which world the weights there are of, if `source` says it. Each label lies beside the weights it
    speaks of: other VAEs in the output folder may be anybody's.
    """
    name = label.of_data(source)
    if name:
        label.write(target, name)


def main() -> int:
    """Options -> trained weights; exit code 128 + n when signal n stopped it, 130 for Ctrl-C."""
    options = parse_options()
    os.environ['CUDA_VISIBLE_DEVICES'] = options.gpu
    if options.precision != 'float32':
        from dnnlib.tflib import tfutil
        tfutil.check_precision(options.precision)
    folders = _folders(options)
    _check_world(folders)
    coeffs, _, skipped = data.load_coeffs(folders.datapath, BY_NAME[options.factor].coeffs,
                                          threads=max(4, options.threads or 4))
    data.report_skipped(skipped, os.path.join(folders.factor, SKIPPED))
    samples, held_out = _split(coeffs, options)
    print(f'{len(samples)} samples of {options.factor} ({BY_NAME[options.factor].word}) to train on'
          + (f', {len(held_out)} held out' if options.val else ''))
    if options.cross_entropy_loss and (samples.min() < 0 or samples.max() > 1):
        print(f'warning: --cross-entropy-loss is meant for values in [0, 1]; these reach from {samples.min():.3g} to '
              f'{samples.max():.3g}', file=sys.stderr)
    return _run(options, folders, samples, held_out, len(skipped))


def _run(options, folders, samples, held_out, num_skipped):
    """Build, resume, train, report and publish."""
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.compat import gpu_names
    from vae.trainer import Trainer
    tfutil.init_tf(seed=options.seed % 2 ** 31, threads=options.threads, threads_per_op=1, precision=options.precision)
    print(f'computing on {"the GPU" if gpu_names() else "the CPU"}')
    trainer = Trainer(options.factor, samples, options.batch_size, options.seed, options.width,
                      options.cross_entropy_loss, options.start_gamma)
    settings = _settings(options, len(samples))
    first = _resume(trainer, folders, options, settings)
    _pass_on_world(folders.datapath, folders.epochs)
    write_json(os.path.join(folders.epochs, SETTINGS), settings)
    centre = samples.mean(axis=0, dtype=np.float64)
    reports = EasyDict(training=lambda: trainer.evaluate(samples, centre),
                       held_out=lambda: trainer.evaluate(held_out, centre) if options.val else None)
    stopped_by = _train(trainer, folders, first, options, reports) if first < options.epochs else None
    if stopped_by:
        print('stopped; the same command goes on from here')
        return 128 + stopped_by
    if options.fit_latents:
        trainer.fit_latents(samples)
        trainer.save(os.path.join(folders.epochs, FITTED))
    result = dict(settings, fit_latents=options.fit_latents, skipped=num_skipped, training=reports.training(),
                  held_out=reports.held_out())
    print(_describe('training data', result['training']))
    _warn_if_collapsed(result['training'], options)
    if options.val:
        print(_describe('held out', result['held_out']))
    _publish(folders, max(first, options.epochs) - 1, result)
    return 0


if __name__ == '__main__':
    run_main(main)
