"""Files as data: damage is noticed, lies are refused before they cost anything, and nothing in a file is obeyed."""

import errno
import json
import os
import pty
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from support import mutations
from support.cases import each
from support.commands import SMALL, environment
from support.mutations import joined, parts

import nblstm
from nblstm.errors import ModelFileError, NblstmError
from nblstm.files import safetensors
from nblstm.files.digest import DIGEST
from nblstm.tasks.checkpoint import read_checkpoint
from nblstm.tasks.session import Session
from nblstm.text.vocabulary import Vocabulary

MIB = 1 << 20


@pytest.fixture(scope="module")
def originals(trained, tmp_path_factory):
    """A small file of every kind: kind -> path. Not to be written to."""
    return mutations.originals(tmp_path_factory.mktemp("originals"), trained)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def forged(content, change, key="nblstm"):
    """A file again, without a digest, its document changed in place by `change`."""
    header, data = parts(content)
    document = json.loads(header["__metadata__"][key])
    change(document)
    header["__metadata__"] = {key: json.dumps(document)}
    return joined(header, data)


def peak(call):
    """The most memory, in bytes, that a call holds at once; it must raise ModelFileError."""
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------- the digest


@each(
    "kind",
    ["char", "masked", "window", "series", "classifier", "translator", "tagger", "state", "run", "classifier-run"],
)
def test_single_bits_and_cuts_are_noticed(originals, path, kind):
    """Whichever bit of a file flips, it is refused; here some hundred bits of each kind, every one of a digest's name."""
    content = originals[kind].read_bytes()
    name = content.index(DIGEST.encode())
    bits = [*range(8 * name, 8 * (name + len(DIGEST))), *range(0, 8 * len(content), 8 * len(content) // 400 | 1)]
    for bit in bits:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(ModelFileError):
            mutations.load(kind, path, originals["char"].parent)
    for size in range(0, len(content), len(content) // 50):
        path.write_bytes(content[:size])
        with pytest.raises(ModelFileError):
            mutations.load(kind, path, originals["char"].parent)


def test_a_changed_weight_is_named_as_damage(originals, path):
    """A flipped bit in a weight leaves a number as good as another; the digest tells."""
    content = bytearray(originals["char"].read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="damaged: its content does not match its digest"):
        nblstm.load(path)


def test_a_file_without_a_digest_is_read(originals, path):
    """As older versions wrote it, or a program that keeps the document alone."""
    path.write_bytes(forged(originals["char"].read_bytes(), lambda document: None))
    assert nblstm.load(path).fingerprint == nblstm.load(originals["char"]).fingerprint


def test_another_program_may_rewrite_the_file(originals, path):
    """The safetensors package stores the same tensors and metadata in its own order: the digest stays valid."""
    reference = pytest.importorskip("safetensors.numpy")
    metadata = safetensors.read(originals["word"])[1]
    reference.save_file(reference.load_file(originals["word"]), path, dict(reversed(metadata.items())))
    assert nblstm.load(path).fingerprint == nblstm.load(originals["word"]).fingerprint
    tensors = {name: tensor * 2 for name, tensor in reference.load_file(originals["word"]).items()}
    reference.save_file(tensors, path, metadata)
    with pytest.raises(ModelFileError, match="digest"):
        nblstm.load(path)
    reference.save_file(tensors, path, {"nblstm": metadata["nblstm"]})
    assert np.array_equal(nblstm.load(path).parameters, nblstm.load(originals["word"]).parameters * 2)


def test_the_same_run_writes_the_same_bytes(folder):
    """Same seed, same text: the same model file, byte by byte, whatever the time and the number of threads."""
    settings = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "bptt": 8, "steps": 3, "seed": 5}
    for name, threads in (("a", 1), ("b", 1), ("c", 2)):
        nblstm.train("corpus.txt", f"{name}.safetensors", threads=threads, **settings)
    a, b, c = ((folder / f"{name}.safetensors").read_bytes() for name in "abc")
    assert a == b == c


# ---------------------------------------------------------------- hostile headers

ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HEADERS = {
    "-0 as a size": (
        json.dumps({"a": {**ONE, "shape": ["S", 0], "data_offsets": [0, 0]}}).replace('"S"', "-0").encode(),
        b"",
    ),
    "-0 as an offset": (json.dumps({"a": {**ONE, "data_offsets": ["S", 4]}}).replace('"S"', "-0").encode(), bytes(4)),
    "half a character in a name": (json.dumps({"\ud800": ONE}).encode(), bytes(4)),
    "half a character in the metadata": (json.dumps({"__metadata__": {"k": "\udfff"}}).encode(), b""),
    "half a character in its name": (json.dumps({"__metadata__": {"\ud83d": ""}}).encode(), b""),
}


@each("header, data", HEADERS.values(), ids=HEADERS)
def test_what_the_format_does_not_know_is_refused(path, header, data):
    """Also what Python's JSON takes: the safetensors package refuses the same files."""
    path.write_bytes(joined(header, data))
    with pytest.raises(ModelFileError):
        safetensors.read(path)
    reference = pytest.importorskip("safetensors")
    with pytest.raises(reference.SafetensorError):
        reference.deserialize(path.read_bytes())


def test_a_whole_character_in_two_escapes_is_text(path):
    """JSON writes an emoji as a pair of surrogates."""
    path.write_bytes(joined(json.dumps({"__metadata__": {"k": "\U0001f600"}}).encode(), b""))
    assert safetensors.read(path)[1] == {"k": "\U0001f600"}


LARGE = {
    "entries that overlap": lambda: json.dumps({f"t{k}": ONE for k in range(100_000)}).encode(),
    "brackets": lambda: b'{"__metadata__":{"nblstm":"' + b"[]," * (4 * MIB) + b'1"}}',
    "brackets outside": lambda: b'{"a":[' + b"[]," * (4 * MIB) + b"1]}",
    "numbers": lambda: b'{"__metadata__":{"nblstm":"[' + b"1.5," * (4 * MIB) + b'1]"}}',
    "metadata": lambda: json.dumps({"__metadata__": {str(k): "" for k in range(200_000)}}).encode(),
    "wide characters": lambda: b'{"__metadata__":{"nblstm":"' + b"a" * 8 * MIB + "名".encode() + b'"}}',
    "backslashes": lambda: b'{"__metadata__":{"nblstm":"' + b"\\\\" * 8 * MIB + b'"}}',
}


@each("make", LARGE.values(), ids=LARGE)
def test_a_large_header_that_holds_little_costs_little(path, make):
    """Memory stays below twice the file and 32 MiB: Python's JSON would take up to thirty times the file."""
    path.write_bytes(joined(make(), b""))
    assert peak(lambda: nblstm.load(path)) <= 2 * path.stat().st_size + 32 * MIB


@each("block", [1, 2, 3, 7, 64])
def test_brackets_and_commas_are_counted_outside_of_strings(monkeypatch, block):
    """Against a plain reading, character by character, wherever the blocks begin."""
    monkeypatch.setattr(safetensors, "SMALL", 0)
    monkeypatch.setattr(safetensors, "BLOCK", block)
    random = np.random.default_rng(block)
    for _ in range(200):
        value = {
            "".join(random.choice(list('a,"\\[{'), 3)): ["".join(random.choice(list('],"\\[{'), 4)), [1, {}]]
            for _ in "abc"
        }
        text = json.dumps(value).encode()
        brackets = commas = 0
        inside = escaped = False
        for character in text.decode():
            if not inside:
                brackets, commas = brackets + (character in "[{"), commas + (character == ",")
            if character == '"' and not escaped:
                inside = not inside
            escaped = character == "\\" and not escaped
        assert safetensors.is_modest(text, brackets, commas)
        assert not safetensors.is_modest(text, brackets - 1, commas)
        assert not safetensors.is_modest(text, brackets, commas - 1)


# ---------------------------------------------------------------- lies


def test_a_config_of_a_million_layers(originals, path):
    """It is refused for its number, and a thousand layers for the tensors that are not there."""
    for number, message in ((10**6, "num_layers must be at most 1000"), (1000, "lacks the tensor")):
        change = lambda document: document["config"].update(num_layers=number)
        path.write_bytes(forged(originals["char"].read_bytes(), change))
        with pytest.raises(ModelFileError, match=message):
            nblstm.load(path)


def test_a_sparse_file(originals, path):
    """A tensor of 40 GB that takes no room on the disk is refused by the config, or by the machine's memory."""
    entry = {"dtype": "F32", "shape": [10**10], "data_offsets": [0, 4 * 10**10]}
    header = joined({"__metadata__": parts(originals["char"].read_bytes())[0]["__metadata__"], "head.bias": entry}, b"")
    path.write_bytes(header)
    try:
        os.truncate(path, len(header) + 4 * 10**10)
    except OSError as error:
        pytest.skip(f"no sparse files here: {error}")
    assert peak(lambda: nblstm.load(path)) < 2 * MIB


def test_more_than_the_memory_there_is(path, monkeypatch):
    """Tensors that the machine cannot hold are refused before the first is read."""
    safetensors.write(path, {"w": np.zeros(1000)}, {})
    monkeypatch.setattr(safetensors.os, "sysconf", {"SC_PAGE_SIZE": 4, "SC_PHYS_PAGES": 1000}.get)
    with pytest.raises(ModelFileError, match="more than the 0.0 GB of memory"):
        safetensors.read(path)


def test_memory_that_ends_is_an_error_of_ours(path, monkeypatch):
    """A MemoryError while tensors are read becomes a sentence."""
    safetensors.write(path, {"w": np.zeros(1000)}, {})

    def exhausted(*args):
        raise MemoryError

    monkeypatch.setattr(safetensors.np, "empty", exhausted)
    with pytest.raises(ModelFileError, match="more memory than is free"):
        safetensors.read(path)


# ---------------------------------------------------------------- checkpoints

CHECKPOINTS = {  # where in the facts -> values that are none
    ("trainer", "step"): [6.5, -1, "3", None, True, 2**63],
    ("trainer", "tokens"): [2**63, "x", -1],
    ("trainer", "waited"): ["x", 0.5],
    ("trainer", "epoch_number"): [-1, 10**30, []],
    ("trainer", "best_loss"): ["x", -1.0, [], True],
    ("trainer", "seconds"): [None, "x", -1.0, 10**400],
    ("trainer", "schedule"): [None, {"x": 1}, []],
    ("trainer", "optimizer"): [None, {"losses": []}, []],
    ("trainer",): [None, [], 3],
    ("config", "lr"): ["x", -1, 10**400],
    ("config", "minutes"): [10**400],
    ("config", "lazy_embedding"): [1, "yes", None],
    ("model", "cutoffs"): ["1", 3],
    ("config", "epochs"): [10**30],
    ("config", "buckets"): ["x,y"],
    ("config", "token_weights"): [[], {"a": "x"}, {"a": 10**400}],
    ("model", "hidden_size"): [10_000, 0, 8.0, "8"],
    ("model", "num_layers"): [10**6, 2],
    ("model", "vocab_size"): [10**400, 3],
    ("model", "cell"): ["gru", [], {}],
    ("text", "encoding"): [None, 3],
    ("text", "level"): ["word", []],
    ("vocabulary", "tokens"): [None, ["<unk>"], {"a": 1}],
    ("vocabulary",): [None, [], {}],
    ("corpus",): [None, "x", [3], [None], {}],
    ("valid",): [None, [[]], 1],
    ("asked",): [None, [], {"batch_size": "x", "bptt": 1}],
    ("fingerprint",): [None, 1],
    ("model",): [None, [], {}],
}


@each("place, values", CHECKPOINTS.items(), ids=[".".join(place) for place in CHECKPOINTS])
def test_every_field_of_a_checkpoint_has_a_type_and_a_range(originals, tmp_path, place, values):
    """What training does not write is refused with the path, before a network is made: no other exception."""
    path = tmp_path / "model.checkpoint.safetensors"
    for value in values:

        def change(document):
            *way, last = place
            parent = document["facts"]
            for name in way:
                parent = parent[name]
            parent[last] = value

        path.write_bytes(forged(originals["run"].read_bytes(), change, "nblstm_checkpoint"))
        with pytest.raises(ModelFileError) as caught:
            Session.resume(tmp_path / "model.safetensors")
        assert str(path) in str(caught.value) and len(str(caught.value)) < 600


def test_what_a_classifiers_checkpoint_says_is_checked(originals, tmp_path):
    """Its task, its labels and words, and the measures of its best validation."""
    path = tmp_path / "model.checkpoint.safetensors"
    for change in (
        {"task": "window"}, {"task": 3}, {"task": None}, {"valid": 3}, {"vocabulary": []}, {"asked": {"lr": 0.1}},
        {"trainer": {"best_measures": {"accuracy": "x"}}}, {"trainer": {"best_measures": [1.0]}}, {"text": {"level": "byte"}},
        {"model": {"labels": ["x"]}}, {"model": {"label_type": "int"}}, {"config": {"monitor": "f1"}},
        {"config": {"class_weights": "even"}}, {"vocabulary": {"end_id": None}},
    ):  # fmt: skip

        def damaged(document, change=change):
            for name, value in change.items():
                before = document["facts"][name]
                document["facts"][name] = {**before, **value} if isinstance(value, dict) and name != "asked" else value

        path.write_bytes(forged(originals["classifier-run"].read_bytes(), damaged, "nblstm_checkpoint"))
        with pytest.raises(ModelFileError, match="damaged|vocabulary"):
            Session.resume(tmp_path / "model.safetensors")


def test_what_a_translators_checkpoint_says_is_checked(tmp_path):
    """Its vocabularies, their sizes and levels, and what both sides share."""
    path = tmp_path / "model.checkpoint.safetensors"
    stored = Path(__file__).parent / "data" / "translator-run.checkpoint.safetensors"
    for change in (
        {"vocabulary": {"end_id": None}}, {"source_vocabulary": None}, {"source_vocabulary": []}, {"source_vocabulary": {"level": "char"}},
        {"model": {"source_vocab_size": 3}}, {"model": {"shared": True}}, {"model": {"attention": "none"}}, {"model": {"attention": 3}},
        {"text": {"source_level": "char"}}, {"text": {"shared_vocabulary": 1}}, {"config": {"monitor": "f1"}}, {"source": 3},
    ):  # fmt: skip

        def damaged(document, change=change):
            for name, value in change.items():
                before = document["facts"][name]
                document["facts"][name] = {**before, **value} if isinstance(value, dict) else value

        path.write_bytes(forged(stored.read_bytes(), damaged, "nblstm_checkpoint"))
        with pytest.raises(ModelFileError, match="damaged|vocabulary"):
            Session.resume(tmp_path / "model.safetensors")


def test_a_checkpoint_that_claims_a_large_network(originals, path):
    """7 KB that claim 10,000 units take no more memory than 7 KB."""
    change = lambda document: document["facts"]["model"].update(hidden_size=10_000, embedding_size=10_000)
    path.write_bytes(forged(originals["run"].read_bytes(), change, "nblstm_checkpoint"))
    assert peak(lambda: read_checkpoint(path)) < 2 * MIB


def test_missing_fields_and_tensors_of_a_checkpoint(originals, path):
    """Each is named."""
    header, data = parts(originals["run"].read_bytes())
    facts = json.loads(header["__metadata__"]["nblstm_checkpoint"])["facts"]
    for name in facts:
        content = forged(
            originals["run"].read_bytes(), lambda document: document["facts"].pop(name), "nblstm_checkpoint"
        )
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=f"it has no '{name}'"):
            read_checkpoint(path)
    tensors, metadata = safetensors.read(originals["run"])
    for name in tensors:
        rest = {key: tensor for key, tensor in tensors.items() if key != name}
        safetensors.write(path, rest, {"nblstm_checkpoint": metadata["nblstm_checkpoint"]})
        with pytest.raises(ModelFileError, match=f"lacks the tensor '{name}'"):
            read_checkpoint(path)


# ---------------------------------------------------------------- facts, and what a terminal obeys

FACTS = [
    {"corpus": "a.txt"}, {"corpus": [1, None]}, {"corpus": ["a"], "steps": "x"}, {"corpus": ["a"], "epochs": None},
    {"corpus": ["a"], "seconds": []}, {"corpus": ["a"], "documents": -1}, {"valid_loss": float(10**300)},
    {"valid_loss": 10**400}, {"valid_loss": "low"}, {"tokens": True}, {"corpus": {}}, {"corpus": ["a"], "tokens": 2**70},
]  # fmt: skip


@each("facts", FACTS)
def test_facts_of_any_kind_are_no_error(command, folder, facts):
    """`info` shows what training writes, and tells of what is something else."""
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(forged(content, lambda document: document.update(training=facts)))
    described = command("info")
    assert described.code == 0 and ("not shown" in described.out) == (facts != FACTS[6])
    assert command("info", "--json").code == 0


def test_the_recipe_in_a_file_is_not_believed(command, folder):
    """`info --training` needs it."""
    content = (folder / "model.safetensors").read_bytes()
    for config in ([], {"lr": "x"}, {"no such": 1}, None):
        change = lambda document: document["training"].update(config=config)
        (folder / "model.safetensors").write_bytes(forged(content, change))
        assert command("info").code == 0
        outcome = command("info", "--training")
        assert outcome.code == 1 and "how it was trained" in outcome.err


ESCAPE = "\x1b]0;owned\x07\x9b31m\u202e\nError: no"


def test_nothing_in_a_file_reaches_the_terminal_as_a_command(command, folder):
    """A corpus's name in a model, names of files, and errors about them: controls are escaped, lines stay lines."""
    content = (folder / "model.safetensors").read_bytes()
    evil = ESCAPE + ".txt"
    change = lambda document: document["training"].update(corpus=[evil])
    (folder / "model.safetensors").write_bytes(forged(content, change))
    (folder / evil).write_text("Shall I\n" * 3)
    (folder / "more").mkdir()
    (folder / "more" / evil).write_text("compare\n" * 3)
    (folder / f"{ESCAPE}.safetensors").write_bytes(content)
    (folder / f"{ESCAPE}.html").write_text("no page")
    for args in (
        ["info"], ["eval", evil, "more"], ["score", "--by", "file", evil, "more"], ["score", evil, "more"],
        ["score", evil, "more", "--per-token"], ["info", "-m", f"{ESCAPE}.safetensors"], ["info", "-m", evil], ["eval", ESCAPE],
        ["eval", evil, "-m", "model.safetensors", "-m", f"{ESCAPE}.safetensors"], ["train", evil, "-o", f"{ESCAPE}/x"],
        ["train", evil, "-o", ESCAPE, *SMALL, "--steps", 1, "--sample", 3], ["report", "--corpus", evil, "-n", 3],
        ["report", "-o", f"{ESCAPE}.html"], ["sample", "-n", 1, "--state", evil],
    ):  # fmt: skip
        outcome = command(*args)
        said = outcome.out + outcome.err
        assert "owned" in said, args
        assert all(character.isprintable() or character in "\n\t" for character in said), args
        assert not [line for line in said.splitlines() if line.startswith("Error: no")], args


@pytest.mark.skipif(not hasattr(pty, "fork"), reason="no pseudo-terminals here")
@pytest.mark.parametrize("args", [["sample"], ["sample", "--num-samples", "2"], ["sample", "--beam", "2"]], ids=str)
def test_what_a_model_writes_to_a_terminal_is_no_command(originals, tmp_path, args):
    """A stranger's model that has learned to write ESC: a terminal is shown \\x1b, a file gets the character."""
    model = tmp_path / "m.safetensors"
    vocabulary = Vocabulary.build(["\x1b"], "char")
    config = nblstm.LanguageConfig(len(vocabulary), hidden_size=2, num_layers=1)
    parameters = np.zeros(config.num_parameters, np.float32)
    nblstm.LanguageModel(config, vocabulary, parameters, {}).save(model)
    run = [sys.executable, "-m", "nblstm", *args, "-n", "3", "-m", str(model), "--backend", "numpy"]
    main, terminal = pty.openpty()
    subprocess.run(run, stdout=terminal, stderr=subprocess.DEVNULL, env=environment(), timeout=60)
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(main, 4096):
            shown += piece
    except OSError as error:  # the terminal is closed
        assert error.errno == errno.EIO
    finally:
        os.close(main)
    assert b"\\x1b\\x1b\\x1b" in shown and b"\x1b" not in shown
    assert b"\x1b\x1b\x1b" in subprocess.run(run, stdout=subprocess.PIPE, env=environment(), timeout=60).stdout


# ---------------------------------------------------------------- all of it at random


def test_mutated_files_are_refused_or_can_be_used(originals, tmp_path):
    """Some hundred files with flipped bits, cuts, splices and lies: a sentence, or a model that works.

    tests/stress/files.py does as many as one likes, on both backends, with time and memory measured.
    """
    damages = [damage for damage in mutations.DAMAGES if damage is not mutations.forge_tensors]
    contents = {kind: path.read_bytes() for kind, path in originals.items()}
    random, path = np.random.default_rng(17), tmp_path / "mutated"
    reference = pytest.importorskip("safetensors").deserialize
    for number in range(600):
        kind, damage, content = mutations.mutated(random, contents, damages)
        path.write_bytes(content)
        verdict = mutations.judge(kind, path, originals["char"].parent, reference=reference)
        assert verdict.wrong is None, (number, kind, damage)


def test_configs_that_no_float_holds():
    """Whole numbers beyond every float, and of more digits than Python writes, are refused in a sentence."""
    for fields in (
        {"lr": 10**400},
        {"minutes": 10**400},
        {"steps": 10**5000},
        {"clip": float("inf")},
        {"seed": 10**400},
    ):
        with pytest.raises(NblstmError, match="must be"):
            nblstm.config.TrainConfig.from_dict(fields)
