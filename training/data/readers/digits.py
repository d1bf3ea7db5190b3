"""The handwritten digits that scikit-learn ships."""

import numpy as np

from spikeship.training.data.readers.files import Arrays


def read_digits() -> tuple[Arrays, Arrays]:
    """8 x 8 with 17 grey levels, which become 0..255.

    Of each class 50 images, evenly spread over the file, are held out (500), the other 1,297 are
    for training.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    held_out = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        places = np.flatnonzero(labels == digit)
        held_out[places[np.arange(50) * len(places) // 50]] = True
    return (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out])
