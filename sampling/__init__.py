"""What a trained generator is used for: faces by coefficients and by name, many pictures, photos found and edited.

    from sampling import FaceGenerator
"""


def __getattr__(name):
    """FaceGenerator and Face, imported when asked for: TensorFlow takes seconds."""
    if name == 'FaceGenerator':
        from sampling.generator import FaceGenerator
        return FaceGenerator
    if name == 'Face':
        from sampling.faces import Face
        return Face
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
