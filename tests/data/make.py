"""Make the golden files that are missing: `python tests/data/make.py`, from the root of a checkout.

They say what a version stored and computed, and hold all later versions to it (`tests/test_golden.py`). So they are
only ever added to: what is there is never made again, and this script leaves it alone. To guard something new, add it
to `tests/support/golden.py` and to the tables below, and run this. All of format version 1 was made by nblstm 0.1.0, what is
computed with NumPy on x86-64.

    corpus.txt, labelled.tsv      the texts of all models and runs
    NAME.safetensors              stored models: of text, of windows, of series
    model.state.safetensors       a state of model.safetensors
    NAME.checkpoint.safetensors   runs that stopped in the middle of an epoch; their text was in /tmp/golden
    golden.json                   what the models say and write, and the random streams
    parameters.npz                the parameters of every kind after 12 updates, and of the runs at their end
"""

import json
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import numpy as np
from support import golden

import nblstm


def language_model(name, output, folder):
    """A model of text."""
    nblstm.train(golden.CORPUS, folder / output.name, **golden.SMALL, **golden.SETTINGS[name])
    shutil.copy(folder / output.name, output)


def state(output, folder):
    """A state of a stored model."""
    model = nblstm.load(golden.DATA / "model.safetensors")
    model.save_state(output, model.state("Thou art more lovely"))


def rounded_model(output, folder):
    """A stored model of text, its weights rounded."""
    nblstm.load(golden.DATA / "model.safetensors").quantize().save(output)


def windowed_model(output, folder):
    """A windowed model."""
    settings = {"documents": "line", "epochs": 3, "batch_size": 32, "seed": 3, "threads": 1}
    model = nblstm.MLPLanguageModel(window=4, embedding_size=5, hidden_size=12, **settings)
    model.fit(golden.CORPUS.read_text(encoding="utf-8")).save(output)


def series_model(output, folder):
    """A model of series."""
    settings = {"hidden_size": 6, "steps": 60, "lr": 0.02, "bptt": 8, "batch_size": 4, "threads": 1}
    nblstm.SeriesModel(**settings).fit(golden.waves()).save(output)


def tagger(output, folder):
    """A tagger."""
    settings = {
        "hidden_size": 6,
        "char_hidden_size": 3,
        "char_embedding_size": 4,
        "epochs": 12,
        "lr": 0.05,
        "threads": 1,
    }
    nblstm.Tagger(**settings, batch_size=4).fit(*golden.TAGGED, valid=golden.TAGGED).save(output)


def classifier(output, folder):
    """A classifier."""
    texts, labels = nblstm.read_labelled(golden.LABELLED)
    settings = {"hidden_size": 5, "pooling": "max", "epochs": 4, "batch_size": 8, "lr": 0.02, "threads": 1}
    nblstm.TextClassifier(**settings).fit(texts, labels).save(output)


def translator(output, folder):
    """A translator."""
    sources, targets = nblstm.read_pairs(golden.LABELLED)
    settings = {
        "hidden_size": 5,
        "num_layers": 1,
        "attention": "additive",
        "min_count": 2,
        "epochs": 4,
        "batch_size": 8,
    }
    nblstm.Translator(**settings, lr=0.02, threads=1).fit(sources, targets).save(output)


def checkpoint(name, output, folder):
    """The checkpoint of a run that stopped in the middle of an epoch."""
    place = Path("/tmp/golden")
    place.mkdir(exist_ok=True)
    corpus = shutil.copy(golden.corpus_of(name), place)
    session = golden.started(name, corpus, folder / f"{name}.safetensors")
    for _ in session.run(lambda: session.trainer.step == golden.STOPPED):
        pass
    shutil.rmtree(place)
    shutil.copy(session.checkpoint, output)


FILES = {
    **{f"{name}.safetensors": partial(language_model, name) for name in golden.LANGUAGE_MODELS},
    golden.STATE: state,
    f"{golden.INT8}.safetensors": rounded_model,
    "window.safetensors": windowed_model,
    "series.safetensors": series_model,
    "classifier.safetensors": classifier,
    "tagger.safetensors": tagger,
    "translator.safetensors": translator,
    **{f"{name}.checkpoint.safetensors": partial(checkpoint, name) for name in golden.RUNS},
}
NUMBERS = {
    **{name: lambda folder, name=name: golden.of_language_model(name, "numpy") for name in golden.LANGUAGE_MODELS},
    golden.INT8: lambda folder: golden.of_language_model(golden.INT8, "numpy"),
    "after state": lambda folder: golden.after_state("numpy"),
    "window": lambda folder: golden.of_windowed_model(),
    "series": lambda folder: golden.of_series_model("numpy"),
    "classifier": lambda folder: golden.of_classifier("numpy"),
    "tagger": lambda folder: golden.of_tagger("numpy"),
    "translator": lambda folder: golden.of_translator("numpy"),
    **{
        f"losses of {name}": lambda folder, kind=kind: golden.trained(kind, folder)[1]
        for name, kind in {**golden.KINDS, **golden.MORE}.items()
    },
    **{
        f"parameters of {name}": lambda folder, kind=kind: golden.sampled(
            golden.weights(golden.trained(kind, folder)[0])
        )
        for name, kind in golden.MORE.items()
    },
    **{
        f"best of {name}": lambda folder, name=name: golden.sampled(golden.continued(name, folder).model().parameters)
        for name in golden.RUNS
    },
    "initial parameters": lambda folder: golden.initial_parameters(),
    "dropout keys": lambda folder: golden.dropout_keys(),
    "dropout masks": lambda folder: golden.dropout_masks("numpy"),
    **{
        f"noise of {name}": lambda folder, kind=kind: golden.noise_of_training(kind, folder)
        for name, kind in golden.NOISY.items()
    },
    "orders": lambda folder: golden.orders(),
}
PARAMETERS = {
    **{
        name: lambda folder, kind=kind: golden.weights(golden.trained(kind, folder)[0])
        for name, kind in golden.KINDS.items()
    },
    **{name: lambda folder, name=name: golden.weights(golden.continued(name, folder).trainer) for name in golden.RUNS},
}


def main():
    """Make what is missing."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, make in FILES.items():
            if not (golden.DATA / name).exists():
                make(golden.DATA / name, folder)
        numbers, parameters = golden.NUMBERS, golden.PARAMETERS
        known = json.loads(numbers.read_text(encoding="utf-8")) if numbers.exists() else {}
        known |= {name: make(folder) for name, make in NUMBERS.items() if name not in known}
        lines = ",\n".join(
            f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in known.items()
        )
        numbers.write_text("{\n" + lines + "\n}\n", encoding="utf-8")
        arrays = dict(np.load(parameters)) if parameters.exists() else {}
        arrays |= {name: make(folder) for name, make in PARAMETERS.items() if name not in arrays}
        np.savez_compressed(parameters, **arrays)


if __name__ == "__main__":
    main()
