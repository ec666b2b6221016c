"""Beam search: exact where it is wide, greedy where it is narrow, and what groups, samples, ends and stops promise."""

import itertools
from collections import Counter

import numpy as np
import pytest
from support.cases import each

from nblstm.config import BeamConfig
from nblstm.errors import ConfigError
from nblstm.generation.beam import BeamSearch
from nblstm.kernels.reference.searching import largest, perturb
from nblstm.nn.network import Network
from nblstm.nn.parameters import views
from nblstm.nn.state import State
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.language.model import LanguageModel
from nblstm.text.vocabulary import Characters, Vocabulary

END = 1


def vocabulary(V):
    """<unk>, the end token, then a, b, ...: V tokens."""
    return Characters(("<unk>", "<end>", *"abcdefgh"[: V - 2]), ends=True)


def random_network(seed, V, backend="numpy"):
    """A small network in float64 whose predictions are decided and depend on all that it has read."""
    config = LanguageConfig(V, hidden_size=5, num_layers=1 + seed % 2, dtype="float64")
    parameters = np.random.default_rng(seed).normal(0, 1.2, config.num_parameters)
    return Network(config, parameters, backend, 1)


def constant_network(logits):
    """A network with these logits, whatever it has read."""
    config = LanguageConfig(len(logits), hidden_size=2, num_layers=1, dtype="float64")
    parameters = np.zeros(config.num_parameters)
    views(parameters, config)["head.bias"][...] = logits
    return Network(config, parameters, "numpy", 1)


def next_tokens(network, n):
    """Prefix -> log p (V,) of the token after it, for every prefix of up to n - 1 tokens, no special ones."""
    table, state = {}, State.zeros(network.config)
    level, logits = [()], network.logits(state.h[-1])
    for _ in range(n):
        logits[:, 0] = -np.inf  # <unk> is not possible
        table |= dict(zip(level, logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)))
        V = network.config.vocab_size
        longer = [(k, token) for k in range(len(level)) for token in range(END + 1, V)]
        level = [(*level[k], token) for k, token in longer]
        if not level:
            break
        state = state.take(np.array([k for k, _ in longer]))
        logits = network.decoder(len(level))([token for _, token in longer], state)
    return table


def every_text(table, n):
    """Every text that ends or is n tokens long -> its log-probability."""
    texts = {}
    for prefix, log_p in table.items():
        before = sum(table[prefix[:k]][prefix[k]] for k in range(len(prefix)))
        for token in range(END, len(log_p)):
            if token == END or len(prefix) == n - 1:
                texts[(*prefix, token)] = before + log_p[token]
    return texts


def score(log_p, length, alpha):
    """Wu et al. 2016, eq. 14, written out."""
    return log_p / ((5 + length) ** alpha / (5 + 1) ** alpha)


def search(network, config, **options):
    """The hypotheses of a search behind the empty text."""
    beam = BeamSearch(network, vocabulary(network.config.vocab_size), State.zeros(network.config), config, **options)
    while not beam.done:
        beam.step()
    return beam.hypotheses()


def texts(hypotheses):
    """Their tokens, as tuples."""
    return [tuple(h.tokens.tolist()) for h in hypotheses]


# ---------------------------------------------------------------- exact


@each("alpha", [0.0, 0.6, 1.0, 2.5])
def test_a_wide_beam_finds_the_best_of_all_texts(alpha):
    """With V^(n-1) places the best text is that of an enumeration of all, with V^n so are all: 50 models an alpha."""
    for seed in range(50):
        V, n = 3 + seed % 3, 1 + seed % 4
        network = random_network(seed + int(100 * alpha), V)
        expected = every_text(next_tokens(network, n), n)
        ranked = sorted(expected, key=lambda text: -score(expected[text], len(text), alpha))
        best = search(network, BeamConfig(n=n, beam=(V - 1) ** (n - 1), length_penalty=alpha))[0]
        assert texts([best]) == ranked[:1]
        width = (V - 1) ** n
        found = search(network, BeamConfig(n=n, beam=width, num_samples=width, length_penalty=alpha))
        assert texts(found) == ranked
        for text, hypothesis in zip(ranked, found):
            assert hypothesis.log_probability == pytest.approx(expected[text], abs=1e-9)
            assert hypothesis.score == pytest.approx(score(expected[text], len(text), alpha), abs=1e-9)


def naive(table, n, beam, groups, diversity, alpha):
    """Diverse beam search as one would write it with lists; a plain one where groups is 1. The texts, best first."""
    found, size = [[((), 0.0)] for _ in range(groups)], beam // groups
    for _ in range(n):
        used = Counter()
        for g in range(groups):
            kept = [(text, p) for text, p in found[g] if text and text[-1] == END]
            children = [
                (text + (token,), p + table[text][token])
                for text, p in found[g] if not (text and text[-1] == END) for token in range(END, len(table[()]))
            ]  # fmt: skip
            children.sort(key=lambda child: -(child[1] - diversity * used[child[0][-1]]))
            grown = children[: size - len(kept)]
            used.update(text[-1] for text, _ in grown)
            found[g] = kept + grown
    return sorted(itertools.chain(*found), key=lambda child: -score(child[1], len(child[0]), alpha))


@each("beam, groups, diversity", [(1, 1, 0.5), (3, 1, 0.5), (6, 3, 0.7), (4, 2, 0.0), (4, 4, 9.0)])
def test_narrow_beams_and_groups_are_the_naive_ones(beam, groups, diversity):
    """Where hypotheses are dropped, all that is found is what plain lists find, on 30 random models."""
    for seed in range(30):
        network, n = random_network(seed, 5), 4
        config = BeamConfig(n=n, beam=beam, num_samples=beam, groups=groups, diversity=diversity, length_penalty=0.7)
        expected = naive(next_tokens(network, n), n, beam, groups, diversity, 0.7)
        found = search(network, config)
        assert texts(found) == [text for text, _ in expected]
        np.testing.assert_allclose([h.log_probability for h in found], [p for _, p in expected], atol=1e-9)


@pytest.mark.parametrize("diversity", [0.3, 5.0])
def test_the_first_group_is_a_plain_beam(diversity):
    """What a beam of the group's size finds alone is among what the groups find, and the others find other texts."""
    others = 0
    for seed in range(20):
        network = random_network(seed, 6)
        alone = texts(search(network, BeamConfig(n=5, beam=2, num_samples=2)))
        grouped = texts(search(network, BeamConfig(n=5, beam=6, num_samples=2, groups=3, diversity=diversity)))
        assert set(alone) <= set(grouped)
        others += len(set(grouped) - set(alone))
    assert others > 20


def test_each_group_gives_its_best_first(model):
    """As many texts as groups are the best of each; a high diversity makes their first tokens differ."""
    settings = {"n": 20, "beam": 6, "groups": 3, "diversity": 50.0}
    best = model.beam("Shall", num_samples=3, **settings)
    assert len({found.text[0] for found in best}) == 3
    assert model.beam("Shall", n=20, beam=2)[0] in best  # that of the first group
    assert model.beam("Shall", num_samples=6, **settings)[:3] == best


def test_width_one_is_greedy():
    """It takes the most likely token at each step, of equals the first, and ends where that is the end token."""
    for seed in range(20):
        network = random_network(seed, 6)
        table, text = next_tokens(network, 5), ()
        while len(text) < 5 and END not in text:
            text += (int(table[text].argmax()),)
        assert texts(search(network, BeamConfig(n=5, beam=1, length_penalty=2.0))) == [text]
    assert texts(search(constant_network([9.0, 0.0, 1.0, 1.0]), BeamConfig(n=3, beam=1))) == [(2, 2, 2)]


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_beam_of_one_writes_greedily(model, backend):
    """A beam of 1 writes what temperature 0 writes, on both backends, also behind a state."""
    greedy = "".join(model.generate("Thou", n=60, temperature=0.0, backend=backend))
    assert [found.text for found in model.beam("Thou", n=60, beam=1, backend=backend)] == [greedy]
    assert [found.text for found in model.beam(state=model.state("Thou"), n=60, beam=1, backend=backend)] == [greedy]


def test_the_backends_find_the_same(model):
    """Texts and figures agree between NumPy and the compiled kernels."""
    settings = {"n": 40, "beam": 6, "num_samples": 6}
    one, other = (model.beam("Shall", backend=backend, **settings) for backend in ("numpy", "cpu"))
    assert [found.text for found in one] == [found.text for found in other]
    np.testing.assert_allclose([f.score for f in one], [f.score for f in other], rtol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"groups": 3}, {"stochastic": True, "seed": 1}], ids=str)
def test_the_backends_find_the_same_of_decided_models(settings):
    """Where every token depends on all before it, and some texts end early: 10 models, many steps a call."""
    config, lengths = BeamConfig(n=30, beam=6, num_samples=6, **settings), set()
    for seed in range(10):
        one, other = (search(random_network(seed, 8, backend), config) for backend in ("numpy", "cpu"))
        lengths |= {len(text) for text in texts(one)}
        assert texts(one) == texts(other)
        np.testing.assert_allclose([h.score for h in one], [h.score for h in other], rtol=1e-9)
    assert len(lengths) > 3


def test_the_figures_are_the_models(model):
    """log_probability is the whole text's less the prompt's, with the share of <unk>, which cannot come, shared out."""
    (found,) = model.beam("Shall I", n=50, beam=4)
    whole, prompt = (model.score(text).nats for text in ("Shall I" + found.text, "Shall I"))
    read = [model.network().logits(model.state("Shall I" + found.text[:k]).h[-1])[0].astype(float) for k in range(50)]
    shares = [np.exp(logits[0] - np.logaddexp.reduce(logits)) for logits in read]
    assert found.log_probability == pytest.approx(prompt - whole - np.log1p(-np.array(shares)).sum(), abs=1e-3)
    assert found.score == pytest.approx(score(found.log_probability, 50, 0.6))


# ---------------------------------------------------------------- when to stop


class ToTheEnd(BeamSearch):
    """A search that never stops early."""

    @property
    def done(self):
        live = (self.places.log_probability > -np.inf) & ~self.places.finished
        return self.steps == self.config.n or not live.any()


@pytest.mark.parametrize("groups, stochastic", [(1, False), (2, False), (1, True)])
def test_stopping_early_loses_nothing(groups, stochastic):
    """The best texts are those of a search that goes on to the end, and many searches do stop earlier."""
    earlier = 0
    for seed, alpha in itertools.product(range(40), (0.0, 1.0)):
        network, state = random_network(seed, 5), State.zeros(random_network(seed, 5).config)
        config = BeamConfig(
            n=12, beam=6, num_samples=2, length_penalty=alpha, groups=groups, stochastic=stochastic, seed=seed
        )
        both = [kind(network, vocabulary(5), state, config) for kind in (BeamSearch, ToTheEnd)]
        for one in both:
            while not one.done:
                one.step()
        first, last = (list(dict.fromkeys(texts(one.hypotheses())))[:2] for one in both)
        assert first == last
        earlier += both[0].steps < both[1].steps
    assert earlier > 5


def test_a_long_text_may_beat_one_that_ended_first():
    """Where going on is nearly certain, the normalised score of the longest text wins, though another ended at once."""
    network = constant_network([0.0, np.log(0.05), np.log(0.95)])
    (best, *_) = search(network, BeamConfig(n=20, beam=2, length_penalty=1.0))
    assert texts([best]) == [(2,) * 20]
    assert best.score == pytest.approx(20 * np.log(0.95) / (25 / 6)) and best.score > np.log(0.05)
    (best, *_) = search(constant_network([0.0, np.log(0.9), np.log(0.1)]), BeamConfig(n=20, beam=2, length_penalty=1.0))
    assert texts([best]) == [(END,)]


# ---------------------------------------------------------------- stochastic beams


def without_replacement(p, count):
    """Set of texts -> probability that `count` draws without replacement from p (text -> probability) give it."""
    sets = Counter()
    for order in itertools.permutations(p, count):
        chance, left = 1.0, 1.0
        for text in order:
            chance, left = chance * p[text] / left, left - p[text]
        sets[frozenset(order)] += chance
    return sets


def chi_square(observed, expected, total):
    """(statistic, cells - 1) of counts against probabilities; cells with fewer than 5 expected are one."""
    cells = [(observed[key], total * chance) for key, chance in expected.items()]
    small = [cell for cell in cells if cell[1] < 5]
    cells = [cell for cell in cells if cell[1] >= 5] + ([tuple(map(sum, zip(*small)))] if small else [])
    return sum((o - e) ** 2 / e for o, e in cells), len(cells) - 1


def critical(freedom):
    """The value a chi-square exceeds with probability 0.001 (Wilson & Hilferty 1931)."""
    return freedom * (1 - 2 / (9 * freedom) + 3.0902 * np.sqrt(2 / (9 * freedom))) ** 3


def test_stochastic_beams_draw_without_replacement():
    """4,000 beams of 2: the sets, the first of each and the share of each text are those of an enumeration."""
    network, draws = random_network(3, 5), 4000
    logs = every_text(next_tokens(network, 2), 2)
    p = {text: float(np.exp(log_p)) for text, log_p in logs.items()}
    settings = {"n": 2, "beam": 2, "num_samples": 2, "stochastic": True}
    found = [texts(search(network, BeamConfig(**settings, seed=seed))) for seed in range(draws)]
    assert sum(p.values()) == pytest.approx(1) and all(len(set(pair)) == 2 for pair in found)
    expected = without_replacement(p, 2)
    for observed, chances in ((Counter(map(frozenset, found)), expected), (Counter(pair[0] for pair in found), p)):
        statistic, freedom = chi_square(observed, chances, draws)
        assert freedom > 3 and statistic < critical(freedom)
    for text in p:
        share = sum(chance for pair, chance in expected.items() if text in pair)
        count = sum(text in pair for pair in found)
        assert abs(count - draws * share) < 4 * np.sqrt(draws * share * (1 - share)) + 1


def test_replacement_would_be_noticed():
    """The chi-square test tells draws without replacement from draws from a slightly other distribution."""
    p = {"a": 0.5, "b": 0.3, "c": 0.2}
    other = {"a": 0.45, "b": 0.3, "c": 0.25}
    observed = Counter({key: round(4000 * chance) for key, chance in without_replacement(other, 2).items()})
    statistic, freedom = chi_square(observed, without_replacement(p, 2), 4000)
    assert statistic > critical(freedom)


def test_the_largest_child_has_its_parents_noise():
    """max G of the children is the parent's G exactly; impossible children and empty parents have -inf, and no nan."""
    with np.errstate(divide="ignore"):
        children = np.log([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    for seed in range(50):
        noise = np.random.default_rng(seed).gumbel(size=children.shape)
        G = perturb(np.array([-3.0, 700.0, -np.inf]), children, noise)
        np.testing.assert_allclose(G.max(axis=1), [-3.0, 700.0, -np.inf], rtol=1e-12)
        assert (G[np.isneginf(children)] == -np.inf).all() and not np.isnan(G).any()


def test_a_seed_draws_the_same_texts(model):
    """One seed, one sample; all its texts differ."""

    def draw(seed):
        return [found.text for found in model.beam(n=30, beam=5, num_samples=5, stochastic=True, seed=seed)]

    assert draw(1) == draw(1) != draw(2) and len(set(draw(3))) == 5


# ---------------------------------------------------------------- texts


def language_model(level, text, bias, tokenizer="default"):
    """A model of the text's vocabulary whose logits are 0 but for `bias`, text of a token -> logit."""
    words = Vocabulary.build([text], level, tokenizer)
    network = constant_network([bias.get(token, 0.0) for token in words.tokens])
    return LanguageModel(network.config, words, network.parameters, {})


@each("level", ["char", "word"])
@each("settings", [{}, {"groups": 2}, {"stochastic": True, "seed": 1}, {"beam": 100, "num_samples": 100}])
def test_the_unknown_token_is_never_written(level, settings):
    """Not even by a model that finds <unk> by far the most likely, nor by a beam wider than there are texts."""
    found = language_model(level, "ab cd", {"<unk>": 50.0}).beam("zz", n=3, **settings)
    assert found and not any("<unk>" in text.text for text in found)
    assert all(np.isfinite(text.log_probability) and text.log_probability < 0 for text in found)


def test_extreme_logits():
    """Logits of +-3e38 give neither nan nor a warning."""
    network = constant_network([0.0, -3e38, 3e38, 3e38])
    for stochastic in (False, True):
        found = search(network, BeamConfig(n=3, beam=8, num_samples=8, stochastic=stochastic, seed=1))
        assert {token for text in texts(found)[:8] for token in text} <= {1, 2, 3}
        assert found[0].log_probability == pytest.approx(-3 * np.log(2))


def test_the_end_token_is_no_text():
    """A text that ends is counted with its end token and written without."""
    network = constant_network([0.0, 2.0, 1.0])
    model = LanguageModel(network.config, vocabulary(3), network.parameters, {})
    best, second = model.beam("a", n=5, beam=4, num_samples=2, length_penalty=0.0)
    end = 2 - np.logaddexp(1, 2)
    assert (best.text, second.text) == ("", "a")
    assert best.log_probability == pytest.approx(end)
    assert second.log_probability == pytest.approx(end + 1 - np.logaddexp(1, 2))


@each(
    "level, corpus, prompt, stop, likely",
    [
        ("char", "ab.", "a", ["b."], "ab"),
        ("char", "ab.", "b", ["zz", "."], "ab"),
        ("byte", "", "é", ["é", "€"], "é"),
        ("word", "the cat, sat", "the", [", s"], " cat"),
        ("word", "the cat", "the", ["c"], " cat"),
    ],
)
def test_stop_strings(level, corpus, prompt, stop, likely):
    """No text holds one; texts that met one end there, also across tokens and inside one; others are n tokens long."""
    bias = dict.fromkeys("éab€".encode().decode("latin-1"), 1.0) if level == "byte" else {likely: 0.5}
    model = language_model(level, corpus, bias)
    found = model.beam(prompt, n=6, beam=200, num_samples=200, stop=stop)
    lengths = [len(model.vocabulary.split(prompt + text.text)) - len(model.vocabulary.split(prompt)) for text in found]
    assert not any(string in text.text for text in found for string in stop)
    assert min(lengths) < 6 and len({text.text for text in found}) == len(found)
    assert max(lengths) <= 6 or level == "byte"  # where U+FFFD stands for a byte and has three


def test_a_stop_string_ends_the_search(model):
    """The text before it is the text of a longer search, cut; the prompt may hold it."""
    (longer,) = model.beam("Shall I\n", n=60, beam=1)
    (found,) = model.beam("Shall I\n", n=60, beam=1, stop="eee")
    assert "eee" in longer.text and found.text == longer.text[: longer.text.index("eee")]
    assert found.log_probability > longer.log_probability


def texts_that_stop(model, prompt, stop, n):
    """Text -> the log-probability of the likeliest tokens that write it, by going through all: V^n of them.

    The model's predictions do not depend on what it has read. A text ends with the token that completes a stop string.
    """
    vocabulary, ids = model.vocabulary, model.encode(prompt)
    logits = views(model.parameters, model.config)["head.bias"].astype(float)
    logits[0] = -np.inf
    log_p, prefix = logits - np.logaddexp.reduce(logits), len(vocabulary.decode(ids))
    found = {}
    for tokens in itertools.product(range(1, len(vocabulary)), repeat=n):
        for length in range(1, n + 1):
            text = vocabulary.decode([*ids, *tokens[:length]])[prefix:]
            places = [place for string in stop if (place := text.find(string)) >= 0]
            if places or length == n:
                text = text[: min(places)] if places else text
                found[text] = max(found.get(text, -np.inf), sum(log_p[token] for token in tokens[:length]))
                break
    return found


@each("stop", [[" cat"], [" the cat"], ["cat"], ["\n"], [" sat", "t\nc"]])
@each("prompt", ["the", "sat cat", "sat\n", ""])
@each("tokenizer", ["whitespace", "default"])
def test_a_stop_string_may_begin_with_the_blank_before_a_word(prompt, stop, tokenizer):
    """Also before the first word behind the prompt: texts and probabilities are those of going through all tokens."""
    model = language_model("word", "the cat\nsat", {"cat": 0.5, " cat": 0.5, "\n": 0.3}, tokenizer)
    expected = texts_that_stop(model, prompt, stop, 4)
    found = model.beam(prompt, n=4, beam=4**4, num_samples=4**4, stop=stop, length_penalty=0.0)
    assert {text.text for text in found} == set(expected)
    for text in found:
        assert text.log_probability == pytest.approx(expected[text.text])
    assert all(a.log_probability >= b.log_probability - 1e-12 for a, b in itertools.pairwise(found))


def test_the_begin_of_a_character_is_no_stop_string():
    """Half of a character, which a longer text completes, is not the U+FFFD that ends a text."""
    model = language_model("byte", "", {chr(byte): 9.0 for byte in "€".encode()})
    found = model.beam("", n=6, beam=1000, num_samples=1000, stop="\ufffd")
    assert any(text.text == "€€" for text in found)


def test_words_are_spaced_behind_the_prompt():
    """Pre-tokenised words are joined to the prompt by one space."""
    model = language_model("word", "the cat", {"cat": 3.0}, "whitespace")
    assert model.beam("the", n=2, beam=2)[0].text == " cat cat"


def test_nothing_is_asked_for(model):
    """n = 0: the empty text, which is certain."""
    (found,) = model.beam("Shall", n=0, num_samples=3)
    assert (found.text, found.log_probability) == ("", 0.0)


def test_fewer_places_than_texts_and_fewer_texts_than_places():
    """A beam wider than the vocabulary starts with what there is; all texts come once there are few enough."""
    network = constant_network([0.0, 0.0, 0.0])
    assert len(search(network, BeamConfig(n=2, beam=50, num_samples=50))) == 3  # end; a end; a a
    assert len(search(network, BeamConfig(n=2, beam=50, num_samples=50, stochastic=True))) == 3


@each(
    "settings, words",
    [
        ({"beam": 0}, "beam must be at least 1"),
        ({"beam": 4, "num_samples": 5}, "num_samples must be at most beam, 4, got 5"),
        ({"beam": 4, "groups": 3}, "multiple of groups"),
        ({"beam": 4, "groups": 2, "stochastic": True}, "no groups"),
        ({"stop": ["a", ""]}, "stop must be strings"),
        ({"stop": 3}, "stop must be strings"),
        ({"length_penalty": -1.0}, "length_penalty"),
        ({"diversity": float("nan")}, "diversity"),
        ({"beem": 3}, "beem"),
    ],
)
def test_wrong_settings(model, settings, words):
    """Each is named before anything is computed."""
    with pytest.raises(ConfigError, match=words):
        model.beam("Shall", **settings)


def test_largest_is_a_stable_sort():
    """`largest` is the head of a stable descending sort, ties and infinities included."""
    random = np.random.default_rng(0)
    for count in (1, 3, 10):
        keys = random.integers(0, 4, 10).astype(float)
        keys[random.integers(0, 10, 3)] = [-np.inf, -np.inf, np.inf]
        np.testing.assert_array_equal(largest(keys, count), np.argsort(-keys, kind="stable")[:count])


# ---------------------------------------------------------------- the command


def test_sample_with_a_beam(command, folder, model, monkeypatch):
    """The texts of the library, behind the prompt, with a line between several; --scores says how likely each is."""
    monkeypatch.setattr("nblstm.cli.beam.QUICK", float("inf"))  # how far it is is said on a slow machine only
    expected = model.beam("Thou", n=20, beam=5, num_samples=2)
    outcome = command("sample", "--prompt", "Thou", "-n", 20, "--beam", 5, "--num-samples", 2, "--scores")
    shown = [
        f"Thou{f.text}\nlog-probability {f.log_probability:.4f}  score {f.score:.4f}\n{'-' * 20}\n" for f in expected
    ]
    assert (outcome.code, outcome.out, outcome.err) == (0, "".join(shown), "")
    one = command("sample", "--prompt", "Thou", "-n", 20, "--beam", 5, "--stop", "e", "--stop", "zz")
    assert one.out.startswith("Thou") and "e" not in one.out


@each(
    "args, words",
    [
        (["--scores"], "--scores needs --beam"),
        (["--length-penalty", "1"], "--length-penalty needs --beam"),
        (["--beam", "4", "--typical", "0.5"], "--typical has no meaning with --beam"),
        (["--beam", "4", "--novel", "corpus.txt"], "--novel has no meaning with --beam"),
        (["--beam", "4", "--top-k", "3"], "--top-k has no meaning with --beam"),
        (["--beam", "4", "--temperature", "0.5"], "--temperature has no meaning with --beam"),
        (["--beam", "4", "--diversity", "1"], "--diversity needs --groups"),
        (["--beam", "0"], "beam must be at least 1"),
    ],
)
def test_options_that_do_not_go_together(command, folder, args, words):
    """One line, exit code 2."""
    outcome = command("sample", *args)
    assert outcome.code == 2 and words in outcome.err and outcome.err.count("\n") == 1 and outcome.out == ""


def test_fewer_texts_than_asked_for(command, folder):
    """It is said on stderr where the search cannot find as many texts."""
    outcome = command("sample", "-n", 0, "--beam", 4, "--num-samples", 3)
    assert outcome.code == 0 and "1 different texts, not 3" in outcome.err


def test_the_old_name_of_the_callback_still_works(model):
    """With a warning, for one more version."""
    steps = []
    with pytest.warns(DeprecationWarning, match="on_progress"):
        model.beam("Shall", n=3, beam=2, report=steps.append, backend="numpy")
    assert steps and steps[-1] <= 3
