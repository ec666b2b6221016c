"""What every public function is called with, and the junk that takes the place of its arguments.

Used by test_borders.py, junk in one place at a time, and by stress/arguments.py, as much of it as one likes.
"""

import dataclasses
import importlib.util

import numpy as np

import nblstm
from nblstm.config import BeamConfig, SampleConfig, TextConfig, TrainConfig
from nblstm.errors import NblstmError
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.masked.config import MaskedConfig
from nblstm.tasks.series.config import SeriesConfig
from nblstm.tasks.series.model import Scale
from nblstm.tasks.tagging.network import initial_tagger
from nblstm.tasks.translation.network import initial_translator
from nblstm.text.batches import Chunk

BACKENDS = ["numpy", *(["cpu"] if importlib.util.find_spec("numba") else [])]

JUNK = [
    None, True, -1, 0, 2**63, 10**30, 1.5, float("nan"), float("inf"), 3 + 1j, "x", "", "\ud800", "\0", b"x", [], {}, (),
    object(), int, range(3), [[1], [1, 2]], ["a", 3], [3, None], {"a": 1}, np.array([]), np.array([np.nan]),
    np.zeros((2, 3)), np.zeros((1, 1, 4)), np.array("x"), np.float64(1), np.array(3), np.array([object()]),
    np.ma.array([1.0], mask=[True]), np.zeros(0, complex),
]  # fmt: skip

VOCABULARY = nblstm.Vocabulary.build(["abcdefgh \n"], "char")
CONFIG = LanguageConfig(len(VOCABULARY), hidden_size=4, num_layers=2)
V = CONFIG.vocab_size
MASKED = MaskedConfig(V, hidden_size=3, num_layers=1)


def make_model(config=CONFIG, parameters=None):
    return nblstm.LanguageModel(config, VOCABULARY, 3 * initial(config, 0) if parameters is None else parameters, {})


def make_series(parameters=None):
    config, one = SeriesConfig(1, 1, hidden_size=3), Scale(np.zeros(1), np.ones(1))
    return nblstm.SeriesModel()._take(config, initial(config, 0) if parameters is None else parameters, one, one, {})


def make_translator():
    config = nblstm.TranslatorConfig(len(ENDING), len(ENDING), hidden_size=3, num_layers=1, shared=True)
    return nblstm.Translator.of_parameters(config, (ENDING, ENDING), initial_translator(config, 0), {})


def make_classifier():
    config = nblstm.ClassifierConfig(len(ENDING), labels=("x", "y"), hidden_size=3)
    return nblstm.TextClassifier.of_parameters(config, ENDING, initial(config, 0), {})


def make_tagger():
    words = nblstm.Vocabulary.from_dict({"level": "word", "tokenizer": "whitespace", "tokens": ["<unk>", "a", "b"]})
    tags = ("O", "B-X", "I-X", "E-X", "S-X")
    config = nblstm.TaggerConfig(3, tags=tags, scheme="iob2", characters="ab", hidden_size=3, char_hidden_size=2)
    return nblstm.Tagger.of_parameters(config, words, initial_tagger(config, 0), {})


ENDING = nblstm.Vocabulary.build(["abc "], "char", ends=True)
MODEL, SERIES, TRANSLATOR, CLASSIFIER = make_model(), make_series(), make_translator(), make_classifier()
TAGGER = make_tagger()
CONTEXTUAL = nblstm.LanguageModel(CONFIG, VOCABULARY, MODEL.parameters, {"text": {"context_column": "a"}})
PREPARED = MODEL.with_statistics(np.ones(CONFIG.num_parameters, np.float32))
STATE = MODEL.state("ab")


WORDS = nblstm.LanguageModel(
    CONFIG, nblstm.Vocabulary.build(["a b c d e f g h i j"], "word", "whitespace"), MODEL.parameters, {}
)


def defaults(config, **changes):
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)} | changes


def written(**settings):
    writer = MODEL.cowriter(**settings)
    writer.type("ab")
    return writer.continuations()


def cached(*args, **settings):
    network = WORDS.caching(*args, **settings)
    return network.losses(Chunk.rectangle(*np.ones((2, 4, 1), int), False), network.initial_state())


# What is called: name -> (function of a backend, positional arguments, keywords)
CALLS = {
    "MaskedConfig": lambda b: (nblstm.MaskedConfig, [], {"vocab_size": 5, "hidden_size": 4, "mask_fraction": 0.2}),
    "MaskedLanguageModel": lambda b: (
        nblstm.MaskedLanguageModel, [MASKED, VOCABULARY, 3 * initial(MASKED, 0), {}], {},
    ),
    "LanguageModel.save": lambda b: (MODEL.save, ["model.safetensors"], {}),
    "LanguageModel": lambda b: (nblstm.LanguageModel, [CONFIG, VOCABULARY, MODEL.parameters, {}], {}),
    "load": lambda b: (nblstm.load, ["none.safetensors"], {}),
    "network": lambda b: (MODEL.network, [b, 1], {}),
    "encode": lambda b: (MODEL.encode, ["ab"], {}),
    "state": lambda b: (MODEL.state, ["ab", None, b], {}),
    "save_state": lambda b: (MODEL.save_state, ["kept.state", STATE], {}),
    "load_state": lambda b: (MODEL.load_state, ["none.state"], {}),
    "in_context": lambda b: (CONTEXTUAL.in_context, ["a", "ab"], {}),
    "generate": lambda b: (
        lambda *a, **k: "".join(MODEL.generate(*a, **k)), ["ab"],
        {"state": None, "stop": (), "until_end": False, "n": 3, "temperature": 1.0, "top_k": 0, "seed": 1, "backend": b},
    ),
    "generate_many": lambda b: (MODEL.generate_many, ["ab"], {"state": None, "n": 3, "num_samples": 2, "backend": b}),
    "draw": lambda b: (MODEL.draw, ["ab"], {"state": None, "n": 3, "num_samples": 2, "backend": b}),
    "generate_novel": lambda b: (MODEL.generate_novel, ["ab"], {"corpus": "abc", "n": 3, "num_samples": 1, "backend": b}),
    "beam": lambda b: (
        MODEL.beam, ["ab"],
        {"state": None, "on_progress": None, "n": 3, "beam": 2, "length_penalty": 0.5, "groups": 1, "diversity": 0.5,
         "stochastic": False, "seed": None, "stop": (), "backend": b},
    ),
    "cowriter": lambda b: (written, [], {"adapt": {"segment": 3}, "continuations": 2, "until": "word", "n": 4, "backend": b}),
    "type": lambda b: (MODEL.cowriter(backend=b).type, ["a"], {}),
    "choose": lambda b: (MODEL.cowriter(backend=b).choose, [1], {}),
    "score": lambda b: (MODEL.score, ["ab", b, 1], {}),
    "score_lines": lambda b: (lambda *a: list(MODEL.score_lines(*a)), [["ab"], b, 1], {}),
    "surprisals": lambda b: (MODEL.surprisals, ["ab", b, 1], {}),
    "prepared": lambda b: (MODEL.prepared, ["ab" * 20, b, 1], {}),
    "with_statistics": lambda b: (MODEL.with_statistics, [np.ones(CONFIG.num_parameters, np.float32)], {}),
    "quantize": lambda b: (MODEL.quantize, [], {}),
    "with_best_rate": lambda b: (PREPARED.with_best_rate, ["abab", b, 1], {}),
    "adapting": lambda b: (PREPARED.adapting, [b, 1], {"rule": "rms", "rate": 1e-3, "decay": 0.0, "segment": 3}),
    "adapt": lambda b: (PREPARED.adapt, ["abab", b, 1], {"rule": "sgd"}),
    "dynamic_score": lambda b: (PREPARED.dynamic_score, ["abab", b, 1], {"segment": 2}),
    "taught": lambda b: (MODEL.taught, [MODEL.adapting(b, 1)], {}),
    "caching": lambda b: (cached, [b, 1, {"segment": 2}], {"size": 3, "theta": 1.0, "share": 0.3}),
    "State": lambda b: (nblstm.State, [STATE.h, STATE.c, STATE.features], {}),
    "State.zeros": lambda b: (nblstm.State.zeros, [CONFIG, 1], {}),
    "State.first": lambda b: (STATE.first, [1], {}),
    "State.take": lambda b: (STATE.take, [[0]], {}),
    "Vocabulary": lambda b: (nblstm.Vocabulary, [("<unk>", "a")], {}),
    "Vocabulary.build": lambda b: (nblstm.Vocabulary.build, [["ab"], "char", "default", 1, None, False], {}),
    "Vocabulary.build words": lambda b: (nblstm.Vocabulary.build, [["ab"], "word", "default", 1, None, False], {}),
    "Vocabulary.from_dict": lambda b: (nblstm.Vocabulary.from_dict, [VOCABULARY.to_dict()], {}),
    "Characters": lambda b: (type(VOCABULARY), [("<unk>", "a"), "default", False], {}),
    "Vocabulary.encode": lambda b: (VOCABULARY.encode, ["ab"], {}),
    "Vocabulary.ids_of": lambda b: (VOCABULARY.ids_of, [["a", "b"]], {}),
    "Vocabulary.encode_all": lambda b: (VOCABULARY.encode_all, [["ab"]], {}),
    "Vocabulary.decode": lambda b: (VOCABULARY.decode, [[1]], {}),
    "Vocabulary.unknown": lambda b: (VOCABULARY.unknown, ["a"], {}),
    "Vocabulary.split": lambda b: (VOCABULARY.split, ["a"], {}),
    "Vocabulary.read": lambda b: (VOCABULARY.read, ["a"], {}),
    "Vocabulary.read_pieces": lambda b: (lambda pieces: list(VOCABULARY.read_pieces(pieces)), [["a", "b"]], {}),
    "Vocabulary.token_bytes": lambda b: (VOCABULARY.token_bytes, [1], {}),
    "pad_sequences": lambda b: (
        nblstm.pad_sequences, [[[1]], 3], {"dtype": "int32", "padding": "pre", "truncating": "pre", "value": 0},
    ),
    "texts_to_sequences": lambda b: (nblstm.texts_to_sequences, [VOCABULARY, ["ab"]], {}),
    "SeriesModel": lambda b: (nblstm.SeriesModel, [], {"hidden_size": 3, "steps": 1, "lr": 0.1, "cell": "gru"}),
    "SeriesModel.predict": lambda b: (SERIES.predict, [np.arange(5.0), b, 1], {}),
    "SeriesModel.forecast": lambda b: (SERIES.forecast, [np.arange(5.0), 3], {}),
    "SeriesModel.save": lambda b: (SERIES.save, ["series.safetensors"], {}),
    "SeriesModel.load": lambda b: (nblstm.SeriesModel.load, ["none.safetensors"], {}),
    "SeriesModel.fit": lambda b: (
        lambda *a, **k: nblstm.SeriesModel(**k).fit(*a, stop=lambda: True), [np.arange(40.0) % 5],
        {"targets": None, "valid_fraction": 0.1, "hidden_size": 3, "threads": 1},
    ),
    "Network": lambda b: (Network, [CONFIG, MODEL.parameters, b, 1, "single"], {}),
    "initial_state": lambda b: (MODEL.network(b).initial_state, [2], {}),
    "logits": lambda b: (MODEL.network(b).logits, [STATE.features], {}),
    "decoder": lambda b: (MODEL.network(b).decoder, [2], {}),
    "Decoder": lambda b: (MODEL.network(b).decoder(2), [[1], STATE.copy()], {}),
    "LanguageConfig": lambda b: (LanguageConfig, [], defaults(CONFIG)),
    "SeriesConfig": lambda b: (SeriesConfig, [], defaults(SERIES.config)),
    "SampleConfig": lambda b: (SampleConfig, [], defaults(SampleConfig())),
    "BeamConfig": lambda b: (BeamConfig, [], defaults(BeamConfig())),
    "TrainConfig": lambda b: (TrainConfig, [], defaults(TrainConfig())),
    "TextConfig": lambda b: (TextConfig, [], defaults(TextConfig())),
    "MLPLanguageModel": lambda b: (
        nblstm.MLPLanguageModel, [], {"window": 3, "padding": "pre", "embedding_size": 0, "hidden_size": 3, "dropout": 0.5},
    ),
    "TextGenerator": lambda b: (nblstm.TextGenerator, [], {"hidden_size": 3, "num_layers": 1, "cell": "lstm"}),
    "TextClassifier": lambda b: (nblstm.TextClassifier, [], {"hidden_size": 3, "num_layers": 1, "pooling": "max", "lr": 0.1}),
    "TextClassifier.fit": lambda b: (
        lambda *a, **k: nblstm.TextClassifier(hidden_size=3, threads=1).fit(*a, stop=lambda: True, **k),
        [["a b", "b c", "c d"] * 4, ["x", "y", "x"] * 4], {"valid": None, "vectors": None},
    ),
    "TextClassifier.predict_proba": lambda b: (CLASSIFIER.predict_proba, [["a b"], b, 1], {}),
    "TextClassifier.predict": lambda b: (CLASSIFIER.predict, [["a b"], b, 1], {}),
    "TextClassifier.score": lambda b: (CLASSIFIER.score, [["a b"], CLASSIFIER.classes_[:1], b, 1], {}),
    "TextClassifier.evaluate": lambda b: (CLASSIFIER.evaluate, [["a b"], CLASSIFIER.classes_[:1], b, 1], {}),
    "TextClassifier.save": lambda b: (CLASSIFIER.save, ["classifier.safetensors"], {}),
    "TextClassifier.contributions": lambda b: (CLASSIFIER.contributions, [["a b"]], {"backend": b, "threads": 1}),
    "ClassifierConfig": lambda b: (
        nblstm.ClassifierConfig, [], {"vocab_size": 5, "labels": ("x", "y"), "hidden_size": 3, "pooling": "mean"},
    ),
    "Translator": lambda b: (
        nblstm.Translator, [], {"hidden_size": 3, "num_layers": 1, "attention": "dot", "bidirectional": False, "shared_vocabulary": True},
    ),
    "Translator.fit": lambda b: (
        lambda *a, **k: nblstm.Translator(hidden_size=3, threads=1).fit(*a, stop=lambda: True, **k),
        [["a b", "b c", "c d"] * 4, ["x", "y", "x z"] * 4], {"valid": None},
    ),
    "Translator.translate": lambda b: (
        TRANSLATOR.translate, [["a b"]], {"threads": 1, "beam": 2, "n": 3, "coverage_penalty": 0.1, "backend": b},
    ),
    "Translator.translate drawn": lambda b: (
        TRANSLATOR.translate, [["a b"]], {"temperature": 0.5, "top_k": 3, "seed": 1, "num_samples": 2, "n": 3, "backend": b},
    ),
    "Translator.evaluate": lambda b: (TRANSLATOR.evaluate, [["a b"], ["b a"]], {"beam": 1, "n": 3, "backend": b}),
    "Translator.source_tokens": lambda b: (TRANSLATOR.source_tokens, ["a b"], {}),
    "Translator.save": lambda b: (TRANSLATOR.save, ["translator.safetensors"], {}),
    "TranslatorConfig": lambda b: (
        nblstm.TranslatorConfig, [5, 6], {"hidden_size": 3, "attention": "additive", "source_size": 0, "shared": False},
    ),
    "TranslateConfig": lambda b: (nblstm.TranslateConfig, [], defaults(nblstm.TranslateConfig())),
    "read_pairs": lambda b: (nblstm.read_pairs, ["none.tsv", "utf-8"], {}),
    "read_parallel": lambda b: (nblstm.read_parallel, ["none.en", "none.de", "utf-8"], {}),
    "Tagger": lambda b: (nblstm.Tagger, [], {"hidden_size": 3, "num_layers": 1, "head": "softmax", "char_hidden_size": 2}),
    "Tagger.fit": lambda b: (
        lambda *a, **k: nblstm.Tagger(hidden_size=3, threads=1).fit(*a, stop=lambda: True, **k),
        [[["a", "b"], ["c"]] * 4, [["O", "I-X"], ["O"]] * 4], {"valid": None, "vectors": None},
    ),
    "Tagger.predict": lambda b: (TAGGER.predict, [[["a", "b"]], b, 1], {}),
    "Tagger.score": lambda b: (TAGGER.score, [[["a", "b"]], [["O", "B-X"]], b, 1], {}),
    "Tagger.evaluate": lambda b: (TAGGER.evaluate, [[["a", "b"]], [["O", "B-X"]], b, 1], {}),
    "Tagger.save": lambda b: (TAGGER.save, ["tagger.safetensors"], {}),
    "TaggerConfig": lambda b: (
        nblstm.TaggerConfig, [], {"vocab_size": 5, "tags": ("x", "y"), "scheme": "none", "characters": "ab", "head": "crf"},
    ),
    "read_tagged": lambda b: (nblstm.read_tagged, ["none.conll", 1, -1, "utf-8"], {}),
    "read_labelled": lambda b: (nblstm.read_labelled, ["none.tsv", "x", "y", "utf-8"], {}),
    "export": lambda b: (nblstm.export, [MODEL, "model.h"], {"format": "c", "weights": "int8", "name": "nblstm"}),
    "prune": lambda b: (nblstm.prune, ["none.safetensors", "none.txt", "p.safetensors"], {"sparsity": 0.5, "steps": 1}),
    "train": lambda b: (nblstm.train, ["none.txt", "model.safetensors"], {"level": "char", "lr": 0.1}),
}  # fmt: skip


def outcome(function, args, keywords):
    """ "an answer" or "an error of ours"; anything else that is raised is a failure of the test."""
    try:
        function(*args, **keywords)
    except NblstmError as error:
        assert str(error).strip().endswith(".")
        return "an error of ours"
    return "an answer"
