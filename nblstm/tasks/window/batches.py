"""Windows: the last n tokens before each token of a text, for networks that remember nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nblstm.text.batches import Chunk


def windows_before(
    ids: np.ndarray, places: np.ndarray, begins: np.ndarray, window: int, padding: str, start: int
) -> np.ndarray:
    """Return the `window` tokens before each place, (M, window) int32, as `pad_sequences` would fill them up.

    ids: (tokens,) integers. places, begins: (M,) int64; of what stands before begins[m], the start of the text that
    places[m] is in, nothing is seen. padding: "pre" or "post", the side on which id `start` fills up a short window.
    """
    before = places[:, None]
    sources = before - np.arange(window, 0, -1)
    if padding == "post":
        sources += np.maximum(0, window - (places - begins))[:, None]
    seen = (sources >= begins[:, None]) & (sources < before)
    return np.where(seen, ids[np.where(seen, sources, 0)], start).astype(np.int32)


class Windows:
    """A text as windows and the tokens that follow them, in batches; every epoch in an order of its own.

    Every token is a target once an epoch, but the first of a stream. A chunk is one of M texts of one step, where a
    window (M, window) stands in the place of a token.
    """

    def __init__(
        self, ids: np.ndarray, offsets: np.ndarray | None, window: int, padding: str, start: int, batch_size: int,
        seed: int | None,
    ) -> None:  # fmt: skip
        """ids, offsets: of a stream or of documents, as in `nblstm.text.token_file.TokenFile`. start: see `windows_before`.

        seed: the order of an epoch is a function of it and of the epoch's number; None leaves the text's. It takes 8
        bytes a token.
        """
        self.ids, self.offsets, self.window, self.padding, self.start = ids, offsets, window, padding, start
        self.batch_size, self.seed = batch_size, seed

    def epoch(self, number: int) -> Sequence[Chunk]:
        """Yield the chunks of a pass over the text; none below 2 tokens."""
        places = np.arange(1, len(self.ids))
        if self.seed is not None:
            np.random.default_rng((self.seed, number)).shuffle(places)
        return _Epoch(self, places)

    def chunk(self, places: np.ndarray) -> Chunk:
        """Return the windows before some places, and the tokens there."""
        begins = np.zeros_like(places)
        if self.offsets is not None:
            begins = self.offsets[np.searchsorted(self.offsets, places) - 1] + 1  # behind the <end> before it
        tokens = windows_before(self.ids, places, begins, self.window, self.padding, self.start)
        return Chunk(tokens, self.ids[places].astype(np.int32), np.array([0, len(places)]), fresh=True)


class _Epoch(Sequence[Chunk]):
    """The places of an epoch, (tokens,), batch by batch."""

    def __init__(self, windows: Windows, places: np.ndarray) -> None:
        self.windows, self.places = windows, places

    def __len__(self) -> int:
        return -(-len(self.places) // self.windows.batch_size)

    def __getitem__(self, k: int) -> Chunk:  # type: ignore[override]  # no slices
        if not 0 <= k < len(self):
            raise IndexError(f"chunk {k} of {len(self)}")
        size = self.windows.batch_size
        return self.windows.chunk(self.places[k * size : (k + 1) * size])
