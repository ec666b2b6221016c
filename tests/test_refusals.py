"""What a caller asks wrongly in ways that no other file of tests tries: our error, which names the thing and the way out."""

import dataclasses
import zipfile
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from support.cases import each
from support.exported import classifier, language_model, tagger

import nblstm
from nblstm.config import Recipe
from nblstm.convert import torch_file
from nblstm.errors import ConfigError, ModelFileError, TextError, TrainingError
from nblstm.files import safetensors
from nblstm.tasks.asked import absolute_places
from nblstm.tasks.masked.config import MaskedConfig
from nblstm.tasks.registry import run_of
from nblstm.tasks.together import check_divides, join_ranks
from nblstm.tasks.translation.config import TranslatorConfig
from nblstm.text.batches import Chunk
from nblstm.text.sources import text_source
from nblstm.text.token_file import fingerprint_of
from nblstm.text.vocabulary import Vocabulary

WORDS = Vocabulary.build(["a b"], "word")
CHARS = Vocabulary.build(["ab"], "char")


def of_another_vocabulary(model, vocabulary):
    """A model of this model's numbers and another vocabulary, of as many tokens."""
    config = dataclasses.replace(model.config, vocab_size=len(vocabulary))
    return type(model).of_parameters(config, vocabulary, np.zeros(config.num_parameters, config.dtype), {})


def read(model, **fields):
    """What a language model says of a chunk of two tokens, with other fields."""
    network = model.network("numpy")
    tokens = np.zeros((2, 1), np.int32)
    return network.losses(
        dataclasses.replace(Chunk.rectangle(tokens, tokens, fresh=True), **fields), network.initial_state(1)
    )


CASES = {
    "nesterov": (lambda: Recipe(optimizer="sgd", momentum=0.0, nesterov=True), "momentum above 0; leave it out"),
    "tokens": (lambda: dataclasses.replace(CHARS, tokens=("<unk>", "a", "a")), "distinct"),
    "one direction": (lambda: MaskedConfig.from_dict({"vocab_size": 5, "bidirectional": False}), "leave bidirectional out"),
    "no source": (lambda: TranslatorConfig(5), "set source_vocab_size or source_size"),
    "two sources": (lambda: TranslatorConfig(5, source_vocab_size=5, source_size=3), "set source_vocab_size or source_size"),
    "attention to a vector": (lambda: TranslatorConfig(5, source_size=3, attention="dot"), "set attention none"),
    "shared sizes": (lambda: TranslatorConfig(5, source_vocab_size=4, shared=True), "source_vocab_size must be vocab_size"),
    "words of a tagger": (lambda: of_another_vocabulary(tagger(), CHARS), "one of words, got level char"),
    "end of a classifier": (lambda: of_another_vocabulary(classifier(), WORDS), "must have an <end>"),
    "a setting of none": (lambda: nblstm.config.nothing, "has no attribute 'nothing'"),
    "a number among sequences": (lambda: nblstm.pad_sequences([np.array(3), [1]]), "no length|single number"),
    "a total": (lambda: read(language_model(), total=-1.0), "chunk.total must be a finite number of at least 0"),
    "an encoding": (lambda: text_source("the prompt", "é", "ascii"), "has characters that ascii lacks; use utf-8"),
}  # fmt: skip


@each("name", CASES)
def test_it_is_refused_in_a_sentence(name):
    """By the library, whatever was not looked at before."""
    call, words = CASES[name]
    with pytest.raises((ConfigError, TextError, AttributeError), match=words):
        call()


def test_archives_of_pytorch_that_cannot_be_believed(tmp_path, monkeypatch):
    """Numbers in the other byte order, a pickle without end, a folder."""
    path = tmp_path / "weights.pt"
    for name, content, words in (("byteorder", b"big", "big-endian"), ("extra", b"", "larger than 0 bytes")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("m/data.pkl", b"x")
            archive.writestr(f"m/{name}", content)
        monkeypatch.setattr(torch_file, "MAX_PICKLE", 10 if name == "byteorder" else 0)
        with pytest.raises(ModelFileError, match=words):
            torch_file.read_torch(path)
    with pytest.raises(ModelFileError, match="cannot read .*: Is a directory"):
        torch_file.read_torch(tmp_path)


def test_a_file_has_no_more_tensors_than_are_read_again(tmp_path, monkeypatch):
    """What could not be loaded is not written."""
    monkeypatch.setattr(safetensors, "MAX_TENSORS", 1)
    arrays = {name: np.zeros(1, np.float32) for name in "ab"}
    with pytest.raises(ModelFileError, match="at most 1 tensors, got 2"):
        safetensors.write(tmp_path / "m.safetensors", arrays, {})
    assert not list(tmp_path.iterdir())


def test_a_run_names_the_place_that_its_task_does_not_have():
    """A place of another task, by the name of the setting."""
    with pytest.raises(ConfigError, match="target is nothing that task language reads; leave it out"):
        absolute_places({"target": ["x.txt"]}, run_of("language"))
    with pytest.raises(ConfigError, match="a path must not be empty"):
        absolute_places({"corpus": ["x.txt", ""]}, run_of("language"))


def test_processes_that_do_not_have_the_same_to_do_are_told():
    """A task that one process trains, another device, another text, other first weights."""
    ranks = SimpleNamespace(size=2)
    for task, device, words in (
        ("tagging", "cpu", "in one process, got 2"),
        ("language", "cuda", "device must be cpu"),
    ):
        with pytest.raises(ConfigError, match=words):
            check_divides(ranks, run_of(task), SimpleNamespace(device=device))
    weights = np.zeros(3, np.float32)
    trainer = SimpleNamespace(join=lambda ranks: None, network=SimpleNamespace(parameters=weights))
    mine = "text", fingerprint_of(weights)
    for of_0, words in (
        (("another", mine[1]), "the same files"),
        (("text", "another"), "the same model"),
        (mine, None),
    ):
        ranks.agree = {mine: of_0}.get
        with pytest.raises((TextError, TrainingError), match=words) if words else nullcontext():
            join_ranks(ranks, SimpleNamespace(fingerprint="text"), trainer)


@pytest.fixture
def several(folder):
    """A folder with models of several tasks beside the language model."""
    classifier().save(folder / "classifier.safetensors")
    tagger().save(folder / "tagger.safetensors")
    language_model(ends=True).save(folder / "documents.safetensors")
    nblstm.SeriesModel(hidden_size=3, epochs=1).fit([np.arange(30.0)[:, None]]).save(folder / "series.safetensors")
    (folder / "lines.txt").write_text("Hello\tno\n")
    return folder


@each("line, words", [
    ("eval lines.txt -m classifier.safetensors -m tagger.safetensors", "have no common measure; name those of one task"),
    ("eval lines.txt -m classifier.safetensors --target corpus.txt", "--target"),
    ("eval corpus.txt -m documents.safetensors --protocol stream", "a model of documents cannot read a stream"),
    ("score corpus.txt model.safetensors documents.safetensors", "score reads one model, not"),
    ("report classifier.safetensors --demo -o report.html", "--demo is not for models of this task"),
    ("import model.safetensors --vocabulary corpus.txt --map weight -o new.safetensors", "--map needs THEIRS=OURS"),
    ("export series.safetensors -o m.h --check corpus.txt", "a model of task series is not trained on files"),
])  # fmt: skip
def test_commands_refuse_in_a_line(several, command, line, words):
    """With code 2, and what to do instead."""
    outcome = command(*line.split())
    assert outcome.code == 2 and words in outcome.err.splitlines()[-1], outcome
