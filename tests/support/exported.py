"""Small untrained language models for the tests of exports, with vocabularies that are hard to quote."""

import random
from dataclasses import replace
from itertools import chain

import numpy as np

from nblstm.files.model_file import ModelFile
from nblstm.nn.parameters import initial
from nblstm.tasks.classification.config import ClassifierConfig
from nblstm.tasks.classification.model import TextClassifier
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.language.model import LanguageModel
from nblstm.tasks.tagging.config import TaggerConfig
from nblstm.tasks.tagging.model import Tagger
from nblstm.tasks.tagging.spans import outputs_of
from nblstm.text.vocabulary import Vocabulary

HARD = ["\\", "\n", '"', "'", " ", "😀", "é", "€", "?", "/", "*", "<", "\t", "\x01", "’", "`", "%", "{", "$", "@"]
WORDS = 'Hello wörld, it’s "quoted" don\'t\tx_1 \\ back 😀 </script> ??/ the end.\n'
PROMPTS = {
    "char": 'b\\"é😀c',
    "byte": "a\nb",
    "word": ' Hello wörld, it’s  "quoted" don\'t\tx_1  never seen’ w3\n',
}


def vocabulary(size=36, level="char", tokenizer="default", ends=False, newline="keep"):
    """A vocabulary of so many tokens; of bytes there are 256."""
    return replace(_vocabulary(size, level, tokenizer, ends), newline=newline)


def _vocabulary(size, level, tokenizer, ends):
    if level == "byte":
        return Vocabulary.build([], "byte", ends=ends)
    if level == "word":
        text = WORDS + " ".join(f"w{k}" for k in range(size))
        return Vocabulary.build([text], "word", tokenizer=tokenizer, ends=ends, max_vocab=size)
    first = ["<unk>", "<end>"] if ends else ["<unk>"]
    characters = HARD + [chr(code) for code in chain(range(97, 123), range(0x4E00, 0x4E00 + size))]
    fields = {"level": "char", "tokenizer": "default", "tokens": first + characters[: size - len(first)]}
    return Vocabulary.from_dict(fields | ({"end_id": 1} if ends else {}))


def language_model(size=36, level="char", tokenizer="default", ends=False, newline="keep", seed=0, **config):
    """A language model with fresh parameters, every bias and learned state too."""
    tokens = vocabulary(size, level, tokenizer, ends, newline)
    config = LanguageConfig(**{"vocab_size": len(tokens), "hidden_size": 16, "num_layers": 2, **config})
    parameters = initial(config, seed)
    parameters += np.random.default_rng(seed).uniform(-0.2, 0.2, len(parameters)).astype(config.dtype)
    return LanguageModel(config, tokens, parameters, {})


def classifier(size=60, level="char", tokenizer="default", newline="keep", seed=0, **config):
    """A text classifier of three labels, one hard to quote, with fresh parameters."""
    tokens = vocabulary(size, level, tokenizer, True, newline)
    fields = {"hidden_size": 16, "num_layers": 1, "labels": ("no", 'y"\\😀', "don't know"), "max_length": 60, **config}
    config = ClassifierConfig(len(tokens), **fields)
    parameters = 2 * initial(config, seed)
    parameters += np.random.default_rng(seed).uniform(-0.3, 0.3, len(parameters)).astype(config.dtype)
    return TextClassifier.restore(ModelFile.of(config, tokens, parameters, {}, {}))


TAGGED_WORDS = ["in", "new", "york", "élan", "straße", "don't", 'a"b\\', "0,00", "i̇x", "😀", "</p>", "?", "?" * 3, "O0"]


def tagger(kinds=("LOC", 'P"?'), seed=0, **config):
    """A tagger with fresh parameters, whose words and types are hard to quote; kinds: of spans, or with scheme none tags."""
    tokens = ["<unk>", *(word for word in TAGGED_WORDS if word != "O0")]
    words = Vocabulary.from_dict({"level": "word", "tokenizer": "whitespace", "tokens": tokens})
    tags = kinds if config.get("scheme") == "none" else outputs_of(kinds)
    fields = {"hidden_size": 11, "char_hidden_size": 5, "char_embedding_size": 7, "scheme": "iob2", **config}
    config = TaggerConfig(len(words), tags=tuple(tags), characters='aeéinoYN0?"\\ß😀', **fields)
    parameters = 2 * initial(config, seed)
    parameters += np.random.default_rng(seed).uniform(-0.4, 0.4, len(parameters)).astype(config.dtype)
    return Tagger.restore(ModelFile.of(config, words, parameters, {}, {}))


# Taggers: each scheme and head, with and without spellings, and other cells.
TAGGERS = {
    "iob2": {}, "iob1": {"scheme": "iob1", "kinds": ("A", "B", "C")}, "iobes": {"scheme": "iobes"},
    "names": {"scheme": "none", "kinds": ("DT", "NN", "?\\", "VB")},
    "softmax": {"head": "softmax", "scheme": "iob1"}, "softmax, names": {"head": "softmax", "scheme": "none", "kinds": ("a", "b")},
    "no spelling": {"char_hidden_size": 0, "lowercase": False, "zero_digits": False, "max_length": 3},
    "two layers, residual": {"num_layers": 2, "residual": True, "cell": "gru", "zero_digits": False, "max_characters": 3},
    "one way": {"bidirectional": False, "cell": "rnn", "nonlinearity": "relu", "lowercase": False, "learned_state": True},
    "projection": {"proj_size": 4, "layer_norm": True},
}  # fmt: skip

WRITTEN = [
    *TAGGED_WORDS, "New", "YORK", "ÉLAN", "STRASSE", "1,25", "٣,00", "İX", "Zz", "never", "x" * 300, "-", "ſ", "K",
]  # fmt: skip


def tagger_sentences(count=40, seed=0):
    """Sentences of 1 to 12 words: known, unknown, in other cases, of other alphabets' digits."""
    chance = random.Random(seed)
    return [chance.choices(WRITTEN, k=chance.randint(1, 12)) for _ in range(count)]


# Texts that a classifier must cut as nblstm does: nothing, blanks at both ends, one that is too long.
TEXTS = [
    "",
    " ",
    "\n",
    "Hello",
    "  Hello wörld, it’s\n",
    ' "quoted" don\'t\tx_1 ',
    "never seen",
    "w3 w4\n\nw5 \u3000",
    'b\\"é😀c',
    "a w1" * 40,
]

# Networks that every format without an equation of its own must get right: a name, and what makes the model.
NETWORKS = {
    "lstm": {"hidden_size": 37},
    "gru": {"hidden_size": 37, "cell": "gru"},
    "rnn, residual": {"hidden_size": 20, "num_layers": 3, "cell": "rnn", "residual": True},
    "relu": {"hidden_size": 20, "cell": "rnn", "nonlinearity": "relu"},
    "projection": {"proj_size": 9, "residual": True, "embedding_size": 9, "learned_state": True},
    "peepholes, cell head, tied": {"peepholes": True, "head": "cell", "tie": True},
    "update-lstm": {"cell": "update-lstm", "head": "cell", "learned_state": True},
    "documents of words": {"size": 300, "level": "word", "ends": True, "tie": True},
    "spaced words": {"size": 300, "level": "word", "tokenizer": "whitespace", "tie": True},
    "bytes": {"level": "byte"},
    "one unit": {"hidden_size": 1, "num_layers": 1},
    "two tokens": {"size": 2, "hidden_size": 5},
    "a large vocabulary": {"size": 10_000, "num_layers": 1},
    "minGRU": {"cell": "mingru", "num_layers": 3, "residual": True, "learned_state": True},
    "minGRU, one layer": {"cell": "mingru", "num_layers": 1, "hidden_size": 7},
    "layer norm": {"layer_norm": True, "hidden_size": 19, "head": "cell"},
    "layer norm, peepholes": {"layer_norm": True, "peepholes": True, "proj_size": 9, "num_layers": 1},
    "layer norm, gru": {"layer_norm": True, "cell": "gru", "residual": True},
    "layer norm, update-lstm": {"layer_norm": True, "cell": "update-lstm", "level": "byte"},
    "layer norm, minGRU": {"layer_norm": True, "cell": "mingru", "tie": True},
    "layer norm, rnn": {"layer_norm": True, "cell": "rnn", "nonlinearity": "relu", "hidden_size": 12},
}

# Classifiers: each pooling, one direction and both, and what is read at each level.
CLASSIFIERS = {
    "mean": {"size": 300, "level": "word"},
    "last, one way": {
        "pooling": "last",
        "bidirectional": False,
        "proj_size": 9,
        "num_layers": 2,
        "learned_state": True,
    },
    "last": {"pooling": "last", "cell": "gru", "num_layers": 2, "residual": True, "level": "word"},
    "max, spaced words": {"pooling": "max", "level": "word", "tokenizer": "whitespace", "cell": "update-lstm"},
    "attention, bytes": {"pooling": "attention", "level": "byte", "num_layers": 2, "hidden_size": 13},
    "attention, minGRU": {"pooling": "attention", "cell": "mingru", "bidirectional": False},
    "mean, layer norm": {"layer_norm": True, "num_layers": 2, "peepholes": True, "level": "word"},
    "last, relu": {"pooling": "last", "cell": "rnn", "nonlinearity": "relu", "embedding_size": 32, "residual": True},
}
