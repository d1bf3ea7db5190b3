"""Opening pictures: PNG and JPEG alone, and none larger than a picture is."""

from pathlib import Path

from PIL import Image

from spikeship.hw_models.errors import InputError

# other decoders of Pillow start programs, or are seldom used and seldom looked at
FORMATS = ("PNG", "JPEG")
MOST_PIXELS = 2**26
LONGEST = 16  # times as long as wide


def open_picture(path: Path) -> Image.Image:
    """Open a picture; its pixels are read when they are first used.

    Raises:
        InputError: another format than PNG and JPEG, or more pixels than ``MOST_PIXELS``.
        OSError: it cannot be read. Damage makes Pillow raise other kinds too.
    """
    picture = Image.open(path, formats=FORMATS)
    width, height = picture.size
    if width * height > MOST_PIXELS or max(width, height) > LONGEST * min(width, height):
        picture.close()
        raise InputError(
            f"{width} x {height} pixels; at most {MOST_PIXELS:,} are read, sides at most "
            f"{LONGEST} to 1; cut or shrink it"
        )
    return picture
