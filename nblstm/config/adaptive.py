"""The clusters of an adaptive softmax: where the tokens of a vocabulary, ordered by falling counts, are cut."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nblstm.config.checks import said
from nblstm.errors import ConfigError

SHRINK = 4  # each cluster's vectors are so many times shorter than those of the one before: torch's div_value
SHARES = (0.6, 0.8, 0.9)  # of the text, that the tokens before each cutoff make up, where cutoffs are chosen
FEWEST_TOKENS = 1000  # of a vocabulary that is cut by itself: below, a softmax over all of it costs little
EULER = 0.5772  # of the sum of 1 / rank, beside the logarithm
MAX_CUTOFFS = 10
GRID = 64  # cutoffs that are chosen are multiples of it: whole panels of the products


def cluster_size(features: int, cluster: int) -> int:
    """Return how many numbers the vectors of a cluster's tokens have, at least 1; the shortlist is cluster 0."""
    return max(1, features // SHRINK**cluster)


def parse_cutoffs(cutoffs: str, vocab_size: int) -> tuple[int, ...]:
    """Return the cutoffs that are written as "2000,10000". ConfigError unless they rise and are less than vocab_size.

    At most MAX_CUTOFFS: behind these a vector has one number.
    """
    try:
        found = tuple(map(int, cutoffs.split(",", MAX_CUTOFFS)))
    except ValueError:
        found = ()
    if not 0 < len(found) <= MAX_CUTOFFS or not all(low < high for low, high in zip((0, *found), found)):
        rule = f'must be up to {MAX_CUTOFFS} rising whole numbers from 1 on, such as "2000,10000"'
        raise ConfigError(f"cutoffs {rule}, got {said(cutoffs)}.")
    if found[-1] >= vocab_size:
        raise ConfigError(f"cutoffs must be less than vocab_size, {vocab_size}, got {said(cutoffs)}.")
    return found


def best_cutoffs(counts: np.ndarray) -> str:
    """Return cutoffs for tokens of these counts (V,), by falling frequency, as `parse_cutoffs` reads them.

    The tokens before them make up SHARES of the text. A cost model alone (Grave et al. 2017, section 4.3) would leave few
    tokens a vector of any size, and with shares that are bounded from below it chooses just these bounds. ConfigError
    for fewer than FEWEST_TOKENS.
    """
    total = np.cumsum(counts, dtype=np.float64)
    return _rounded([int(np.searchsorted(total, share * total[-1])) + 1 for share in SHARES], len(counts))


def zipf_cutoffs(vocab_size: int) -> str:
    """Return cutoffs as `best_cutoffs` does for tokens that nobody has counted: by Zipf's law, 1 / rank."""
    total = math.log(vocab_size) + EULER  # of 1 / 1 + ... + 1 / V
    return _rounded([math.exp(share * total - EULER) for share in SHARES], vocab_size)


def _rounded(tokens: Sequence[float], vocab_size: int) -> str:
    """Return cutoffs on the GRID behind so many tokens. ConfigError for a small vocabulary."""
    if vocab_size < FEWEST_TOKENS:
        raise ConfigError(
            f"head adaptive chooses clusters of at least {FEWEST_TOKENS:,} tokens, and the vocabulary has {vocab_size:,}; "
            "choose head linear, or set cutoffs."
        )
    cutoffs = sorted({math.ceil(count / GRID) * GRID for count in tokens})
    return ",".join(str(cutoff) for cutoff in cutoffs if cutoff < vocab_size) or str(GRID)
