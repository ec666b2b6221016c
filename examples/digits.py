"""Digits: an image is a text of 64 tokens, its rows one behind the other, and a language model writes the lower half.

The images are scikit-learn's scanned digits if it is installed (the extra "examples"), others drawn here if not.

python examples/digits.py [EPOCHS [PICTURE.pgm]]
"""

import sys
from pathlib import Path

import numpy as np

import nblstm

SIZE, GREYS, UNSEEN, WRITTEN = 8, " ░▒▓█", 200, 4  # a token is one of five greys
STROKES = [  # of each digit: the points that a line goes through, x from 0 to 4 and y from 0 to 6
    "10 30 41 45 36 16 05 01 10", "11 20 26", "01 10 30 41 42 06 46", "01 10 30 41 42 23 44 45 36 16 05", "36 30 04 44",
    "40 00 03 33 44 45 36 06", "30 02 05 16 36 45 44 33 13 04", "00 40 16",
    "13 02 01 10 30 41 42 33 13 04 05 16 36 45 44 33", "42 33 13 02 01 10 30 41 45 36 16",
]  # fmt: skip


def drawn(r: np.random.Generator, count: int) -> np.ndarray:
    """Draw digits, a little larger, slanted, shifted, thicker or noisier each: (count, 8, 8) from 0 to 1."""
    pixels = np.stack(np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5), axis=-1)[:, :, None]
    images = np.empty((count, SIZE, SIZE))
    for image in images:
        points = np.array([[int(x), int(y)] for x, y in r.choice(STROKES).split()]) - [2, 3]
        points = points @ [[r.uniform(0.9, 1.3), 0], [r.normal(0, 0.15), r.uniform(0.95, 1.1)]] + r.normal(4, 0.2, 2)
        start, along = points[:-1], np.diff(points, axis=0)
        # the nearest point of a line from a to a + d is a + t d, t = (p - a) d / d d between 0 and 1
        t = np.clip(((pixels - start) * along).sum(-1) / (along**2).sum(-1), 0, 1)[..., None]
        distance = np.linalg.norm(pixels - start - t * along, axis=-1).min(-1)
        image[:] = np.clip(r.uniform(1.2, 1.5) - distance + r.normal(0, 0.05, distance.shape), 0, 1)
    return images


def digits() -> tuple[np.ndarray, str]:
    """Return images (N, 8, 8) from 0 to 1 in a random order, and where they come from."""
    r = np.random.default_rng(0)
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        return drawn(r, 2000), "digits drawn here"
    return r.permutation(load_digits().images / 16), "scanned digits of scikit-learn"


def text_of(image: np.ndarray) -> str:
    """Return the grey of each pixel, row by row."""
    return "".join(GREYS[round(level)] for level in image.ravel() * (len(GREYS) - 1))


def image_of(text: str) -> np.ndarray:
    """Return the image (8, 8) from 0 to 1 that a text describes; where the text ends early, the rest is empty."""
    levels = [GREYS.index(grey) for grey in text.ljust(SIZE * SIZE, GREYS[0])]
    return np.reshape(levels, (SIZE, SIZE)) / (len(GREYS) - 1)


def save_picture(path: str, rows: list[list[str]]) -> None:
    """Write rows of images to a PGM file, a pixel as 8 x 8 points."""
    framed = [[np.pad(image_of(text), 1, constant_values=0.5) for text in row] for row in rows]
    points = np.kron(255 * (1 - np.block(framed)), np.ones((8, 8))).astype(np.uint8)
    Path(path).write_bytes(b"P5 %d %d 255\n" % points.shape[::-1] + points.tobytes())


def main(epochs: int = 30, picture: str = "digits.pgm") -> None:
    """Train on digits, and complete the upper halves of others, which stand on the left as they were."""
    images, source = digits()
    texts, half = [text_of(image) for image in images], SIZE * SIZE // 2
    model = nblstm.TextGenerator(
        hidden_size=128, dropout=0.2, output_dropout=0.2, epochs=epochs, lr=0.005, batch_size=32,
        bptt=SIZE * SIZE + 1,  # an image and its end are learned in one update
    )  # fmt: skip
    model.fit(texts[UNSEEN:])
    nats = sum(model.score(text).nats for text in texts[:UNSEEN]) / (UNSEEN * SIZE * SIZE)
    print(f"{model.config.description}, {len(texts) - UNSEEN} {source}: {nats:.3f} nats a pixel of {UNSEEN} others")
    rows = []
    for seed, text in enumerate(texts[: UNSEEN : UNSEEN // 4]):
        upper = text[:half]
        lower = model.model.generate_many(upper, n=half, num_samples=WRITTEN, temperature=0.5, seed=seed)
        rows.append([text, *(upper + each for each in lower)])
        grids = [[text.ljust(SIZE * SIZE)[start:][:SIZE] for text in rows[-1]] for start in range(0, SIZE * SIZE, SIZE)]
        print(*("   ".join("".join(2 * grey for grey in row) for row in grid).rstrip() for grid in grids), sep="\n")
        print()
    save_picture(picture, rows)
    print(f"the same as a picture: {picture}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:])
