"""Streams and their chunks: the layout, worked by hand, and how a small text lowers the batch."""

import numpy as np
import pytest
from support.cases import each

from nblstm.errors import TextError
from nblstm.text.batches import Streams, fit


def rectangles(chunk):
    """The tokens and targets of a chunk whose texts have equal lengths, (T, N) each."""
    (N,) = set(np.diff(chunk.offsets).tolist())
    assert chunk.offsets[0] == 0 and chunk.offsets.dtype == np.int64 and chunk.num_texts == N
    return chunk.tokens.reshape(-1, N), chunk.targets.reshape(-1, N)


def test_two_streams_by_hand():
    """12 tokens in 2 streams: S = 11 // 2 = 5, rows 0..5 and 5..10, chunks of 3 and 2, token 11 is dropped."""
    streams = Streams(np.arange(12, dtype=np.uint8), batch_size=2, bptt=3)
    assert len(streams) == 2 and streams.length == 5
    x, y = rectangles(streams[0])
    assert x.tolist() == [[0, 5], [1, 6], [2, 7]]
    assert y.tolist() == [[1, 6], [2, 7], [3, 8]]
    x, y = rectangles(streams[1])
    assert x.tolist() == [[3, 8], [4, 9]]
    assert y.tolist() == [[4, 9], [5, 10]]


@each("tokens, batch_size, bptt", [(2, 1, 1), (2, 1, 9), (50, 7, 3), (64, 9, 7), (101, 10, 10)])
def test_every_transition_is_used_once(tokens, batch_size, bptt):
    """Over an epoch the pairs (x, y) are the first N*S transitions of the text, and fewer than N are left over."""
    streams = Streams(np.arange(tokens), batch_size, bptt)
    chunks = list(streams)
    assert len(chunks) == len(streams)
    pairs = sorted(pair for c in chunks for pair in zip(c.tokens.tolist(), c.targets.tolist(), strict=True))
    assert pairs == [(i, i + 1) for i in range(batch_size * streams.length)]
    assert 0 <= tokens - 1 - len(pairs) < batch_size


def test_chunks_follow_each_other_in_their_row():
    """The first input of a chunk is the last target of the one before, so that the state can be carried."""
    streams = Streams(np.random.default_rng(0).integers(0, 99, 200), batch_size=4, bptt=6)
    for k in range(1, len(streams)):
        np.testing.assert_array_equal(rectangles(streams[k])[0][0], rectangles(streams[k - 1])[1][-1])


def test_only_the_first_chunk_is_fresh():
    """The state is carried through an epoch, and every epoch is the same."""
    streams = Streams(np.arange(50), 2, 5)
    assert [chunk.fresh for chunk in streams.epoch(3)] == [True, False, False, False, False]
    np.testing.assert_array_equal(streams.epoch(0)[2].tokens, streams.epoch(7)[2].tokens)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_chunks_are_int32_c_contiguous_copies(dtype):
    """Whatever the type on disk, kernels see one type and layout, and may not write into the corpus."""
    ids = np.arange(40).astype(dtype)
    for batch_size in (1, 3):
        chunk = Streams(ids, batch_size, 5)[1]
        for array in (chunk.tokens, chunk.targets):
            assert array.dtype == np.int32 and array.flags.c_contiguous and array.shape == (5 * batch_size,)
            assert not np.shares_memory(array, ids)


def test_int32_ids_are_not_shared_either():
    """Chunks are copies even of ids that already are int32, in one stream, where a view would do."""
    ids = np.arange(40, dtype=np.int32)
    chunk = Streams(ids, 1, 5)[0]
    assert not any(np.shares_memory(array, ids) for array in (chunk.tokens, chunk.targets))


def test_a_memory_map_is_not_copied(tmp_path):
    """A large file of ids, sparse on disk, is laid out and read at its end without being loaded."""
    ids = np.memmap(tmp_path / "ids", np.uint8, mode="w+", shape=(1 << 26,))
    ids[-2:] = 7
    streams = Streams(ids, batch_size=3, bptt=100)
    assert np.shares_memory(streams._inputs, ids)
    assert streams[len(streams) - 1].targets[-3:].tolist() == [0, 0, 7]


def test_chunks_out_of_range_are_refused():
    """Neither negative numbers nor the number of chunks are chunks."""
    streams = Streams(np.arange(10), 1, 3)
    for k in (-1, 3):
        with pytest.raises(IndexError):
            streams[k]


def test_too_few_tokens_for_the_batch():
    """The error says how many are needed and what to lower."""
    with pytest.raises(TextError) as error:
        Streams(np.arange(4), batch_size=4, bptt=2)
    assert str(error.value) == "4 streams need at least 5 tokens, got 4; lower batch_size."


# ---- fit


def test_a_large_text_keeps_what_was_asked():
    """64 streams of 64 transitions need 4097 tokens."""
    assert fit(4097, 64, 64) == (64, 64, None)


@each(
    "asked, expected",
    [
        ((4096, 64, 64), (64, 63, "the text has 4096 tokens: lowered bptt from 64 to 63.")),
        ((120, 64, 64), (3, 39, "the text has 120 tokens: lowered batch_size from 64 to 3 and bptt from 64 to 39.")),
        ((120, 64, 5), (23, 5, "the text has 120 tokens: lowered batch_size from 64 to 23.")),
        ((2, 64, 64), (1, 1, "the text has 2 tokens: lowered batch_size from 64 to 1 and bptt from 64 to 1.")),
    ],
)
def test_a_small_text_lowers_batch_and_bptt_and_says_so(asked, expected):
    """119 transitions give 3 streams of at least 32, or 23 of at least 5."""
    assert fit(*asked) == expected


def test_what_fit_returns_fits():
    """Streams takes the sizes that fit returns, never larger ones than asked, and the first chunk is full."""
    for tokens in range(2, 200):
        for batch_size, bptt in ((1, 1), (4, 10), (64, 64), (100, 3)):
            fitted, shorter, message = fit(tokens, batch_size, bptt)
            assert 1 <= fitted <= batch_size and 1 <= shorter <= bptt
            assert (message is None) == ((fitted, shorter) == (batch_size, bptt))
            assert rectangles(Streams(np.arange(tokens), fitted, shorter)[0])[0].shape == (shorter, fitted)


@pytest.mark.parametrize("tokens", [0, 1])
def test_fit_needs_two_tokens(tokens):
    """With fewer there is nothing to predict."""
    with pytest.raises(TextError, match=f"at least 2 tokens, one to predict the other from, got {tokens}."):
        fit(tokens, 4, 4)
