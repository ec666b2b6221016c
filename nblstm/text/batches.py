"""Contiguous streams for truncated back-propagation through time."""

from __future__ import annotations

import numpy as np

from nblstm.errors import TextError

SHORTEST_STREAM = 32  # rather than shorter streams, a small text gives fewer of them


class Streams:
    """A text laid out as N parallel streams that are read chunk by chunk, T tokens at a time.

    Row n is the stream ids[n*S : (n+1)*S + 1], S = (len(ids) - 1) // N: neighbours share one token, so every
    transition from a token to the next is used once an epoch; fewer than N are dropped at the end. A state carried
    from chunk k to chunk k + 1 goes on in the same row.
    """

    def __init__(self, ids: np.ndarray, batch_size: int, bptt: int) -> None:
        """ids: (tokens,) integers, never copied as a whole. Raises TextError if there are too few for the batch."""
        self.length = (len(ids) - 1) // batch_size
        if self.length < 1:
            raise TextError(
                f"{batch_size} streams need at least {batch_size + 1} tokens, got {len(ids)}; lower batch_size."
            )
        self.bptt = bptt
        used = batch_size * self.length
        self._inputs = ids[:used].reshape(batch_size, self.length)
        self._targets = ids[1 : used + 1].reshape(batch_size, self.length)

    def __len__(self) -> int:
        """Chunks per epoch; the last one may be shorter than bptt."""
        return -(-self.length // self.bptt)

    def chunk(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs x and targets y of chunk k, 0 <= k < len(self): (T, N) int32 each, y[t] the tokens after x[t]."""
        if not 0 <= k < len(self):
            raise IndexError(f"chunk {k} of {len(self)}")
        part = np.s_[:, k * self.bptt : (k + 1) * self.bptt]
        return _time_major(self._inputs[part]), _time_major(self._targets[part])


def _time_major(rows: np.ndarray) -> np.ndarray:
    """(N, T) integers -> (T, N) int32, a C-contiguous copy."""
    return rows.T.astype(np.int32, order="C")


def fit(num_tokens: int, batch_size: int, bptt: int) -> tuple[int, int, str | None]:
    """The batch_size and bptt to use for a text of num_tokens, and a sentence if they had to be lowered, else None.

    First batch_size is lowered until a stream has min(bptt, SHORTEST_STREAM) transitions, then bptt to a stream's
    length. Raises TextError below 2 tokens, where there is nothing to predict.
    """
    if num_tokens < 2:
        raise TextError(f"a text needs at least 2 tokens, one to predict the other from, got {num_tokens}.")
    transitions = num_tokens - 1
    fewer = min(batch_size, max(1, transitions // min(bptt, SHORTEST_STREAM)))
    shorter = min(bptt, transitions // fewer)
    changes = (("batch_size", batch_size, fewer), ("bptt", bptt, shorter))
    lowered = [f"{name} from {asked} to {used}" for name, asked, used in changes if used < asked]
    message = f"the text has {num_tokens} tokens: lowered {' and '.join(lowered)}." if lowered else None
    return fewer, shorter, message
