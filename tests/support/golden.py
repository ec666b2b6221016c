"""What the golden files of `tests/data` hold: how each number of them is found, for `make.py` there and `test_golden.py`.

Everything is found through few names of the package, all imported here, so that whoever renames one changes it here.
"""

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import nblstm
from nblstm.config import TextConfig, TrainConfig
from nblstm.kernels import load as load_kernels
from nblstm.nn.noise import EMBEDDING, INPUT, LAYER, MASKED, RECURRENT, TEXT, dropout_key
from nblstm.nn.parameters import initial
from nblstm.nn.workspace import Workspaces
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.masked.config import MaskedConfig
from nblstm.tasks.registry import run_named, settings_of, split_settings
from nblstm.tasks.series.batches import Table, Training
from nblstm.tasks.series.config import SeriesConfig
from nblstm.tasks.session import Session
from nblstm.tasks.window.batches import Windows
from nblstm.tasks.window.config import WindowConfig
from nblstm.tasks.window.network import initial_windows
from nblstm.text.buckets import Buckets

DATA = Path(__file__).parents[1] / "data"
CORPUS, LABELLED = DATA / "corpus.txt", DATA / "labelled.tsv"
NUMBERS, PARAMETERS = DATA / "golden.json", DATA / "parameters.npz"

# ---------------------------------------------------------------- stored models

LANGUAGE_MODELS = ("model", "documents", "masked", "words", "bytes", "subwords", "adaptive")
INT8 = "int8"  # "model", its weights rounded
STATE = "model.state.safetensors"
SETTINGS = {  # how the stored models were trained
    "model": {"hidden_size": 10, "dropout": 0.1, "steps": 60},
    "documents": {"hidden_size": 10, "num_layers": 1, "cell": "gru", "documents": "line", "learned_state": True, "steps": 60},
    "masked": {"hidden_size": 8, "num_layers": 1, "bidirectional": True, "mask_fraction": 0.3, "steps": 60},
    "words": {
        "hidden_size": 6, "level": "word", "min_count": 2, "tie": True, "peepholes": True, "residual": True,
        "head": "cell", "num_layers": 1, "steps": 40,
    },
    "bytes": {"hidden_size": 4, "embedding_size": 3, "level": "byte", "cell": "rnn", "layer_norm": True, "steps": 40},
    "subwords": {"hidden_size": 6, "level": "subword", "max_vocab": 280, "num_layers": 1, "steps": 40},
    "adaptive": {
        "hidden_size": 16, "level": "word", "num_layers": 1, "head": "adaptive", "cutoffs": "20,60,100", "steps": 40,
    },
}  # fmt: skip
SMALL = {"batch_size": 4, "bptt": 16, "lr": 0.02, "seed": 3, "threads": 1}
TEXT_TO_SCORE = "So long as thou art more lovely than a day,\nI love thee."
DRAWN = {
    "plain": {},
    "greedy": {"temperature": 0},
    "cold, of the top": {"temperature": 0.6, "top_k": 5, "top_p": 0.9},
    "typical": {"typical_p": 0.7, "min_p": 0.02},
    "not repeating": {"repetition_penalty": 1.3, "repetition_window": 8, "no_repeat_ngram": 3},
}


def of_language_model(name, backend):
    """All that a stored model says of a text and all that it writes, as JSON values."""
    model = nblstm.load(DATA / f"{name}.safetensors")
    score, lines = model.score(TEXT_TO_SCORE, backend), model.score_lines(TEXT_TO_SCORE.split("\n"), backend)
    found = {
        "fingerprint": model.fingerprint,
        "vocabulary": list(model.vocabulary.tokens),
        "score": [score.nats, score.tokens, score.bytes, score.unknown],
        "lines": [[line.nats, line.tokens] for line in lines],
        "surprisals": model.surprisals(TEXT_TO_SCORE, backend).nats.tolist(),
    }
    return found if model.config.directions == 2 else {**found, **_written(model, backend)}


def _written(model, backend):
    """What a model writes, each with a seed of its own."""
    n = 12 if model.vocabulary.level == "word" else 30
    settings = {"n": n, "backend": backend}
    drawn = {
        name: "".join(model.generate("So ", seed=seed, **settings, **asked))
        for seed, (name, asked) in enumerate(DRAWN.items())
    }
    searches = {
        "beam": {},
        "groups": {"groups": 2, "diversity": 0.7},
        "stochastic": {"stochastic": True, "seed": 5},
    }
    beams = {name: model.beam("So ", beam=4, num_samples=4, **settings, **asked) for name, asked in searches.items()}
    cowriter = model.cowriter(n=10, backend=backend)
    cowriter.type("So lo")
    return {
        "drawn": drawn,
        "many": model.generate_many("And", num_samples=3, seed=11, **settings),
        "searched": {name: [[f.text, f.log_probability, f.score] for f in found] for name, found in beams.items()},
        "continuations": cowriter.continuations(),
    }


def after_state(backend):
    """The text that follows a stored state."""
    model = nblstm.load(DATA / "model.safetensors")
    return "".join(model.generate(state=model.load_state(DATA / STATE), n=30, seed=4, backend=backend))


def of_windowed_model():
    """All that the stored windowed model says."""
    program = nblstm.MLPLanguageModel.load(DATA / "window.safetensors")
    score = program.score(TEXT_TO_SCORE)
    return {
        "score": [score.nats, score.tokens, score.bytes, score.unknown],
        "predicted": program.predict([[1, 2, 3], [4, 5, 6, 7, 8, 9]]).tolist(),
        "drawn": [program.generate_text("So ", n=30, temperature=0.8, seed=seed) for seed in (0, 1)],
    }


TAGGED = (
    [["Rome", "is", "in", "Italy"], ["we", "like", "New", "York", "Oslo"], ["in", "it", "rain"]] * 4,
    [["I-LOC", "O", "O", "I-LOC"], ["O", "O", "I-LOC", "I-LOC", "B-LOC"], ["O", "O", "O"]] * 4,
)


def of_tagger(backend):
    """All that the stored tagger says."""
    model = nblstm.load(DATA / "tagger.safetensors")
    measured = model.evaluate(*TAGGED, backend)
    return {
        "tags": model.predict([["Oslo", "is", "in", "Norway"], ["New", "York", "Rome"], ["rain"]], backend),
        "f1": measured.f1,
        "accuracy": measured.accuracy,
        "loss": model.training["valid_loss"],
    }


def of_classifier(backend):
    """All that the stored classifier says."""
    model, texts = nblstm.load(DATA / "classifier.safetensors"), ["a lovely day", "", "darkness unseen winds of day"]
    return {
        "classes": model.classes_.tolist(),
        "probabilities": model.predict_proba(texts, backend).tolist(),
        "contributions": [[score for _, score in tokens] for tokens in model.contributions(texts, backend)],
    }


def of_translator(backend):
    """All that the stored translator says."""
    model, texts = nblstm.load(DATA / "translator.safetensors"), ["unseen dim", "", "fair day somewhere"]
    found = model.translations(texts, backend=backend, beam=3, num_samples=2)
    drawn = model.translations(texts, backend=backend, temperature=1.0, top_p=0.9, seed=7, n=6)
    return {
        "texts": [[one.text for one in ones] for ones in found],
        "scores": [[one.score for one in ones] for ones in found],
        "attention": [ones[0].attention.tolist() for ones in found],
        "drawn": [ones[0].text for ones in drawn],
        "perplexity": model.evaluate(*nblstm.read_pairs(LABELLED), backend=backend).perplexity,
    }


def waves(steps=60):
    """Two series (steps, 2), in numbers that no machine computes differently."""
    t = np.arange(steps)
    return [np.stack([t % 7 - 0.25 * (t % (5 + k)), 3.0 * (t % 4) + k], axis=1) for k in range(2)]


def of_series_model(backend):
    """All that the stored model of series says."""
    model = nblstm.SeriesModel.load(DATA / "series.safetensors")
    return {
        "predicted": model.predict(waves(12)[0], backend=backend).tolist(),
        "forecast": model.forecast(waves(12)[1], 5).tolist(),
    }


# ---------------------------------------------------------------- stored runs

RUNS = {  # that stopped after STOPPED updates, in float64
    "run": {
        "hidden_size": 6, "dropout": 0.3, "output_dropout": 0.2, "optimizer": "adam", "schedule": "cosine", "warmup": 5,
        "epochs": 3,
    },
    "document-run": {
        "hidden_size": 6, "num_layers": 1, "cell": "gru", "documents": "line", "num_buckets": 3, "optimizer": "asgd",
        "lr": 2.0, "averaging_patience": 1, "schedule": "constant", "weight_dropout": 0.2, "epochs": 3,
    },
    "word-run": {
        "hidden_size": 6, "num_layers": 1, "level": "word", "min_count": 2, "optimizer": "sgd", "momentum": 0.9, "nesterov": True,
        "lr": 0.3, "schedule": "plateau", "decay_after": 1, "epochs": 6,
    },
    "classifier-run": {
        "task": "classify", "bptt": None, "hidden_size": 6, "pooling": "attention", "class_weights": "balanced",
        "monitor": "accuracy", "valid_fraction": 0.25, "epochs": 4,
    },
    "translator-run": {
        "task": "translate", "bptt": None, "hidden_size": 6, "num_layers": 1, "monitor": "bleu", "valid_fraction": 0.25,
        "input_feeding": True, "epochs": 5,
    },
}  # fmt: skip
STOPPED, OF_A_RUN = 17, {"dtype": "float64", "batch_size": 4, "bptt": 16, "seed": 3, "threads": 1}


def started(name, path, output):
    """The session of a new run on the file at `path`, to be computed with NumPy."""
    asked = {key: value for key, value in {**OF_A_RUN, **RUNS[name]}.items() if value is not None}
    task, text, model, config, _ = split_settings(asked, run_named(asked.pop("task", "language")))
    kinds = settings_of(task)
    session = Session.start(
        [str(path)], output, task=task, text=kinds.reading(**text), model=model, config=kinds.recipe(**config)
    )
    with_numpy(session.trainer)
    return session


def corpus_of(name):
    """The file that a stored run reads."""
    return LABELLED if "task" in RUNS[name] else CORPUS


def continued(name, folder):
    """The session of a stored run that has gone on to its end, computed with NumPy."""
    shutil.copy(DATA / f"{name}.checkpoint.safetensors", folder / "run.checkpoint.safetensors")
    session = Session.resume(folder / "run.safetensors", paths=[str(corpus_of(name))])
    with_numpy(session.trainer)
    for _ in session.run():
        pass
    return session


def continued_by_library(name, folder):
    """The parameters of the model that `nblstm.train` returns when it goes on with a stored run."""
    shutil.copy(DATA / f"{name}.checkpoint.safetensors", folder / "run.checkpoint.safetensors")
    return nblstm.train(corpus_of(name), folder / "run.safetensors", resume=True).parameters


def with_numpy(trainer, kernels=None):
    """Let a trainer that has not begun compute with NumPy."""
    network = trainer.network
    network.backend = network.backend._replace(kernels=kernels or load_kernels("numpy"))
    network._workspaces = Workspaces(network.backend)


# ---------------------------------------------------------------- every kind after some updates

KINDS = {  # those of `test_every_kind.py`, smaller
    "lstm": {"dropout": 0.3, "output_dropout": 0.2},
    "gru": {"cell": "gru", "residual": True},
    "rnn": {"cell": "rnn", "nonlinearity": "relu", "learned_state": True},
    "update-lstm": {"cell": "update-lstm", "layer_norm": True},
    "peepholes": {"peepholes": True, "proj_size": 4, "embedding_size": 4, "residual": True, "tie": True},
    "cell head": {"head": "cell", "variational_dropout": 0.2, "optimizer": "adamw", "weight_decay": 0.0},
    "noise": {"weight_dropout": 0.3, "embedding_dropout": 0.2, "input_dropout": 0.1},
    "smoothing": {"label_smoothing": 0.1},
    "bidirectional": {"bidirectional": True, "cell": "gru", "residual": True, "embedding_size": 12},
    "many hidden": {"bidirectional": True, "mask_fraction": 0.4, "layer_norm": True, "level": "word", "min_count": 2},
    "documents": {"documents": "line", "cell": "gru", "learned_state": True, "optimizer": "asgd", "lr": 1.0},
    "bidirectional documents": {"bidirectional": True, "documents": "line", "learned_state": True, "head": "cell"},
}
MORE = {  # whose parameters are stored as a few numbers
    "sgd": {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.01, "schedule": "step", "lr_decay": 0.5},
    "rmsprop": {"optimizer": "rmsprop", "schedule": "exponential", "lr_decay": 0.5, "clip_value": 0.01},
    "warm-up": {"schedule": "cosine", "warmup": 4, "weight_decay": 0.1, "clip": 0.5},
    "token weights": {"token_weights": {"e": 0.25, "a": 2.0}},
    "buckets": {"documents": "line", "buckets": "20,44", "tokens_per_batch": 24, "bptt": 8, "even_chunks": False},
    "even chunks": {"documents": "line", "buckets": "20,44", "tokens_per_batch": 24, "bptt": 8},
    "bytes": {"level": "byte", "num_layers": 3, "residual": True, "cell": "rnn"},
    "rare words": {"level": "word", "tokenizer": "whitespace", "min_count": 2, "cell": "update-lstm", "tie": True},
}
NOISY = {  # whose masks are stored
    **KINDS,
    "all at once": {
        "dropout": 0.1, "input_dropout": 0.2, "output_dropout": 0.3, "embedding_dropout": 0.4,
        "variational_dropout": 0.5, "weight_dropout": 0.6, "seed": 2**40 + 7,
    },
}  # fmt: skip
UPDATES = {
    "optimizer": "adam",
    "hidden_size": 6,
    "dtype": "float64",
    "batch_size": 4,
    "bptt": 8,
    "threads": 1,
    "steps": 12,
}


def trained(settings, folder, kernels=None):
    """The trainer after 12 updates with NumPy, and their losses. It reads the corpus whole and validates on it.

    settings: those of `nblstm.train`, and even_chunks=False of runs that began before chunks of documents were even.
    """
    settings = dict(settings)
    even = settings.pop("even_chunks", True)
    task, text, model, config, _ = split_settings({"schedule": "constant", **UPDATES, **settings})
    session = Session.start(
        [str(CORPUS)], folder / "unused.safetensors", valid=[str(CORPUS)], task=task, text=TextConfig(**text), model=model,
        config=TrainConfig(**config), overwrite=True,
    )  # fmt: skip
    if not even:
        recipe, network = dataclasses.replace(session.trainer.config, even_chunks=False), session.trainer.network
        session.trainer = session.task.trainer(network.config, network.parameters, recipe, session.material, print)
    with_numpy(session.trainer, kernels)
    reports = [report for report in session.trainer.run() if not report.validated]
    return session.trainer, [report.loss for report in reports]


def weights(trainer):
    """The parameters of a trainer's network as they are now, (num_parameters,)."""
    return trainer.network.parameters.copy()


def sampled(x):
    """Some numbers of x (n,) and two sums, which tell it from another."""
    x = np.asarray(x)
    return [len(x), float(x.sum()), float(np.abs(x).sum()), *x[:: max(1, len(x) // 12)].tolist()]


# ---------------------------------------------------------------- random streams


def initial_parameters():
    """The first parameters of every kind of network in float64, from two seeds."""
    shapes = {
        "lstm": LanguageConfig(5, 3, hidden_size=4, num_layers=2, dtype="float64"),
        "layer norm": LanguageConfig(5, 3, hidden_size=4, num_layers=1, cell="gru", layer_norm=True, dtype="float64"),
        "tied": LanguageConfig(5, hidden_size=4, num_layers=2, tie=True, learned_state=True, dtype="float64"),
        "projected": LanguageConfig(5, 3, hidden_size=4, num_layers=2, proj_size=2, peepholes=True, dtype="float64"),
        "bidirectional": MaskedConfig(5, 3, hidden_size=4, num_layers=2, cell="rnn", dtype="float64"),
        "update": LanguageConfig(
            5, 3, hidden_size=4, num_layers=1, cell="update-lstm", head="cell", layer_norm=True, dtype="float64"
        ),
        "series": SeriesConfig(2, 2, hidden_size=4, num_layers=2, dtype="float64"),
    }
    windows = {
        "window": WindowConfig(5, 3, hidden_size=4, dtype="float64"),
        "embedded window": WindowConfig(5, 3, embedding_size=2, hidden_size=4, dtype="float64"),
    }
    made = {name: [initial(shape, seed) for seed in (0, 2**40 + 7)] for name, shape in shapes.items()}
    made |= {name: [initial_windows(shape, seed) for seed in (0, 2**40 + 7)] for name, shape in windows.items()}
    return {name: [sampled(parameters) for parameters in pair] for name, pair in made.items()}


def dropout_keys():
    """The keys of all sites, and some of other seeds and steps."""
    sites = [INPUT, LAYER, TEXT, EMBEDDING, RECURRENT, MASKED]
    places = [(0, 0), (1, 0), (0, 1), (7, 123456), (2**63 - 1, 2**31)]
    return [[dropout_key(seed, step, site + 1) for seed, step in places] for site in sites]


def dropout_masks(backend):
    """The places that are kept of 64, for some keys and rates."""
    kernels, masks = load_kernels(backend), {}
    for key in (0, 1, 0x9E3779B97F4A7C15, 2**64 - 1):
        for rate in (0.1, 0.5, 0.9):
            ones, mask = np.ones((8, 8), np.float32), np.empty((8, 8), np.float32)
            kernels.dropout(mask, ones, rate, key, 1)
            masks[f"{key} {rate}"] = np.flatnonzero(mask).tolist()
    return masks


def noise_of_training(settings, folder):
    """What noise falls in updates 0 to 2: (key, rate, size) of every mask, sorted, and the first targets that count."""
    real, masks, targets = load_kernels("numpy"), set(), []

    def dropout(y, x, rate, key, threads):
        masks.add((int(key), rate, x.size))
        real.dropout(y, x, rate, key, threads)

    def losses(*args):
        targets.append(np.asarray(args[6].targets).tolist())
        real.softmax_losses_and_gradient(*args)

    watched = {"dropout": dropout, "softmax_losses_and_gradient": losses}
    kernels = SimpleNamespace(**{name: watched.get(name) or getattr(real, name) for name in real.__all__})
    trained({**settings, "steps": 3}, folder, kernels)
    return {"masks": sorted(map(list, masks)), "targets": [shown[:16] for shown in targets]}


def orders():
    """In which order the texts of an epoch come, in sources that shuffle: the first targets of epochs 0 and 3."""
    lengths = np.array([3, 9, 4, 4, 7, 2, 8, 5, 5, 3, 6, 9, 1, 4])
    ids, offsets = np.arange(lengths.sum() + 1), np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(50.0)[:, None]
    table = Table(places, places, np.array([0, 30, 50]))
    sources = {
        "buckets": Buckets(ids, offsets, [4, 7], 5, 3, seed=9),
        "tokens per batch": Buckets(ids, offsets, [4, 7], 5, 3, tokens_per_batch=12, seed=2**40 + 7),
        "validation": Buckets(ids, offsets, [], 5, 3, seed=None),
        "windows": Windows(np.arange(40), None, 3, "pre", 0, 7, 9),
        "windows of documents": Windows(ids, offsets, 3, "post", 0, 7, 2**40 + 7),
        "series": Training(table, np.array([27, 18]), 4, 5, 9),
    }
    return {name: [_targets(source.epoch(number)) for number in (0, 3)] for name, source in sources.items()}


def _targets(epoch):
    """The targets of the first chunks, and where their steps begin."""
    chunks = [epoch[k] for k in range(min(len(epoch), 6))]
    return [len(epoch), *([np.ravel(chunk.targets).astype(int).tolist(), chunk.offsets.tolist()] for chunk in chunks)]
