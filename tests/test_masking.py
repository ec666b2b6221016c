"""Models that read in both directions: they learn and are judged by filling in masked tokens, and refuse to write."""

import numpy as np
import pytest
from support.cases import each
from support.commands import SMALL
from support.files import store
from support.networks import BACKENDS, make_chunk, make_network

import nblstm
from nblstm import scoring
from nblstm.errors import ConfigError, ModelFileError
from nblstm.nn.parameters import named_tensors
from nblstm.tasks.masked import network as networks
from nblstm.tasks.masked.config import MaskedConfig
from nblstm.tasks.masked.model import MaskedLanguageModel
from nblstm.tasks.masked.network import MASK, SPAN, MaskedNetwork
from nblstm.text.batches import Chunk
from nblstm.text.vocabulary import Bytes, Characters, Vocabulary

BOTH = {"bidirectional": True, "hidden_size": 7, "learned_state": True}
LETTERS = Characters(("<unk>", *"abcdefghij"))
ENDING = Characters(("<unk>", "<end>", *"abcdefghi"), ends=True)
K = MaskedConfig(2).masked_passes  # 7 for a share of 0.15


def make_model(vocabulary=LETTERS, **changes):
    """A model of random weights that reads in both directions."""
    network = make_network("numpy", vocab_size=len(vocabulary), **{**BOTH, **changes})
    return MaskedLanguageModel(network.config, vocabulary, network.parameters, {})


def random_text(length, seed=0):
    """Letters that both vocabularies have."""
    return "".join(np.random.default_rng(seed).choice(list("abcdefghi"), length))


def filled_in(model, ids, span):
    """-log p of each of ids (M,): one reading of its span for every single token, hidden with each K-th around it."""
    network, nats = model.network(), []
    state = network.initial_state()
    for part in np.split(ids.astype(np.int32), range(span, len(ids), span)):
        chunk = lambda tokens: Chunk(tokens.astype(np.int32), part, np.arange(len(part) + 1), False)
        for place, id in enumerate(part):
            seen = chunk(np.where(np.arange(len(part)) % K == place % K, MASK, part))
            logits = network.outputs(seen, network.before(seen, state))[0][place]
            nats.append(np.log(np.exp(logits).sum()) - logits[id])
        state = network.read(chunk(part), network.before(chunk(part), state))
    return np.array(nats)


# ---------------------------------------------------------------- learning


def hidden_by(network, monkeypatch, seed, step):
    """(the loss, what was read): of an update of 6 x 30 tokens."""
    read, plain = [], networks.mask_chunk
    monkeypatch.setattr(networks, "mask_chunk", lambda *args: read.append(plain(*args)) or read[-1])
    chunk, state = make_chunk(network.config, T=30, N=6)
    loss, _ = network.loss_and_gradient(np.empty_like(network.parameters), chunk, state, seed, step)
    monkeypatch.undo()
    return loss, chunk, read[-1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_update_hides_some_tokens_and_predicts_those(backend, monkeypatch):
    """Hidden tokens are read as <unk>, the others as they are; the loss is the mean over the hidden ones, by hand."""
    network = make_network(backend, **BOTH)
    loss, chunk, read = hidden_by(network, monkeypatch, 1, 2)
    hidden = read.weights.astype(bool)
    assert (read.tokens[hidden] == MASK).all() and (read.tokens[~hidden] == chunk.targets[~hidden]).all()
    assert 10 < hidden.sum() < 50  # 27 are expected of 180
    logits = network.outputs(read, make_chunk(network.config, 30, 6)[1])[0][hidden]
    own = logits[np.arange(len(logits)), chunk.targets[hidden]]
    assert loss == pytest.approx((np.log(np.exp(logits).sum(axis=1)) - own).mean(), rel=1e-12)


def test_what_is_hidden_is_a_function_of_seed_and_step(monkeypatch):
    """The same for the same (seed, step), another for another; of a single token, that one."""
    network = make_network(**BOTH)
    of = lambda seed, step: hidden_by(network, monkeypatch, seed, step)[2].weights
    assert np.array_equal(of(1, 2), of(1, 2))
    assert not np.array_equal(of(1, 2), of(1, 3)) and not np.array_equal(of(1, 2), of(2, 2))
    chunk, state = make_chunk(network.config, T=1, N=1)
    assert network.loss_and_gradient(np.empty_like(network.parameters), chunk, state, 0, 0)[0] > 0


def test_who_reads_backwards_starts_anew_in_every_chunk():
    """Of the state that is carried, only that of the forward direction counts; the other begins as it was learned."""
    network = make_network(**BOTH)
    chunk, carried = make_chunk(network.config)
    before, initial = network.before(chunk, carried), network.initial_state(3)
    for name in ("h", "c"):
        assert np.array_equal(getattr(before, name)[::2], getattr(carried, name)[::2])
        assert np.array_equal(getattr(before, name)[1::2], getattr(initial, name)[1::2])


def test_a_model_fills_in_what_is_hidden(folder):
    """In a text of pairs, where either letter tells the other, a token hidden between its neighbours is certain."""
    (folder / "pairs.txt").write_text("".join("ab" if n % 3 else "cd" for n in range(2000)))
    model = nblstm.train(
        folder / "pairs.txt", folder / "pairs.safetensors", bidirectional=True, hidden_size=16, num_layers=1, lr=0.02,
        steps=200, batch_size=8, bptt=16,
    )  # fmt: skip
    assert model.surprisals("ababcdabab").nats[2:-2].max() < 0.3


# ---------------------------------------------------------------- judging


@each("length", [1, 3, 10, 100])
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_token_is_hidden_once(backend, length):
    """Surprisals are those of a reading for every single token, however many are read side by side."""
    model, text = make_model(), random_text(length)
    expected = filled_in(model, model.encode(text), SPAN)
    np.testing.assert_allclose(model.surprisals(text, backend).nats, expected, rtol=1e-9)


@pytest.mark.parametrize("vocabulary", [LETTERS, ENDING], ids=["stream", "documents"])
def test_a_text_is_judged_alike_alone_and_among_others(vocabulary, monkeypatch):
    """Texts shorter and longer than a span: side by side, as a stream, and by hand; the <end> is filled in, too."""
    monkeypatch.setattr(MaskedNetwork, "span", 20)
    model = make_model(vocabulary)
    texts = [random_text(length, seed=length) for length in (5, 61, 20, 1, 33, 19, 40)]
    judged = scoring.judge(model.network("cpu"), vocabulary, texts)
    for text, found in zip(texts, judged, strict=True):
        ids = model.encode(text)
        if vocabulary.end_id is not None:
            ids = np.append(ids, vocabulary.end_id)
        np.testing.assert_allclose(found.nats, filled_in(model, ids, 20), rtol=1e-9)
        alone = list(scoring.stream(model.network("cpu"), vocabulary, [text], alone=True))
        np.testing.assert_allclose(np.concatenate([piece.nats for piece in alone]), found.nats, rtol=1e-9)
        assert "".join(piece.text for piece in alone) == text


@pytest.mark.parametrize("tokenizer", [None, "default", "whitespace"])
def test_a_long_text_scores_the_same_however_it_is_cut(tokenizer, monkeypatch):
    """Pieces of any length between tokens give the same score and counts: spans begin where they begin."""
    monkeypatch.setattr(MaskedNetwork, "span", 16)
    words = [random_text(1 + n % 5, seed=n) + " \n "[n % 3] for n in range(60)]
    level = "char" if tokenizer is None else "word"
    model = make_model(Vocabulary.build(words[:30], level, tokenizer or "default"))
    whole = model.score("".join(words))
    for size in (1, 7, 59):
        cut = model.score("".join(words[at : at + size]) for at in range(0, len(words), size))
        assert vars(cut) == pytest.approx(vars(whole), rel=1e-9)
    assert whole.tokens == len(model.encode("".join(words)))


def test_many_copies_at_once_and_few_agree(monkeypatch):
    """How many copies of a chunk are read side by side does not change a loss by a bit."""
    network = make_network("cpu", **BOTH)
    chunk, state = make_chunk(network.config, T=23, N=3)
    found = []
    for rows in (1, 200, 10**6):
        monkeypatch.setattr(networks, "SIDE_BY_SIDE", rows)
        found.append(network.losses(chunk, state)[0])
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_eval_names_the_protocol_and_refuses_streams(folder, command):
    """The spans and how many tokens are hidden are in the protocol line; --streams is refused."""
    assert (
        command("train", "corpus.txt", *SMALL, "--bidirectional", "--steps", 2, "-q", "-o", "b.safetensors").code == 0
    )
    outcome = command("eval", "-m", "b.safetensors", "corpus.txt")
    assert "read in spans of 256 tokens" in outcome.err and "one in 7 at a time" in outcome.err
    refused = command("eval", "-m", "b.safetensors", "--streams", 4, "corpus.txt")
    assert refused.code == 2 and "--streams and --windows are for models that read from left to right" in refused.err


# ---------------------------------------------------------------- refusing


@each("asked", [
    ["sample", "--prompt", "Shall"], ["sample", "-n", 0], ["sample", "--beam", 3], ["sample", "--num-samples", 2],
    ["sample", "--novel", "corpus.txt"],
], ids=lambda asked: " ".join(map(str, asked)))  # fmt: skip
def test_what_writes_refuses(folder, command, asked):
    """One sentence, exit code 2, nothing on stdout."""
    model, reason = (
        make_model(dtype="float32"),
        "a bidirectional model reads whole texts; it cannot write from left to right.",
    )
    model.save(folder / "both.safetensors")
    refused = command(asked[0], "-m", "both.safetensors", *asked[1:])
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.splitlines()[-1] == f"Error: {reason}"


def test_the_library_refuses_as_well():
    """The model has none of the verbs of writing, and its network no decoder."""
    model = make_model()
    assert not {"generate", "generate_many", "beam", "cowriter", "state"} & set(dir(model))
    with pytest.raises(ConfigError, match="cannot write from left to right"):
        model.network().decoder()


def test_samples_during_training_are_refused(folder, command):
    """--sample asks for what the model cannot do, and says so before the first update."""
    asked = [*SMALL, "--bidirectional", "--sample", 20, "--steps", 2]
    refused = command("train", "corpus.txt", *asked, "-o", "b.safetensors")
    assert refused.code == 2 and "cannot write from left to right" in refused.err
    assert not (folder / "b.safetensors").exists()


def test_bytes_cannot_be_hidden(folder, command):
    """Level byte has no <unk> to stand for a hidden token: refused before the text is read, and in model files."""
    refused = command("train", "no-such-corpus.txt", "--level", "byte", "--bidirectional", "-o", "b.safetensors")
    assert refused.code == 2 and "bidirectional hides tokens behind <unk>" in refused.err
    with pytest.raises(ConfigError, match="level byte does not have"):
        make_model(Bytes(Bytes.TOKENS), dtype="float32")
    network = make_network("numpy", vocab_size=256, **{**BOTH, "dtype": "float32"})
    with pytest.raises(ModelFileError, match="level byte does not have"):
        store(
            folder / "b.safetensors",
            network.config,
            Bytes(Bytes.TOKENS),
            named_tensors(network.parameters, network.config),
        )
