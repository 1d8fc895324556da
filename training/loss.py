"""Adversarial terms, per sample (StyleGAN, arXiv 1812.04948, appendix C; DiscoFaceGAN, section 3.1).

Tensors in, terms out: nothing here builds or restores a network. Scores are logits of "real".
"""

from dnnlib.tflib.compat import tf


def generator_loss(fake_scores):
    """-log sigmoid(D(G(z))), the non-saturating logistic loss. fake_scores: [N, 1] -> [N]."""
    return tf.nn.softplus(-_per_sample(fake_scores))


def fake_loss(fake_scores):
    """-log(1 - sigmoid(D(G(z)))), the discriminator's part about fakes. fake_scores: [N, 1] -> [N]."""
    return tf.nn.softplus(_per_sample(fake_scores))


def real_loss(real_scores):
    """-log sigmoid(D(x)), the discriminator's part about reals. real_scores: [N, 1] -> [N]."""
    return tf.nn.softplus(-_per_sample(real_scores))


def discriminator_loss(real_scores, fake_scores):
    """-log sigmoid(D(x)) - log(1 - sigmoid(D(G(z)))). Scores: [N, 1] each -> [N]; R1 is to be added."""
    return fake_loss(fake_scores) + real_loss(real_scores)


def r1_penalty(real_scores, reals):
    """Squared length of the gradient of each score by its own image (arXiv 1801.04406), times gamma / 2 in D's loss.

    real_scores: [N, 1], computed from reals [N, C, H, W] -> [N]. Minibatch statistics let a score depend on other
    images of its group too: the gradient is that of the sum of all scores, as in the released system.
    """
    gradients = tf.gradients(tf.reduce_sum(real_scores), [reals])[0]
    if gradients is None:
        raise ValueError('r1_penalty: the scores do not depend on the given images')
    return tf.reduce_sum(tf.square(gradients), axis=[1, 2, 3])


def _per_sample(scores):
    """[N, 1] -> [N], so that no two terms broadcast to [N, N]."""
    return tf.reshape(scores, [-1])
