"""Buckets: the best boundaries by brute force, packing by PyTorch's, the order, and that none of it moves a loss."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from support.cases import each

from nblstm.config import TrainConfig
from nblstm.errors import ConfigError
from nblstm.files.model_file import load_checkpoint, save_checkpoint
from nblstm.kernels import packed
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial
from nblstm.nn.state import State
from nblstm.scoring import validation_documents, validation_loss
from nblstm.tasks.language.config import LanguageConfig
from nblstm.text import buckets as buckets_module
from nblstm.text.buckets import Buckets, best_boundaries, pack, padding
from nblstm.text.packing import chunks_of, offsets_of
from nblstm.training.trainer import Trainer

END, V = 1, 9
SHAPE = LanguageConfig(V, hidden_size=6, num_layers=2, dropout=0.3, dtype="float64")


def documents(lengths, seed=0):
    """(ids, offsets) of random documents that take so many steps each, an <end> before, between and behind them."""
    random = np.random.default_rng(seed)
    parts = [[END], *([*random.integers(2, V, length - 1), END] for length in lengths)]
    return np.concatenate(parts).astype(np.uint8), np.concatenate([[0], np.cumsum(lengths)])


def some_lengths(count=60, longest=40, seed=5):
    return np.random.default_rng(seed).integers(1, longest + 1, count)


def make_buckets(lengths, boundaries=(), bptt=8, batch_size=4, **options):
    return Buckets(*documents(lengths), boundaries, bptt, batch_size, **options)


def texts_of(chunks):
    """The texts that a sequence of chunks reads, each as (tokens, targets), followed through the carried state."""
    texts, rows = [], []
    for chunk in chunks:
        if chunk.fresh:
            rows = [([], []) for _ in range(chunk.num_texts)]
            texts += rows
        rows = rows[: chunk.num_texts]
        for start, end in pairwise(chunk.offsets):
            for row, token, target in zip(rows, chunk.tokens[start:end].tolist(), chunk.targets[start:end].tolist()):
                row[0].append(token)
                row[1].append(target)
    return texts


# ---------------------------------------------------------------- boundaries


def brute_force(lengths, num_buckets):
    """The least padding that any boundaries reach."""
    distinct = sorted(set(lengths.tolist()))
    choices = combinations(distinct[:-1], min(num_buckets, len(distinct)) - 1)
    return min(padding_by_hand(lengths, [*inner, distinct[-1]]) for inner in choices)


def padding_by_hand(lengths, boundaries):
    """Every document in a row as long as the first boundary that holds it."""
    cells = sum(next(b for b in boundaries if b >= length) for length in lengths.tolist())
    return 1 - lengths.sum() / cells


@each("seed", range(8))
@each("num_buckets", [1, 2, 3, 4, 20])
def test_the_best_boundaries_are_the_best_of_all(seed, num_buckets):
    """No choice of boundaries wastes less; they are lengths that occur, rising, the last the longest."""
    lengths = np.minimum(np.random.default_rng(seed).geometric(0.15, 50), 14)
    found = best_boundaries(lengths, num_buckets)
    assert padding(lengths, found) == pytest.approx(brute_force(lengths, num_buckets), abs=1e-12)
    assert found == sorted(set(found)) and found[-1] == lengths.max() and set(found) <= set(lengths.tolist())
    assert len(found) <= num_buckets


def test_of_many_lengths_not_all_may_be_a_boundary(monkeypatch):
    """With a tenth of the distinct lengths as candidates the waste is still within 5 % of the best."""
    lengths = np.random.default_rng(0).lognormal(5, 1, 3000).astype(np.int64) + 1
    best = padding(lengths, best_boundaries(lengths, 8))
    monkeypatch.setattr(buckets_module, "MOST_LENGTHS", len(np.unique(lengths)) // 10)
    found = best_boundaries(lengths, 8)
    assert found[-1] == lengths.max() and best <= padding(lengths, found) <= 1.05 * best


def test_padding_by_hand():
    """2, 3 | 5 | 9: up to the longest of each bucket 3 + 3 + 5 + 9 = 20 cells hold 19 tokens; in one bucket 36 do."""
    lengths = np.array([3, 9, 2, 5])
    assert padding(lengths, [4, 8]) == pytest.approx(1 / 20)
    assert padding(lengths, []) == pytest.approx(17 / 36)
    assert make_buckets(lengths, [4, 8]).longest == [3, 5, 9]
    assert make_buckets(lengths, [1, 4, 8, 100]).padding == pytest.approx(1 / 20)


# ---------------------------------------------------------------- packing


def test_a_chunk_by_hand():
    """<end> a b | <end> c, read side by side: two texts for two steps, then one."""
    ids = np.array([1, 2, 3, 1, 4, 1], np.uint8)
    chunk = pack(ids, np.array([0, 3]), np.array([3, 2]), fresh=True)
    assert chunk.tokens.tolist() == [1, 1, 2, 4, 3] and chunk.targets.tolist() == [2, 4, 3, 1, 1]
    assert chunk.offsets.tolist() == [0, 2, 4, 5] and chunk.num_texts == 2
    assert chunk.tokens.dtype == chunk.targets.dtype == np.int32 and chunk.offsets.dtype == np.int64


def test_packing_is_pytorchs():
    """Tokens and batch sizes are those of pack_padded_sequence."""
    torch = pytest.importorskip("torch")
    lengths = np.sort(some_lengths(9))[::-1]
    ids, offsets = documents(lengths)
    chunk = pack(ids, offsets[:-1], lengths, fresh=True)
    rows = [torch.from_numpy(ids[a:b].astype(np.int64)) for a, b in pairwise(offsets)]
    packed = torch.nn.utils.rnn.pack_sequence(rows)
    assert chunk.tokens.tolist() == packed.data.tolist()
    assert np.diff(chunk.offsets).tolist() == packed.batch_sizes.tolist()


@each("boundaries", [(), (5,), (5, 11, 30), tuple(range(1, 41))])
@each("bptt", [1, 7, 8, 64])
def test_an_epoch_reads_every_document_once(boundaries, bptt):
    """From <end> to <end>, whole, whatever the buckets, and where the documents are cut into chunks."""
    lengths = some_lengths()
    ids, offsets = documents(lengths)
    chunks = list(Buckets(ids, offsets, boundaries, bptt, 4).epoch(3))
    found = sorted(texts_of(chunks))
    assert found == sorted((ids[a:b].tolist(), ids[a + 1 : b + 1].tolist()) for a, b in pairwise(offsets))
    for chunk in chunks:
        texts = np.diff(chunk.offsets)
        assert len(texts) <= bptt and texts[0] <= 4 and texts[-1] >= 1 and (np.diff(texts) <= 0).all()
        assert chunk.offsets[-1] == len(chunk.tokens) == len(chunk.targets)


def test_chunks_can_be_asked_for_in_any_order():
    """Each is made when it is asked for; those that are none are refused."""
    chunks = make_buckets(some_lengths(), (9, 20)).epoch(0)
    forwards = [chunk.tokens.tolist() for chunk in chunks]
    assert [chunks[k].tokens.tolist() for k in reversed(range(len(chunks)))] == forwards[::-1]
    for k in (-1, len(chunks)):
        with pytest.raises(IndexError):
            chunks[k]


# ---------------------------------------------------------------- the order


def test_the_order_is_a_function_of_seed_and_epoch():
    """The same pair gives the same chunks, another seed or epoch others."""
    lengths = some_lengths()
    order = lambda seed, epoch: [c.tokens.tolist() for c in make_buckets(lengths, (9, 20), seed=seed).epoch(epoch)]
    assert order(1, 2) == order(1, 2)
    assert len({str(order(seed, epoch)) for seed in (0, 1, 2**63 - 1) for epoch in (0, 1)}) == 6
    assert order(None, 0) == order(None, 1)


def test_a_batch_comes_from_one_bucket_and_its_company_changes():
    """Lengths of a batch lie between two boundaries; buckets are mixed, and so are the documents within them."""
    buckets = make_buckets(np.repeat([3, 10], 40), (5,), bptt=64)
    epochs = [[tuple(sorted(map(str, texts_of([chunk])))) for chunk in buckets.epoch(number)] for number in range(2)]
    widths = [[len(chunk.offsets) - 1 for chunk in buckets.epoch(number)] for number in range(2)]
    assert all(set(epoch) == {3, 10} and epoch != sorted(epoch) for epoch in widths) and widths[0] != widths[1]
    assert not set(epochs[0]) & set(epochs[1])


@each("count, sizes", [(32, [4] * 8), (33, [4] * 6 + [3] * 3), (5, [3, 2]), (1, [1])])
def test_batches_are_of_as_equal_sizes_as_can_be(count, sizes):
    """One document too many does not make a batch of one."""
    found = [chunk.num_texts for chunk in make_buckets([5] * count).epoch(0)]
    assert sorted(found, reverse=True) == sizes


@pytest.mark.parametrize("tokens", [1, 16, 100])
def test_batches_can_be_filled_by_tokens(tokens):
    """No chunk of several texts has more tokens, and each has as many texts as that allows at the longest length."""
    lengths = np.repeat([2, 5, 40], [40, 60, 20])
    chunks = make_buckets(lengths, (2, 5), tokens_per_batch=tokens, batch_size=99).epoch(0)
    assert all(len(chunk.tokens) <= tokens or chunk.num_texts == 1 for chunk in chunks)
    widest = {T: max(c.num_texts for c in chunks if len(c.offsets) == T + 1) for T in (2, 5, 8)}  # bptt is 8
    full = lambda T, count: -(-count // -(-count // max(1, tokens // T)))
    assert widest == {2: full(2, 40), 5: full(5, 60), 8: full(8, 20)}


# ---------------------------------------------------------------- the loss


def one_by_one(network, ids, offsets):
    """The mean loss of the documents, each read alone from the zero state."""
    nats = 0.0
    for start, end in pairwise(offsets):
        chunk = pack(ids, np.array([start]), np.array([end - start]), fresh=True)
        nats += network.losses(chunk, State.zeros(SHAPE))[0].sum()
    return nats / offsets[-1]


def make_network():
    return Network(SHAPE, initial(SHAPE, 3), "cpu", 2)


@each("boundaries", [(), (4, 9, 20)])
@each("bptt", [5, 64])
def test_the_loss_does_not_depend_on_the_buckets(boundaries, bptt):
    """Bucketed, cut and shuffled, the documents' mean loss is that of reading them one by one."""
    network, (ids, offsets) = make_network(), documents(some_lengths())
    expected = one_by_one(network, ids, offsets)
    found = validation_loss(network, Buckets(ids, offsets, boundaries, bptt, 4).epoch(1))
    assert found == pytest.approx(expected, abs=1e-9)


def test_validation_reads_each_document_from_its_start_to_its_end():
    """So does the source that validation uses, for long and short ones; without documents there is none."""
    network, (ids, offsets) = make_network(), documents([1, 200, 3, 70, 64, 65, 2])
    assert validation_loss(network, validation_documents(ids, offsets)) == pytest.approx(
        one_by_one(network, ids, offsets), abs=1e-9
    )
    assert not validation_documents(ids[:1], offsets[:1])


# ---------------------------------------------------------------- training


def make_trainer(**settings):
    """A trainer on 30 documents of up to 20 steps in three buckets, read in chunks of 8."""
    buckets = make_buckets(some_lengths(30, 20), (4, 10))
    valid = validation_documents(*documents(some_lengths(5), seed=1))
    return Trainer(make_network(), TrainConfig(threads=2, **settings), buckets, valid)


def history(reports):
    return [(r.step, r.tokens, r.valid_loss if r.validated else (r.loss, r.gradient_norm, r.lr)) for r in reports]


@each("stop_at", [1, 2, 3, 4, 5, 9, 14, 15, 16, 20])
def test_a_run_on_documents_can_be_resumed_at_any_step(tmp_path, stop_at):
    """Also between two chunks of a document: through a file, the updates are those of the uninterrupted run."""
    whole, first = make_trainer(epochs=2), make_trainer(epochs=2)
    expected = history(whole.run())
    before = history(first.run(lambda: first.step >= stop_at))
    save_checkpoint(tmp_path / "checkpoint", first.tensors(), first.facts())
    second = make_trainer(epochs=2)
    second.restore(*load_checkpoint(tmp_path / "checkpoint"))
    assert before + history(second.run()) == expected
    for name, array in whole.tensors().items():
        np.testing.assert_array_equal(array, second.tensors()[name], err_msg=name)


def test_epochs_and_tokens_are_counted():
    """An epoch ends, and is validated, when every document has been read to its <end>, however many chunks it took."""
    trainer, tokens = make_trainer(epochs=3), int(some_lengths(30, 20).sum())
    ends = [report for report in trainer.run() if report.validated]
    assert [report.tokens for report in ends] == [tokens, 2 * tokens, 3 * tokens]
    assert [report.epoch for report in ends] == [1, 2, 3]
    assert [report.step for report in ends] == np.cumsum([len(trainer.source.epoch(k)) for k in range(3)]).tolist()


# ---------------------------------------------------------------- what is refused


@each("buckets", ["", "a", "10,", "20,10", "5,5", "0,5", "-1", "1.5", "5;6", "9" * 5000])
def test_boundaries_must_rise_from_1(buckets):
    """The rule, an example and the value are in the error."""
    with pytest.raises(
        ConfigError, match='buckets must be "auto" or rising whole numbers from 1 on, such as "10,20,40"'
    ):
        TrainConfig(buckets=buckets)


def test_boundaries_are_read():
    """Blanks around numbers do not matter; auto and nothing leave the choice to the lengths."""
    assert TrainConfig(buckets="10, 20,40").boundaries == (10, 20, 40)
    assert TrainConfig(buckets="auto", num_buckets=3).boundaries is TrainConfig().boundaries is None


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"buckets": "5", "num_buckets": 2}, "num_buckets is for automatic buckets"),
        ({"num_buckets": 0}, "num_buckets must be at least 1, got 0"),
        ({"tokens_per_batch": 0}, "tokens_per_batch must be at least 1, got 0"),
    ],
)
def test_settings_that_make_no_sense_together(settings, message):
    """Each is named."""
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize("settings", [{"buckets": "auto"}, {"num_buckets": 3}, {"tokens_per_batch": 100}])
def test_a_stream_has_no_buckets(settings):
    """What only documents have is refused by name."""
    with pytest.raises(ConfigError, match=f"^{next(iter(settings))} is for documents"):
        TrainConfig(**settings).check_documents(None)
    TrainConfig(**settings).check_documents("line")


@pytest.mark.parametrize("most_rows, steps", [(1, None), (7, None), (100, None), (7, 2), (7, 5), (7, 9)])
def test_packed_chunks_hold_every_step_once(most_rows, steps):
    """Step by step, text by text, as two loops lay them out; a chunk is full but for its last step, or has its steps."""
    starts, lengths = np.array([40, 0, 10, 30, 20]), np.array([6, 5, 5, 2, 1])
    assert packed.lengths(offsets_of(lengths)).tolist() == lengths.tolist()
    rows = [[starts[n] + t for n in range(5) if lengths[n] > t] for t in range(6)]
    found, sizes = [], []
    for places, offsets in chunks_of(starts, lengths, most_rows, steps):
        found += [places[a:b].tolist() for a, b in pairwise(offsets)]
        sizes.append(len(offsets) - 1)
        assert len(places) <= most_rows or steps or len(offsets) == 2
    assert found == rows
    assert steps is None or all(size == steps for size in sizes[:-1])
    assert most_rows != 7 or steps or sizes == [1, 2, 3]


@each("longest, bptt, expected", [(65, 64, [33, 32]), (64, 64, [64]), (130, 64, [44, 44, 42]), (9, 2, [2, 2, 2, 2, 1])])
def test_chunks_of_long_documents_are_of_like_lengths(longest, bptt, expected):
    """As many as bptt calls for, whatever their border; a document a step longer than bptt has no chunk of a single step."""
    chunks = list(make_buckets([longest] * 3, bptt=bptt, even=True).epoch(0))
    assert [len(chunk.offsets) - 1 for chunk in chunks] == expected
    assert [chunk.fresh for chunk in chunks] == [True] + [False] * (len(expected) - 1)
    assert len(list(make_buckets([longest] * 3, bptt=bptt).epoch(0))) == len(expected)


def test_even_chunks_read_every_document_once():
    """Of unequal lengths: the tokens of all chunks are those of the documents."""
    ids, offsets = documents([3, 9, 17, 17, 30, 5])
    chunks = list(Buckets(ids, offsets, (), 8, 3, even=True).epoch(1))
    read = np.sort(np.concatenate([chunk.targets for chunk in chunks]))
    np.testing.assert_array_equal(read, np.sort(ids[1:]))
    assert max(len(chunk.offsets) - 1 for chunk in chunks) <= 8
