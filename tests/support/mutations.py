"""Files that nblstm wrote, damaged or forged in every way that a seed gives, and what may come of them.

Used by test_hostile_files.py, a few hundred of them, and by stress/files.py, as many as asked.
"""

import copy
import json
import shutil
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import nblstm
from nblstm.errors import NblstmError
from nblstm.files import model_file
from nblstm.nn.parameters import initial, named_tensors
from nblstm.reporting.facts import model_facts
from nblstm.tasks.checkpoint import read_checkpoint
from nblstm.tasks.classification.config import ClassifierConfig
from nblstm.tasks.classification.model import TextClassifier
from nblstm.tasks.classification.network import initial_classifier
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.language.model import LanguageModel
from nblstm.tasks.masked.config import MaskedConfig
from nblstm.tasks.masked.model import MaskedLanguageModel
from nblstm.tasks.series.config import SeriesConfig
from nblstm.tasks.series.model import Scale, SeriesModel
from nblstm.tasks.session import Session
from nblstm.tasks.tagging.config import TaggerConfig
from nblstm.tasks.tagging.network import initial_tagger
from nblstm.tasks.tagging.spans import outputs_of
from nblstm.tasks.translation.config import TranslatorConfig
from nblstm.tasks.translation.network import initial_translator
from nblstm.tasks.translation.run import TranslatorRun
from nblstm.tasks.translation.training import PairedCorpus
from nblstm.tasks.window.config import WindowConfig
from nblstm.tasks.window.network import initial_windows
from nblstm.text.vocabulary import Vocabulary

MEMORY, SECONDS = 32 << 20, 1.0  # beside twice the file's size; of processor time
TEXT = "Ab, ba abba.\nBa é 名!\n" * 3
FACTS = {
    "corpus": ["a.txt", "\x1b]0;b"], "tokens": 60, "steps": 3, "epochs": 0.5, "valid_loss": 1.5, "config": {"lr": 0.1},
}  # fmt: skip
NUMBERS = [
    0, -1, 1, 2, 3, 7, 100, 1000, 10**6, 2**31, 2**53, 2**63, 2**64, 10**30, 10**310, 0.0, -0.0, 0.5, 6.5, 1e-300, 1e300,
]  # fmt: skip
OTHERS = [
    None,
    True,
    False,
    "",
    "x",
    "1",
    "\x1b[31m",
    "\ud800",
    "é" * 50,
    [],
    {},
    [[]],
    [1],
    [None],
    {"a": 1},
    [0, 4],
    "F64",
]


RUNS = ("run", "classifier-run")  # kinds that are checkpoints


def originals(folder, trained):
    """Write a small file of every kind; kind -> path. trained: a folder with the files of a run."""
    paths = {
        name: Path(folder, f"{name}.safetensors")
        for name in (
            "char", "word", "byte", "subword", "masked", "window", "series", "classifier", "numbers", "translator", "tagger", "state",
            "run",
            "classifier-run",
            "adaptive",
        )
    }  # fmt: skip
    for level, options in {
        "char": {"cell": "gru", "tie": True},
        "word": {"learned_state": True, "head": "cell"},
        "byte": {"cell": "rnn", "num_layers": 2, "residual": True},
        "subword": {"cell": "gru"},
    }.items():
        vocabulary = Vocabulary.build([TEXT], level, ends=level == "word")
        config = LanguageConfig(len(vocabulary), hidden_size=4, dropout=0.0, **{"num_layers": 1, **options})
        LanguageModel(config, vocabulary, initial(config, 0), FACTS).save(paths[level])
    vocabulary = Vocabulary.build([TEXT], "word")
    config = LanguageConfig(len(vocabulary), hidden_size=8, num_layers=1, head="adaptive", cutoffs="2,4")
    LanguageModel(config, vocabulary, initial(config, 0), FACTS).save(paths["adaptive"])
    vocabulary = Vocabulary.build([TEXT], "char")
    config = MaskedConfig(len(vocabulary), hidden_size=4, num_layers=1)
    MaskedLanguageModel(config, vocabulary, initial(config, 0), FACTS).save(paths["masked"])
    config = WindowConfig(len(vocabulary), window=3, hidden_size=4)
    weights = named_tensors(initial_windows(config, 0), config)
    model_file.save_model(paths["window"], model_file.ModelFile(config, vocabulary, weights, {}, FACTS))
    config, scale = SeriesConfig(2, 2, hidden_size=4, num_layers=1, dropout=0.0), Scale(np.zeros(2), np.ones(2))
    SeriesModel()._take(config, initial(config, 0), scale, scale, {"steps": 3}).save(paths["series"])
    classifier(paths["classifier"], "char", labels=("no", "yes", "<b>"), pooling="attention", bidirectional=False)
    numbers = {"labels": ("-1", "0", "7"), "label_type": "int", "pooling": "max", "cell": "mingru", "max_length": 9}
    classifier(paths["numbers"], "word", embedding_size=4, **numbers)
    shutil.copy(classifier_run(Path(folder)), paths["classifier-run"])
    words = (Vocabulary.build([TEXT], level, ends=True) for level in ("char", "word"))
    TranslatorRun().model(*translator(*words), {"steps": 3}).save(paths["translator"])
    vocabulary = Vocabulary.from_dict({"level": "word", "tokenizer": "whitespace", "tokens": ["<unk>", "a", "b"]})
    config = TaggerConfig(
        3, tags=outputs_of(["X"]), scheme="iob2", characters="ab", hidden_size=3, embedding_size=2, char_hidden_size=2
    )
    nblstm.Tagger.of_parameters(config, vocabulary, initial_tagger(config, 0), FACTS).save(paths["tagger"])
    model = nblstm.load(paths["char"])
    model.save_state(paths["state"], model.state("ab"))
    shutil.copy(Path(trained, "model.checkpoint.safetensors"), paths["run"])
    return paths


def classifier(path, level, **options):
    """Write a small classifier."""
    vocabulary = Vocabulary.build([TEXT], level, ends=True)
    config = ClassifierConfig(len(vocabulary), hidden_size=4, **options)
    TextClassifier.of_parameters(config, vocabulary, initial_classifier(config, vocabulary, 0), FACTS).save(path)


def classifier_run(folder):
    """The checkpoint of a classifier's run, whose texts lie in the folder."""
    (folder / "labelled.tsv").write_text("abba\tx\nba ba\ty\nab\tx\nbb\ty\n" * 3)
    settings = {"hidden_size": 4, "level": "char", "batch_size": 4, "threads": 1, "epochs": 9}
    stops = iter([False] * 8)
    nblstm.train(
        folder / "labelled.tsv",
        folder / "started.safetensors",
        task="classify",
        stop=lambda: next(stops, True),
        **settings,
    )
    return folder / "started.checkpoint.safetensors"


def translator(source, target):
    """The config, the material and the parameters of a small translator."""
    config = TranslatorConfig(len(target), len(source), hidden_size=4, num_layers=1)
    return config, PairedCorpus((source, target), ([], []), ([], [])), initial_translator(config, 0)


# ---------------------------------------------------------------- damage


def parts(content):
    """The header's object and the data of a file."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header, data):
    """A file of a header, an object or JSON text, and data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def flip(random, content, others):
    """A few bits are others."""
    content = bytearray(content)
    for _ in range(random.integers(1, 9)):
        content[random.integers(len(content))] ^= 1 << random.integers(8)
    return bytes(content)


def cut(random, content, others):
    """Something is missing, at the end or within."""
    start = random.integers(len(content))
    end = len(content) if random.random() < 0.5 else random.integers(start, len(content) + 1)
    return content[:start] + content[end:]


def splice(random, content, others):
    """A piece of another file, or of this one, is put in or written over what was there."""
    other = others[random.integers(len(others))]
    start, place = random.integers(len(other)), random.integers(len(content))
    piece = other[start : start + random.integers(1, 1 + min(400, len(other) - start))]
    over = len(piece) if random.random() < 0.5 else 0
    return content[:place] + piece + content[place + over :]


def places(value, path=()):
    """The path of every value in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in list(items)[:400]:
        yield from places(part, (*path, name))


def changed(random, value):
    """A JSON value with one or two values in it replaced, left out, doubled or moved."""
    value = copy.deepcopy(value)
    for _ in range(random.integers(1, 3)):
        found = [path for path in places(value) if path]
        if not found:
            return value
        *way, last = found[random.integers(len(found))]
        parent = value
        for name in way:
            parent = parent[name]
        action = random.random()
        if action < 0.1:
            del parent[last]
        elif action < 0.15 and isinstance(parent, list):
            parent.append(parent[last])
        elif action < 0.2 and isinstance(parent, dict):
            parent[str(random.choice(["x", "__metadata__", "vocab_size"]))] = parent.pop(last)
        elif action < 0.3 and isinstance(parent[last], (int, float)):
            parent[last] = -parent[last]
        else:
            pool = NUMBERS if random.random() < 0.6 else OTHERS
            parent[last] = copy.deepcopy(pool[random.integers(len(pool))])
    return value


def forge_header(random, content, others):
    """The header says something else; -0 may stand for 0."""
    header, data = parts(content)
    header.get("__metadata__", {}).pop("nblstm_sha256", None)
    text = json.dumps(changed(random, header)).encode()
    return joined(text.replace(b"[0,", b"[-0,") if random.random() < 0.05 else text, data)


def forge_document(random, content, others):
    """Config, vocabulary or facts say something else, and there is no digest."""
    header, data = parts(content)
    metadata = header["__metadata__"]
    metadata.pop("nblstm_sha256", None)
    (key,) = metadata
    metadata[key] = json.dumps(changed(random, json.loads(metadata[key])))
    return joined(header, data)


def forge_tensors(random, content, others):
    """Weights are extreme, or no numbers, and there is no digest."""
    header, data = parts(content)
    header["__metadata__"].pop("nblstm_sha256", None)
    values = np.frombuffer(data[: len(data) // 4 * 4], "<f4").copy()
    chosen = random.integers(0, max(1, len(values)), random.integers(1, 5))
    extreme = [np.nan, np.inf, 3e38, -3e38, 1e20, 1e-45, 0.0]
    values[chosen] = np.array(extreme, "f4")[random.integers(len(extreme))]
    if random.random() < 0.3:
        values = (values * np.float32(10.0 ** random.integers(1, 38))).clip(-3e38, 3e38)
    return joined(header, values.tobytes() + data[len(data) // 4 * 4 :])


def craft(random, content, others):
    """Large headers that hold little: entries, brackets, numbers, words, blanks, backslashes."""
    count = int(random.integers(1, 120_000))
    kinds = [
        lambda: {f"t{k}": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]} for k in range(count)},
        lambda: {f"t{k}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for k in range(count)},
        lambda: {"__metadata__": {str(k): "" for k in range(count)}},
        lambda: {"__metadata__": {"nblstm": "[" + "[]," * 3 * count + "1]"}},
        lambda: {"__metadata__": {"nblstm": '{"vocabulary":{"tokens":[' + '"ab",' * 2 * count + '"a"]}}'}},
        lambda: {"__metadata__": {"nblstm": "[" + "1.5," * 2 * count + "1]"}},
        lambda: b'{"__metadata__":{"nblstm":"' + b"\\\\" * 4 * count + b'"}}',
        lambda: b"{" + b" " * 4 * count + b"}",
        lambda: b'{"a":' + b"[" * count,
        lambda: b'{"__metadata__":{"nblstm":"' + "名".encode() * 2 * count + b'"}}',
    ]
    return joined(kinds[random.integers(len(kinds))](), b"\0" * int(random.integers(3)))


DAMAGES = [flip, cut, splice, forge_header, forge_document, forge_document, forge_document, forge_tensors]
CRAFTED = 0.01  # share of files with a crafted header


def mutated(random, contents, damages=DAMAGES):
    """(kind of file, name of the damage, content) of a damaged file. contents: kind -> content."""
    kind = list(contents)[random.integers(len(contents))]
    damage = craft if random.random() < CRAFTED else damages[random.integers(len(damages))]
    return kind, damage.__name__, damage(random, contents[kind], list(contents.values()))


# ---------------------------------------------------------------- what may come of it


@dataclass
class Verdict:
    """What came of a file: whether it was accepted, and what is wrong with that; None: nothing."""

    accepted: bool = False
    wrong: str | None = None


def load(kind, path, folder):
    """What reads a file of a kind."""
    if kind == "window":
        return nblstm.MLPLanguageModel.load(path)
    if kind == "series":
        return SeriesModel.load(path)
    if kind == "state":
        return nblstm.load(folder / "char.safetensors").load_state(path)
    return read_checkpoint(path) if kind in RUNS else nblstm.load(path)


def use(kind, path, loaded, folder, backends):
    """Do with what was loaded all that a person may do at once."""
    if kind == "tagger":
        for backend in backends:
            loaded.predict([["a", "abba"], ["b"]], backend)
        loaded.save(path.with_name("again.safetensors"))
    elif kind == "window":
        loaded.generate_text("ab", n=3, seed=0)
        loaded.score("abba")
    elif kind == "series":
        D = loaded.config.num_inputs
        for backend in backends:
            loaded.predict(np.ones((4, D)), backend)
        if loaded.config.predicts == "next":
            loaded.forecast(np.ones((4, D)), 2)
    elif kind == "translator":
        for backend in backends:
            loaded.translate(["Abba, ba", ""], n=3, beam=2, backend=backend)
    elif kind == "state":
        "".join(nblstm.load(folder / "char.safetensors").generate("a", state=loaded, n=3, backend="numpy"))
    elif kind in ("classifier", "numbers"):
        model_facts(path, loaded)
        for backend in backends:
            loaded.predict_proba(["名 " * 20], backend)
            loaded.evaluate(["Abba, ba", ""], loaded.classes_[:2], backend)
            loaded.contributions(["ba"], backend)
    elif kind in RUNS:
        if "cpu" in backends:
            go_on(path, folder)
    else:
        model_facts(path, loaded)
        for backend in backends:
            loaded.score("Abba, ba", backend)
            loaded.surprisals("", backend)
            if loaded.config.directions == 1:
                "".join(loaded.generate("ab", n=5, seed=0, backend=backend))
                loaded.generate_many("a", n=3, seed=0, num_samples=3, top_k=3, backend=backend)
                loaded.beam("a", n=4, beam=3, backend=backend)


def go_on(path, folder):
    """Resume the run of a checkpoint for two updates."""
    shutil.copy(path, folder / "resumed.checkpoint.safetensors")
    session, reports = Session.resume(folder / "resumed.safetensors"), []
    for report in session.run(lambda: len(reports) > 2):
        reports.append(report)


def judge(kind, path, folder, backends=("numpy",), reference=None):
    """Load a file of a kind, and use it if it can be loaded. reference: a function that raises for no safetensors file."""
    size, verdict = path.stat().st_size, Verdict()
    tracemalloc.reset_peak()
    before, started = tracemalloc.get_traced_memory()[0], time.process_time()
    try:
        loaded = load(kind, path, folder)
        verdict.accepted = True
    except NblstmError as error:
        if "\n" in str(error).replace(str(path), "") or len(str(error)) > 1000:
            verdict.wrong = f"no sentence: {str(error)[:80]!r}"
    except Exception as error:
        verdict.wrong = f"{type(error).__name__}: {str(error)[:200]}"
    seconds, memory = time.process_time() - started, tracemalloc.get_traced_memory()[1] - before
    if seconds > SECONDS:
        verdict.wrong = f"{seconds:.1f} s"
    if tracemalloc.is_tracing() and memory > 2 * size + MEMORY:
        verdict.wrong = f"{memory / 1e6:.0f} MB for a file of {size / 1e6:.1f} MB"
    if verdict.accepted and verdict.wrong is None:
        verdict.wrong = _accepted(kind, path, loaded, folder, backends, reference)
    return verdict


def _accepted(kind, path, loaded, folder, backends, reference):
    """What is wrong with a file that was accepted."""
    try:
        if reference is not None:
            reference(path.read_bytes())
    except Exception as error:
        return f"accepted what the reference rejects: {error}"
    try:
        with np.errstate(all="ignore"):
            use(kind, path, loaded, folder, backends)
    except NblstmError:
        return None  # weights may be too large to be used
    except Exception as error:
        return f"in use, {type(error).__name__}: {str(error)[:200]}"
    return None
