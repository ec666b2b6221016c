"""The translator: pairs read and batched, decoding like a search by hand, measures, the estimator and its file."""

import json

import numpy as np
import pytest
from support.cases import each
from support.compare import close
from test_translation import make_network

import nblstm
from nblstm.errors import ConfigError, ModelFileError, TextError
from nblstm.nn.encoder_decoder import Pairs
from nblstm.nn.parameters import views
from nblstm.tasks.translation.batches import Encoded, PairedTexts, Vectors, encoded_sources, encoded_targets
from nblstm.tasks.translation.config import TranslateConfig
from nblstm.tasks.translation.decoding import Translating, largest_of_rows
from nblstm.tasks.translation.measures import corpus_bleu
from nblstm.text.batches import Chunk
from nblstm.text.packing import rows_of
from nblstm.text.vocabulary import Vocabulary

QUIET = {"dropout": 0.0, "input_dropout": 0.0, "output_dropout": 0.0}
SMALL = {"hidden_size": 24, "num_layers": 1, "epochs": 3, "lr": 0.02, "threads": 1, "batch_size": 16, **QUIET}


def reversals(count=200, seed=0, names=0.0):
    """Digits, and the same from the end; so many of them are names instead, each another."""
    r = np.random.default_rng(seed)
    word = lambda: f"n{r.integers(10**9)}" if r.random() < names else str(r.integers(0, 5))
    sources = [" ".join(word() for _ in range(r.integers(1, 5))) for _ in range(count)]
    return sources, [" ".join(reversed(source.split())) for source in sources]


@pytest.fixture(scope="module")
def model():
    """A small model that reverses up to four digits."""
    settings = {**SMALL, "epochs": 20, "hidden_size": 32, "label_smoothing": 0.0, "min_count": 2}
    return nblstm.Translator(**settings).fit(*reversals(500, names=0.1))


# ---------------------------------------------------------------- reading and batches


def test_pairs_on_lines(tmp_path):
    """A tab between source and target; further columns, empty lines and the form of line ends do not matter."""
    path = tmp_path / "pairs.tsv"
    path.write_bytes(b"Go.\tGeh.\tCC-BY 2.0 #1\r\n\r\nRun!\tLauf!\n")
    assert nblstm.read_pairs(path) == (["Go.", "Run!"], ["Geh.", "Lauf!"])
    for text, message in [
        ("a\tb\nno tab\n", "line 2: there must be a tab"),
        ("a\tb\n\n\tx\n", "line 3: there is no source"),
        ("a\t \n", "line 1: there is no target"),
    ]:
        path.write_text(text)
        with pytest.raises(TextError, match=f"pairs.tsv, {message}"):
            nblstm.read_pairs(path)


def test_pairs_in_two_files(tmp_path):
    """Line by line; both empty is no pair; a line without its translation, or files of other lengths, are named."""
    left, right = tmp_path / "a.en", tmp_path / "a.de"
    left.write_text("one\n\ntwo\n"), right.write_text("eins\n\nzwei")
    assert nblstm.read_parallel(left, right) == (["one", "two"], ["eins", "zwei"])
    right.write_text("eins\nx\nzwei\n")
    with pytest.raises(TextError, match=r"a.en and .*a.de, line 2: there is no source"):
        nblstm.read_parallel(left, right)
    right.write_text("eins\n\nzwei\ndrei\n")
    with pytest.raises(TextError, match=r"a.de, line 4: the other side has no such line"):
        nblstm.read_parallel(left, right)


@each("limit", [None, 30])
@each("seed", [None, 0])
def test_every_pair_is_read_once(limit, seed):
    """Rows of source and target belong together, whatever the order; a batch has up to so many tokens."""
    r = np.random.default_rng(1)
    sources = ["".join(r.choice(list("ab"), r.integers(0, 9))) + chr(200 + k) for k in range(40)]
    targets = ["".join(r.choice(list("cd"), r.integers(0, 9))) + chr(200 + k) for k in range(40)]
    left, right = (Vocabulary.build(texts, "char", ends=True) for texts in (sources, targets))
    pairs = PairedTexts(encoded_sources(left, sources, 50), encoded_targets(right, targets), 7, limit, seed)
    found = []
    for chunk in pairs.epoch(0):
        count = chunk.num_texts
        assert limit is None or count == 1 or len(chunk.tokens) + len(chunk.tokens.sources) <= limit
        for n in range(count):
            rows = lambda offsets, n: [first + n for first, last in zip(offsets, offsets[1:]) if n < last - first]
            read = left.decode(chunk.tokens.sources[rows(chunk.tokens.offsets, chunk.tokens.order[n])])
            seen, wanted = (ids[rows(chunk.offsets, n)] for ids in (chunk.tokens.tokens, chunk.targets))
            assert seen[0] == wanted[-1] == right.end_id and right.decode(seen) == right.decode(wanted)
            found.append((read, right.decode(wanted)))
    assert sorted(found) == sorted(zip(sources, targets))


# ---------------------------------------------------------------- decoding


def log_p(network, source, ids):
    """log p of each token of a translation of one source, read at once as in training."""
    c = network.config
    written = np.array([1, *ids])
    pairs = Pairs(written[:-1].astype(np.int32), *source.packed(np.array([0])))
    chunk = Chunk(pairs, written[1:].astype(np.int32), rows_of(np.array([0]), np.array([len(ids)]))[1], True)
    return -network.losses(chunk, network.initial_state())[0].astype(np.float64), c


def brute_force(network, source, length, alpha):
    """Every translation of up to so many tokens that ends (or is as long), by its score, the best first."""
    V, found, open_ = network.config.vocab_size, [], [()]
    for _ in range(length):
        grown = [(*ids, v) for ids in open_ for v in range(V)]
        found += [ids for ids in grown if ids[-1] == 1]
        open_ = [ids for ids in grown if ids[-1] != 1]
    scored = [(log_p(network, source, ids)[0].sum() / ((5 + len(ids)) / 6) ** alpha, ids) for ids in found]
    return sorted(scored, reverse=True)


SOURCE = Encoded.of([np.array([2, 3, 1]), np.array([4, 4, 2, 5, 1]), np.array([1])])


def run(network, texts, **how):
    """The translations of some of the sources."""
    with network.scratch() as scratch:
        ids = 1, np.empty(0, np.int64)
        return Translating(network, scratch, SOURCE, np.array(texts), TranslateConfig(**how), ids).run()


@each("backend", ["numpy", "cpu"])
@each("options", [{"attention": "general"}, {"attention": "none"}, {"attention": "general", "input_feeding": True}])
def test_a_wide_beam_finds_what_enumeration_finds(backend, options):
    """All translations of up to 3 of 4 tokens; a beam that holds everything returns the best ones, and their scores."""
    network = make_network(backend, vocab_size=4, **QUIET, **options)
    for n in range(3):
        one = Encoded.of([SOURCE.ids[SOURCE.starts[n] : SOURCE.starts[n] + SOURCE.lengths[n]]])
        expected = brute_force(network, one, 3, 0.6)[:4]
        (found,) = run(network, [n], beam=64, num_samples=4, n=3, length_penalty=0.6)
        close(np.array([one.score for one in found]), np.array([score for score, _ in expected]), 1e-10)
        assert [tuple(one.tokens) for one in found] == [ids for _, ids in expected]


@each("backend", ["numpy", "cpu"])
@each(
    "options",
    [
        {"attention": "general"},
        {"attention": "none"},
        {"attention": "dot", "bidirectional": False, "input_feeding": True},
    ],
)
@each("how", [{"beam": 1}, {"beam": 3, "num_samples": 2}, {"beam": 3, "coverage_penalty": 0.4}])
def test_many_sources_equal_one_by_one(backend, options, how):
    """Sources that are done leave the batch; log p, score and attention are those of each alone, and of the network."""
    network = make_network(backend, **QUIET, **options)
    together = run(network, [1, 0, 2], **how)
    for n, found in zip([1, 0, 2], together):
        (alone,) = run(network, [n], **how)
        assert [one.tokens.tolist() for one in found] == [one.tokens.tolist() for one in alone]
        source = Encoded.of([SOURCE.ids[SOURCE.starts[n] : SOURCE.starts[n] + SOURCE.lengths[n]]])
        for one, other in zip(found, alone):
            close(np.array([one.score, one.log_probability]), np.array([other.score, other.log_probability]), 1e-10)
            assert one.log_probability == pytest.approx(log_p(network, source, one.tokens)[0].sum(), rel=1e-9)
            if one.attention is not None:
                assert one.attention.shape == (len(one.tokens), SOURCE.lengths[n])
                close(one.attention.sum(axis=1), np.ones(len(one.tokens)), 1e-12)


def test_a_coverage_penalty_is_wus():
    """score = log p / lp + beta sum of log min(1, attention that each step of the source has had)."""
    network = make_network("numpy", **QUIET, attention="general")
    (found,) = run(network, [1], beam=4, num_samples=3, coverage_penalty=0.7, length_penalty=0.8)
    for one in found:
        penalty = 0.7 * np.log(np.minimum(1, one.attention.sum(axis=0))).sum()
        assert one.score == pytest.approx(one.log_probability / ((5 + len(one.tokens)) / 6) ** 0.8 + penalty)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


@each("V, count", [(1, 1), (3, 5), (50, 1), (1000, 5), (997, 12)])
def test_the_largest_of_rows(V, count):
    """As sorting finds them, equal ones in the order of their ids; log p sums to 1."""
    logits = np.random.default_rng(V).normal(size=(7, V)).astype(np.float32).round(1)
    log_p, tokens = largest_of_rows(logits.copy(), count)
    expected = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    assert np.array_equal(tokens, expected)
    exact = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True))
    close(log_p, np.take_along_axis(exact, expected, axis=1), 1e-5)


def test_drawing_follows_the_distribution():
    """First tokens of 4,000 draws are as frequent as they are probable; filters narrow them; a seed repeats them."""
    network = make_network("numpy", **QUIET, attention="general")
    (found,) = run(network, [0], temperature=1.0, num_samples=4000, seed=3, n=1)
    first = np.bincount([one.tokens[0] for one in found], minlength=7) / 4000
    source = Encoded.of([SOURCE.ids[:3]])
    expected = np.exp([log_p(network, source, [v])[0][0] for v in range(7)])
    assert np.abs(first - expected).max() < 0.03
    (greedy,), (alone,) = run(network, [0], beam=1), run(network, [0], temperature=2.0, top_k=1, num_samples=5)
    assert all(one.tokens.tolist() == greedy[0].tokens.tolist() for one in alone)
    again = run(network, [0, 1], temperature=1.0, num_samples=2, seed=5)
    assert all(
        (a.tokens == b.tokens).all()
        for x, y in zip(again, run(network, [0, 1], temperature=1.0, num_samples=2, seed=5))
        for a, b in zip(x, y)
    )


# ---------------------------------------------------------------- measures


def test_bleu_of_a_worked_example():
    """Papineni et al. 2002, by hand: "the the ..." is clipped; a translation that is short pays exp(1 - r / c)."""
    # unigrams 5 of 6, bigrams 3 of 5, trigrams 1 of 4, 4-grams 0 of 3: 1 / (2 * 3)
    found, wanted = "the cat sat on a mat", "the cat sat on the mat"
    assert corpus_bleu([found], [wanted]) == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    assert corpus_bleu(["the the the the"], ["the cat sat here"]) == pytest.approx(
        100 * (1 / 4 * 1 / (2 * 3) * 1 / (4 * 2) * 1 / (8 * 1)) ** 0.25
    )
    words = "a b c d e f g h".split()
    assert corpus_bleu([" ".join(words[:6])], [" ".join(words)]) == pytest.approx(100 * np.exp(1 - 8 / 6))
    assert corpus_bleu(["a b c d"], ["a b c d"]) == pytest.approx(100)
    assert corpus_bleu(["x"], ["y"]) == corpus_bleu([""], ["y"]) == corpus_bleu(["a b"], ["a b"]) == 0


def test_bleu_is_sacrebleus():
    """tokenize="none", on corpora at random, to 0.01 (and closer)."""
    sacrebleu, r = pytest.importorskip("sacrebleu"), np.random.default_rng(0)
    for _ in range(50):
        texts = [" ".join(r.choice(list("abcdef"), r.integers(1, 12))) for _ in range(r.integers(1, 8))]
        found = [
            " ".join(word if r.random() > 0.3 else "x" for word in text.split()[: r.integers(1, 12)]) for text in texts
        ]
        assert corpus_bleu(found, texts) == pytest.approx(
            sacrebleu.corpus_bleu(found, [texts], tokenize="none").score, abs=1e-6
        )


# ---------------------------------------------------------------- the estimator


def test_learns_to_reverse(model):
    """Held-out sources, searched and drawn; scores, attention and tokens come back with the text."""
    sources, targets = reversals(60, seed=1)
    scores = model.evaluate(sources, targets)
    assert scores.exact_match > 0.95 and scores.bleu > 90 and 1 <= scores.perplexity < 1.3
    assert model.score(sources, targets, beam=1) > 90
    ((best, second),) = model.translations(["1 2 3"], num_samples=2)
    assert best.text == "3 2 1" and best.score > second.score and best.source_tokens == (" 1", " 2", " 3", "<end>")
    assert best.tokens == (" 3", " 2", " 1", "<end>")
    assert best.attention.argmax(axis=1).tolist()[:3] == [2, 1, 0]
    assert model.translate(["0 4"], temperature=0.5, seed=1) == ["4 0"]
    assert model.translate([]) == []


@each("options", [
    {"level": "char", "attention": "none"}, {"source_level": "char", "cell": "gru"}, {"level": "byte", "attention": "additive"},
    {"shared_vocabulary": True, "tie": True, "bidirectional": False, "attention": "dot"}, {"input_feeding": True},
    {"tokens_per_batch": 60, "monitor": "bleu", "tokenizer": "whitespace"},
])  # fmt: skip
def test_kinds_of_translators(options, tmp_path):
    """Levels, cells, attention and vocabularies train, answer, and come back from a file as they were."""
    translator = nblstm.Translator(**{**SMALL, "steps": 4, "epochs": None, **options}).fit(*reversals(40))
    path = tmp_path / "model.safetensors"
    translator.save(path)
    sources = ["1 2", "", "never \U0001f600 \ud800"]
    expected = translator.translations(sources, backend="numpy")
    for loaded in (nblstm.load(path), nblstm.Translator.load(path)):
        assert isinstance(loaded, nblstm.Translator) and loaded.config == translator.config
        assert (loaded.vocabulary, loaded.source_vocabulary) == (translator.vocabulary, translator.source_vocabulary)
        for a, b in zip(expected, loaded.translations(sources, backend="numpy")):
            assert (a[0].text, a[0].tokens, a[0].score) == (b[0].text, b[0].tokens, b[0].score)
    with pytest.raises(ModelFileError, match="translator"):
        nblstm.LanguageModel.load(path)


def test_sources_that_are_vectors(tmp_path):
    """The largest of three numbers, as a word; the map of the vector to the state is learned."""
    r = np.random.default_rng(0)
    vectors = r.normal(size=(300, 3))
    targets = [f"number {'one two three'.split()[k]}" for k in vectors.argmax(axis=1)]
    translator = nblstm.Translator(**{**SMALL, "attention": "none", "epochs": 12}).fit(vectors, targets)
    assert translator.evaluate(vectors, targets).exact_match > 0.8
    translator.save(tmp_path / "captions.safetensors")
    loaded = nblstm.load(tmp_path / "captions.safetensors")
    assert loaded.translate(vectors[:20]) == translator.translate(vectors[:20])
    for wrong, message in [
        (vectors[:, :2], "vectors of 3 numbers"),
        (["a"], "vectors of 3 numbers"),
        (vectors * np.nan, "finite"),
    ]:
        with pytest.raises(ConfigError, match=message):
            loaded.translate(wrong)
    with pytest.raises(ConfigError, match="attention none"):
        nblstm.Translator(**SMALL).fit(vectors, targets)


def test_an_unknown_word_is_taken_from_the_source(model):
    """<unk> becomes the source's most attended word; where that is not wanted it is not written."""
    assert model.translate(["1 somebody 2", "else 3"]) == ["2 somebody 1", "3 else"]
    assert "<unk>" not in "".join(model.translate(["1 somebody 2"], replace_unknown=False))


def test_backends_agree_and_numpy_alone_suffices(model, tmp_path, python):
    """Both backends find the same; a process without numba answers as well."""
    sources = reversals(12, seed=2)[0]
    for a, b in zip(*(model.translations(sources, backend=backend) for backend in ("numpy", "cpu"))):
        assert a[0].text == b[0].text and a[0].score == pytest.approx(b[0].score, abs=1e-4)
    model.save(tmp_path / "model.safetensors")
    program = (
        "import sys; sys.modules['numba'] = None; import nblstm;"
        f"print(nblstm.load({str(tmp_path / 'model.safetensors')!r}).translate(['1 2 3', '0 4']))"
    )
    assert python("-c", program).out.strip() == str(["3 2 1", "4 0"])


def test_reproducible_and_stopped_early():
    """The same seed gives the same weights on any number of threads; patience ends what gets no better."""
    first, second = (
        nblstm.Translator(**{**SMALL, "epochs": 1, "threads": n, "dropout": 0.3}).fit(*reversals(60)) for n in (1, 2)
    )
    assert np.array_equal(first.parameters, second.parameters)
    reports, (sources, targets) = [], reversals(60)
    shuffled = targets[1:] + targets[:1]
    translator = nblstm.Translator(**{**SMALL, "epochs": 60, "patience": 1})
    translator.fit(sources, shuffled, on_report=reports.append)
    validated = [report for report in reports if report.validated]
    assert len(validated) < 60 and all(0 <= report.measures["bleu"] <= 100 for report in validated)
    assert translator.training["valid_loss"] == min(report.valid_loss for report in validated)


def test_words_of_sources_begin_with_vectors(files, folder, command):
    """Those of a file, in the library and in a run; embedding_size is theirs; sources that are numbers have none."""
    (folder / "words.txt").write_text("1 1 2 3\n2 4 5 6\n")
    settings = {**SMALL, "steps": 1, "epochs": None, "lr": 1e-9, "optimizer": "sgd"}
    translator = nblstm.Translator(**settings).fit(*files, vectors="words.txt")
    outcome = command(
        "train",
        "--task",
        "translate",
        "pairs.tsv",
        "--vectors",
        "words.txt",
        *FEW,
        "--steps",
        1,
        "--lr",
        1e-9,
        "-o",
        "new.safetensors",
    )
    assert outcome.code == 0, outcome.err
    for model in (translator, nblstm.load("new.safetensors")):
        named, tokens = views(model.parameters, model.config), model.source_vocabulary.tokens
        assert model.config.embedding_size == 3
        close(named["encoder.embedding.weight"][tokens.index(" 2")], np.array([4, 5, 6], np.float32), 1e-5)
    with pytest.raises(ConfigError, match="embedding_size must be 3"):
        nblstm.Translator(**settings, embedding_size=5).fit(*files, vectors="words.txt")
    with pytest.raises(ConfigError, match="numbers have no words"):
        nblstm.Translator(**settings, attention="none").fit(np.ones((3, 2)), ["a", "b", "c"], vectors="words.txt")


def test_pairs_that_are_too_long_are_told():
    """Targets beyond max_length are left out of training and counted; none left is an error; sources are cut."""
    sources, targets = ["a b", "c d", "e"], ["x", "y z y z y z", "w"]
    messages = []
    translator = nblstm.Translator(**{**SMALL, "steps": 1, "epochs": None, "max_length": 3, "valid_fraction": 0.0})
    translator.fit(sources, targets, on_message=messages.append)
    assert messages == ["1 of 3 targets are longer than max_length=3: left out."]
    assert translator.source_tokens("a b c d") == (" a", " b", "<end>")
    assert all(len(found[0].tokens) <= 3 for found in translator.translations(["a b c d e f"]))
    with pytest.raises(ConfigError, match="every target is longer than max_length=1 "):
        nblstm.Translator(**{**SMALL, "max_length": 1, "valid_fraction": 0.0}).fit(["a"], ["x y"])


# ---------------------------------------------------------------- what is refused


@each("settings, message", [
    ({"attention": "sum"}, "attention must be one of general, dot, additive, none"), ({"head": "cell"}, "no setting 'head'"),
    ({"attention": "dot"}, "sizes that match"), ({"attention": "none", "input_feeding": True}, "input_feeding needs attention"),
    ({"input_feeding": True, "weight_dropout": 0.1}, "new noise at every step"), ({"monitor": "f1"}, "monitor must be one of"),
    ({"tie": True, "embedding_size": 3}, "tie needs embedding_size == 256"), ({"max_length": 0}, "max_length must be at least 1"),
    ({"shared_vocabulary": True, "source_level": "char"}, "shared_vocabulary has one level"), ({"level": "line"}, "level must be one of"),
])  # fmt: skip
def test_wrong_settings_are_named(settings, message):
    """At once, before anything is read."""
    with pytest.raises(ConfigError, match=message):
        nblstm.Translator(**settings)


@each("how, message", [
    ({"beem": 3}, "no setting 'beem'"), ({"num_samples": 9}, "num_samples must be at most beam"), ({"top_k": 3}, "top_k is for drawing"),
    ({"temperature": 1.0, "top_p": 0}, "top_p must be greater than 0"), ({"backend": "cuda"}, "backend must be one of"),
    ({"beam": 0}, "beam must be at least 1"),
])  # fmt: skip
def test_wrong_ways_of_asking_are_named(model, how, message):
    """Whatever is asked."""
    with pytest.raises(ConfigError, match=message):
        model.translate(["1"], **how)


def test_wrong_data_are_named(model):
    """What is no text, too few of them, or asked before there is a model."""
    for sources, targets, error, message in [
        (["a"], ["x", "y"], ConfigError, "as many as the sources, got 2 and 1"),
        ("ab", ["x"], TextError, "sources must be several"),
        (["a"], [1], TextError, "must be a string"),
        ([], [], ConfigError, "nothing to learn"),
        (["a"], None, ConfigError, "targets must be"),
        (np.zeros(3), ["x"], ConfigError, r"an array \(texts, numbers\)"),
    ]:
        with pytest.raises(error, match=message):
            nblstm.Translator(**SMALL).fit(sources, targets)
    for ask in (
        lambda m: m.translate(["a"]),
        lambda m: m.score(["a"], ["b"]),
        lambda m: m.save("x"),
        lambda m: m.source_tokens("a"),
    ):
        with pytest.raises(ConfigError, match="learnt nothing yet"):
            ask(nblstm.Translator())
    with pytest.raises(ConfigError, match="nothing to measure"):
        model.evaluate([], [])
    assert isinstance(Vectors(np.zeros((2, 3))).lengths, np.ndarray)


# ---------------------------------------------------------------- the command line


@pytest.fixture
def files(folder):
    """pairs.tsv, and the same in two files."""
    sources, targets = reversals(60)
    (folder / "pairs.tsv").write_text("".join(f"{a}\t{b}\tCC\n" for a, b in zip(sources, targets)))
    (folder / "a.en").write_text("\n".join(sources)), (folder / "a.de").write_text("\n".join(targets))
    return sources, targets


FEW = ["--hidden-size", 8, "--num-layers", 1, "--batch-size", 16, "--schedule", "constant", "-q"]


def test_training_on_files_and_translating_line_for_line(files, command, folder):
    """Pairs on lines or in two files; a stop in between changes no bit; empty lines stay; JSON has the attention."""
    asked = ["train", "--task", "translate", *FEW]
    outcome = command(*asked, "pairs.tsv", "--steps", 7, "-o", "whole.safetensors")
    assert outcome.code == 0, outcome.err
    assert command(*asked, "pairs.tsv", "--steps", 5, "-o", "parts.safetensors").code == 0
    outcome = command("train", "--resume", "--steps", 7, "-q", "-o", "parts.safetensors")
    assert outcome.code == 0, outcome.err
    whole, parts = (nblstm.load(folder / f"{name}.safetensors") for name in ("whole", "parts"))
    assert np.array_equal(whole.parameters, parts.parameters) and whole.training["corpus"] == ["pairs.tsv"]
    more = ["--valid-source", "a.en", "--valid-target", "a.de", "--shared-vocabulary", "--attention", "additive"]
    outcome = command(*asked, "--source", "a.en", "--target", "a.de", *more, "--steps", 2, "-o", "two.safetensors")
    assert outcome.code == 0, outcome.err
    assert nblstm.load(folder / "two.safetensors").config.shared
    (folder / "in.txt").write_text("1 2\n\n3\n")
    outcome = command("translate", "in.txt", "-m", "whole.safetensors", "--beam", 2)
    assert outcome.out.splitlines() == [whole.translate(["1 2"], beam=2)[0], "", whole.translate(["3"], beam=2)[0]]
    outcome = command("translate", "-m", "whole.safetensors", "--json", "--num-samples", 2, "-n", 3, "in.txt")
    found = json.loads(outcome.out.splitlines()[0])["translations"]
    assert found[0]["source_tokens"] == [" 1", " 2", "<end>"] and len(found[0]["attention"]) == len(found[0]["tokens"])


def test_measures_on_files(model, files, command, folder):
    """eval prints what `evaluate` returns, of pairs on lines or in two files; info and the epoch lines show BLEU."""
    model.save(folder / "model.safetensors")
    expected = model.evaluate(*files, beam=2, backend="numpy").facts()
    for where in (["pairs.tsv"], ["a.en", "--target", "a.de"]):
        outcome = command("eval", *where, "--json", "--beam", 2, "--backend", "numpy")
        assert outcome.code == 0, outcome.err
        (found,) = json.loads(outcome.out)["files"]
        assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert "exact match" in command("eval", "pairs.tsv").out
    facts = command("info").out
    assert "BLEU" in facts and "additive" not in facts and "tokens, level word" in facts
    for wrong, message in [
        (["a.en", "--target", "a.de", "--target", "a.de"], "--target must stand once for each FILE"),
        (["pairs.tsv", "--streams", 2], "--streams is not for models of this task"),
        (["a.en"], "line 1: there must be a tab"),
        (["pairs.tsv", "--text-column", "x"], "--text-column is nothing"),
    ]:
        outcome = command("eval", *wrong)
        assert outcome.code in (1, 2) and message in outcome.err and outcome.err.count("\n") == 1, outcome.err


@each("arguments, code, message", [
    (["--source", "a.en"], 2, "belong together"), (["pairs.tsv", "--source", "a.en", "--target", "a.de"], 2, "leave one out"),
    (["--source", "a.en", "--target", "pairs.tsv", "--valid", "a.en"], 1, "a.en, line 1: there must be a tab"),
    (["a.en"], 1, "a.en, line 1: there must be a tab"), (["pairs.tsv", "--pooling", "max"], 2, "pooling"),
    (["pairs.tsv", "--attention", "dot"], 2, "sizes that match"),
])  # fmt: skip
def test_wrong_files_end_in_a_line(files, command, arguments, code, message):
    """What is no pair, sides that do not belong together, settings of other tasks."""
    outcome = command("train", "--task", "translate", *FEW, "--steps", 1, *arguments, "-o", "new.safetensors")
    assert outcome.code == code and message in outcome.err and outcome.err.count("\n") == 1, outcome.err
