"""Format c of taggers: the header looks words up, spells them and finds the tags that the model finds."""

import ctypes
import subprocess

import numpy as np
import pytest
from support.cases import each
from support.exported import TAGGERS, tagger, tagger_sentences
from test_export_c import CC, PLAIN, STRICT, compiled, needs_compiler, run, sanitizers

import nblstm
from nblstm.errors import ConfigError
from nblstm.exporting import plan as planning
from nblstm.exporting.tagging import tag_scores


@needs_compiler
@pytest.mark.parametrize("names, weights", [
    (["iob2", "no spelling", "softmax, names"], "float32"), (["iob1", "names"], "int8"), (["iobes", "one way"], "int4"),
    (["softmax", "two layers, residual", "projection"], "bfloat16"),
])  # fmt: skip
def test_the_program_finds_the_tags_of_the_model(tmp_path, names, weights):
    """Its own test passes, and every line comes back with the tag that the model of its weights finds, whatever follows it.

    Under the sanitizers, with every warning an error.
    """
    for name in names:
        model = tagger(**TAGGERS[name])
        program = compiled(
            tmp_path, model, weights, "-O0", *(PLAIN if name in ("iob1", "softmax") else ()), *sanitizers()
        )
        code, said = run(program, "--test")
        assert code == 0, said
        check_tags(program, planning.rounded(planning.plan(model, weights, "c")), weights)


def check_tags(program, exact, weights):
    """Fail unless a program finds the tags that a model finds."""
    asked = tagger_sentences()
    lines = "\n".join("".join(f"{word}\tx\r\n" for word in words) for words in asked)
    done = subprocess.run([program], input=lines.encode(), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = [[line.split("\t")[2] for line in part.split("\n") if line] for part in done.stdout.decode().split("\n\n")]
    expected = exact.predict(asked, "numpy")
    wrong = sum(a != b for a, b in zip(found, expected)) + abs(len(found) - len(expected))
    # activations of 16 bits: of tags that are nearly equal another one may be found
    assert wrong <= (0 if weights in ("float32", "bfloat16") else 1), (found, expected)


@needs_compiler
@each("name", ["iob2", "two layers, residual", "one way", "no spelling"])
def test_float32_scores_are_the_models(name, tmp_path):
    """Within 1e-5 of the largest, of every word and tag; and a tag's name."""
    model = tagger(**TAGGERS[name])
    nblstm.export(model, tmp_path / "model.h", weights="float32")
    (tmp_path / "model.c").write_text(
        '#define NBLSTM_IMPLEMENTATION\n#include "model.h"\n'
        "void scores(nblstm_work *work, const char *const *words, int count)"
        "{ nblstm_read_words(work, words, count); nblstm_scores(work, count); }\n"
        "const float *found(const nblstm_work *work) { return work->scores; }\n"
        "int size(void) { return (int)sizeof(nblstm_work); }\n"
    )
    subprocess.run(
        [CC, "-std=c99", *STRICT, "-shared", "-fPIC", tmp_path / "model.c", "-o", tmp_path / "model.so"], check=True
    )
    library = ctypes.CDLL(str(tmp_path / "model.so"))
    library.found.restype, library.nblstm_tag_name.restype = ctypes.POINTER(ctypes.c_float), ctypes.c_char_p
    work = ctypes.create_string_buffer(library.size())
    for words in tagger_sentences(8):
        words = words[: model.config.max_length]
        library.scores(work, (ctypes.c_char_p * len(words))(*(word.encode() for word in words)), len(words))
        expected = tag_scores(model, words)
        scores = np.ctypeslib.as_array(library.found(work), (len(words), model.config.num_outputs))
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
    assert [library.nblstm_tag_name(k).decode() for k in range(model.config.num_outputs)] == list(model.config.tags)


@needs_compiler
def test_two_taggers_link_together(tmp_path):
    """Each under a name of its own, in C and in C++; less memory for shorter sentences."""
    for name in ("one", "other"):
        nblstm.export(tagger(), tmp_path / f"{name}.h", name=name)
    (tmp_path / "both.c").write_text(
        '#define ONE_IMPLEMENTATION\n#define ONE_WORDS 4\n#include "one.h"\n#define OTHER_IMPLEMENTATION\n#include "other.h"\n'
        'int main(void) { static one_work a; static other_work b; const char *w[] = {"in", "new", "york", "x", "in"};\n'
        "int t[5], s[5]; one_tag(&a, w, 5, t); other_tag(&b, w, 5, s); return t[0] != s[0]; }\n"
    )
    subprocess.run([CC, "-std=c99", *STRICT, tmp_path / "both.c", "-o", tmp_path / "both"], check=True)
    assert run(tmp_path / "both")[0] == 0


@each("format", ["c", "py", "html", "onnx"])
def test_what_is_no_tagger_is_refused_in_a_line(format, tmp_path):
    """A translator and a series are held by no format, nor is a tagger that has learnt nothing."""
    for other in (nblstm.Translator(), nblstm.SeriesModel()):
        with pytest.raises(ConfigError, match=f"got {type(other).__name__}; train one of them"):
            nblstm.export(other, tmp_path / "x", format=format)
    with pytest.raises(ConfigError, match="Tagger has learnt nothing"):
        nblstm.export(nblstm.Tagger(), tmp_path / "x", format=format)
    assert not list(tmp_path.iterdir())


def test_the_command_checks_a_tagger(tmp_path, command):
    """F1 before and after rounding, on tagged words; the accuracy where tags mark no spans."""
    words = {"F1 ": "in O\nNew B-LOC\nYork I-LOC\n", "accuracy ": "in DT\nNew NN\nYork NN\n"}
    for (what, text), settings in zip(words.items(), ({}, TAGGERS["names"])):
        tagger(**settings).save(tmp_path / "model.safetensors")
        (tmp_path / "words.conll").write_text(text)
        done = command(
            "export", tmp_path / "model.safetensors", "-o", tmp_path / "m.h", "--check", tmp_path / "words.conll"
        )
        assert done.code == 0 and what in done.out and "before" in done.out and not done.err
