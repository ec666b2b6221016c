"""Format c: the header compiles without a warning everywhere, and does what the model does."""

import ctypes
import importlib.util
import random
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
from support.exported import CLASSIFIERS, HARD, NETWORKS, PROMPTS, TEXTS, classifier, language_model

import nblstm
from nblstm.errors import ConfigError, ModelFileError
from nblstm.exporting import plan as planning
from nblstm.exporting.files import FORMATS
from nblstm.exporting.language import reference_logits
from nblstm.tasks.language.model import LanguageModel
from nblstm.tasks.masked.config import MaskedConfig
from nblstm.tasks.masked.model import MaskedLanguageModel

CC = next(filter(shutil.which, ("gcc", "clang", "cc")), None)
needs_compiler = pytest.mark.skipif(CC is None, reason="there is no C compiler")
STRICT = ["-pedantic", "-Wall", "-Wextra", "-Werror"]
PLAIN = ["-U__SSE2__", "-U__AVX2__", "-U__ARM_NEON"]  # no vectors
SOUND = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def compiled(folder, model, weights, *flags, compiler=CC, name="nblstm"):
    """The program of an exported model."""
    nblstm.export(model, folder / "model.h", weights=weights, name=name)
    language = ["-x", "c++"] if compiler.endswith("++") else ["-std=c99", "-x", "c"]
    command = [
        compiler,
        *STRICT,
        *language,
        *(flags or ("-O1",)),
        "-DNBLSTM_MAIN",
        folder / "model.h",
        "-o",
        folder / "model",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:2000]
    return folder / "model"


def run(program, *args):
    """(exit code, what it prints)."""
    done = subprocess.run([program, *map(str, args)], capture_output=True, timeout=60)
    return done.returncode, done.stdout.decode("utf-8", "replace") + done.stderr.decode()


def sanitizers():
    """The flags of the sanitizers, where this compiler has them."""
    probe = [CC, *SOUND, "-x", "c", "-", "-o", "/dev/null"]
    done = subprocess.run(probe, input=b"int main(void) { return 0; }", capture_output=True)
    return SOUND if done.returncode == 0 else []


@needs_compiler
@pytest.mark.parametrize("name, weights, flags", [
    ("lstm", "float32", ["-O1"]), ("lstm", "int4", ["-O1", "-march=native"]), ("gru", "int8", ["-O1", "-march=native"]),
    ("rnn, residual", "int8", PLAIN), ("relu", "bfloat16", ["-O1"]),
    ("projection", "float32", ["-O1", "-march=native"]),
    ("peepholes, cell head, tied", "bfloat16", PLAIN), ("update-lstm", "float32", PLAIN),
    ("documents of words", "int8", ["-O1"]), ("spaced words", "int4", PLAIN), ("bytes", "float32", ["-O1"]),
    ("one unit", "int8", ["-O1"]), ("two tokens", "int4", ["-O1"]), ("a large vocabulary", "int8", ["-O1"]),
    ("minGRU", "float32", ["-O1"]), ("minGRU, one layer", "int8", PLAIN), ("layer norm", "int8", PLAIN),
    ("layer norm, gru", "float32", ["-O1"]), ("layer norm, minGRU", "bfloat16", ["-O1"]),
    ("layer norm, update-lstm", "float32", ["-O1"]), ("layer norm, rnn", "float32", ["-O1"]),
])  # fmt: skip
def test_the_program_writes_what_the_model_writes(tmp_path, name, weights, flags):
    """Its own test passes, and it prints the same text as nblstm with its weights, for one seed and at temperature 0.

    Compiled with the sanitizers, so that no read or write goes astray.
    """
    model = language_model(**NETWORKS[name])
    program = compiled(tmp_path, model, weights, *flags, *sanitizers())
    code, said = run(program, "--test")
    assert code == 0, said
    exact, prompt = planning.rounded(planning.plan(model, weights, "c")), PROMPTS[model.vocabulary.level]
    # activations of 16 bits: a draw that falls on the edge of two tokens may fall on the other side
    many = 40 if weights in ("float32", "bfloat16") else 12
    for settings in (
        {"temperature": 0.0},
        {"seed": 2**40 + 5, "temperature": 0.7, "top_k": 5},
        {"seed": 7, "top_p": 0.6},
    ):
        options = [part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", value)]
        expected = prompt + "".join(exact.generate(prompt, n=many, backend="numpy", **settings)) + "\n"
        assert run(program, "-n", many, "--prompt", prompt, *options) == (0, expected), settings


@needs_compiler
@pytest.mark.parametrize("compiler", ["gcc", "clang", "g++", "clang++"])
@pytest.mark.parametrize("weights", planning.WEIGHTS)
def test_no_compiler_has_a_doubt(tmp_path, compiler, weights):
    """C99 and C++, pedantic, every warning an error, with vectors and without."""
    if not shutil.which(compiler):
        pytest.skip(f"there is no {compiler}")
    model = language_model(hidden_size=16, cell="gru" if weights == "int8" else "lstm")
    every = (["-O3", "-march=native"], ["-O2"], ["-O2", *PLAIN])
    for flags in every if compiler == "gcc" else every[:1]:
        assert run(compiled(tmp_path, model, weights, *flags, compiler=compiler), "--test")[0] == 0


TARGETS = [
    ["--target=aarch64-none-elf"],
    ["--target=armv7-none-eabi", "-mfpu=neon", "-mfloat-abi=softfp"],
    ["--target=thumbv7em-none-eabi"],
    ["--target=riscv32"],
    ["--target=wasm32", "-msimd128"],
]


@pytest.mark.skipif(not shutil.which("clang"), reason="there is no clang")
@pytest.mark.parametrize("weights", planning.WEIGHTS)
def test_it_compiles_for_other_machines(tmp_path, weights):
    """With NEON, with WebAssembly's vectors, for a Cortex-M4 and RISC-V, with nothing but a compiler's own headers."""
    nblstm.export(language_model(), tmp_path / "model.h", weights=weights)
    found = subprocess.run(["clang", "-print-resource-dir"], capture_output=True, text=True, check=True).stdout.strip()
    bare = ["-ffreestanding", "-nostdinc", "-isystem", f"{found}/include", "-DNBLSTM_IMPLEMENTATION", "-x", "c"]
    for target in TARGETS:
        command = ["clang", *target, "-std=c99", *STRICT, *bare, "-fsyntax-only", tmp_path / "model.h"]
        done = subprocess.run(command, capture_output=True, text=True)
        if "No available targets" not in done.stderr and "unable to create target" not in done.stderr:
            assert done.returncode == 0, (target, done.stderr[:1000])


ZIG = [sys.executable, "-m", "ziglang", "cc"]
needs_zig = pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="there is no ziglang")


@needs_zig
def test_it_fits_on_a_cortex_m4(tmp_path):
    """2 x 128 units in int8, with no other header than the compiler's: 4 kB of code and 260 kB of constants, at most."""
    nblstm.export(language_model(65, hidden_size=128), tmp_path / "model.h")
    target = ["-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4", "-Os", "-std=c99", *STRICT]
    command = [
        *ZIG,
        *target,
        "-DNBLSTM_IMPLEMENTATION",
        "-x",
        "c",
        "-c",
        tmp_path / "model.h",
        "-o",
        tmp_path / "model.o",
    ]
    subprocess.run(command, check=True)
    code, constants, variables = sections((tmp_path / "model.o").read_bytes())
    assert 0 < code <= 4000 and constants <= 260_000 and not variables


def sections(elf):
    """(bytes of code, of constants, of variables) in a 32-bit little-endian object file."""
    (start,), (count,) = struct.unpack_from("<I", elf, 0x20), struct.unpack_from("<H", elf, 0x30)
    sizes = dict.fromkeys(("code", "constants", "variables"), 0)
    for k in range(count):
        kind, flags, _, _, size = struct.unpack_from("<IIIII", elf, start + 40 * k + 4)
        if flags & 2 and kind in (1, 8):  # what takes memory: SHF_ALLOC; SHT_PROGBITS, SHT_NOBITS
            sizes["code" if flags & 4 else "variables" if flags & 1 else "constants"] += size
    return tuple(sizes.values())


@needs_zig
@pytest.mark.skipif(not shutil.which("qemu-arm-static") and not shutil.which("qemu-arm"), reason="there is no qemu-arm")
@pytest.mark.parametrize("cpu", ["arm1176jzf_s", "cortex_a7"])
def test_it_runs_on_arm(tmp_path, cpu):
    """The program's test of itself, in an emulator: plain C, and NEON."""
    nblstm.export(language_model(hidden_size=37), tmp_path / "model.h")
    command = [*ZIG, "-target", "arm-linux-musleabihf", f"-mcpu={cpu}", "-O2", "-static", "-DNBLSTM_MAIN", "-x", "c"]
    subprocess.run([*command, tmp_path / "model.h", "-o", tmp_path / "model"], check=True)
    emulator = shutil.which("qemu-arm-static") or shutil.which("qemu-arm")
    assert subprocess.run([emulator, tmp_path / "model", "--test"], stdout=subprocess.DEVNULL).returncode == 0


@needs_compiler
@pytest.mark.parametrize(
    "H, V, weights", [(130, 36, "int8"), (260, 2, "int4"), (130, 2, "float32"), (260, 36, "bfloat16")]
)
def test_odd_sizes_are_sound(tmp_path, H, V, weights):
    """More units than a vector and a block hold, under the sanitizers; 1, 37 and 10,000 tokens are above."""
    program = compiled(
        tmp_path, language_model(V, hidden_size=H, num_layers=1), weights, "-O1", "-march=native", *sanitizers()
    )
    code, said = run(program, "--test")
    assert code == 0, said


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """`library(model, weights)` is an exported model as a shared library."""
    if CC is None:
        pytest.skip("there is no C compiler")
    made = {}

    def load(model, weights):
        folder = tmp_path_factory.mktemp("library")
        nblstm.export(model, folder / "model.h", weights=weights)
        command = [CC, "-shared", "-fPIC", "-O1", "-DNBLSTM_IMPLEMENTATION", "-x", "c", folder / "model.h", "-o"]
        subprocess.run([*command, folder / "model.so"], check=True)
        made[folder] = found = ctypes.CDLL(str(folder / "model.so"))
        found.nblstm_encode.restype = ctypes.c_void_p
        found.nblstm_encode.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
        return found

    return load


LOGITS = [
    "lstm", "gru", "projection", "peepholes, cell head, tied", "documents of words", "minGRU", "layer norm",
    "layer norm, peepholes", "layer norm, gru",
]  # fmt: skip


@pytest.mark.parametrize("name", LOGITS)
def test_float32_logits_are_the_models(library, name):
    """Within 1e-5 of the largest, behind each of 40 tokens."""
    model = language_model(**NETWORKS[name])
    header, V = library(model, "float32"), len(model.vocabulary)
    state, logits = ctypes.create_string_buffer(1 << 16), np.zeros(V, np.float32)
    tokens = np.random.default_rng(1).integers(0, V, 40)
    header.nblstm_init(state)
    for token, expected in zip(tokens, reference_logits(model, tokens)):
        header.nblstm_feed(state, int(token))
        header.nblstm_logits(state, logits.ctypes.data_as(ctypes.c_void_p))
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", ["lstm", "bytes", "documents of words", "spaced words"])
def test_text_is_cut_as_the_vocabulary_cuts_it(library, name):
    """The ids of texts of all kinds of blanks, marks, letters and bytes."""
    model = language_model(**NETWORKS[name])
    header, chance = library(model, "int8"), random.Random(3)
    pieces = [
        *HARD,
        "w3",
        "Hello",
        "don't",
        "it’s",
        "_",
        "1",
        "Ⅷ",
        "ß",
        "中",
        "\r\n",
        "\x85",
        "\xa0",
        "\u3000",
        "e\u0301",
        "  ",
    ]
    for text in ["", " ", "a", *("".join(chance.choices(pieces, k=chance.randint(1, 12))) for _ in range(300))]:
        assert encoded(header, text) == model.encode(text).tolist(), repr(text)


def encoded(header, text):
    """The ids that a library makes of a text."""
    data = text.encode()
    buffer = ctypes.create_string_buffer(data, len(data) + 1)
    place, token, found = ctypes.addressof(buffer), ctypes.c_int(), []
    end = place + len(data)
    while place < end:
        place = header.nblstm_encode(place, end, ctypes.byref(token))
        found += [token.value] * (token.value >= 0)
    return found


@pytest.mark.parametrize(
    "level, tokenizer", [("char", "default"), ("word", "default"), ("word", "whitespace"), ("byte", "default")]
)
def test_line_ends_are_read_as_the_vocabulary_reads_them(library, level, tokenizer):
    """Where newline is "lf", a carriage return is one, alone and before another."""
    model = language_model(100, level=level, tokenizer=tokenizer, newline="lf")
    header = library(model, "int8")
    for text in ("\r", "\r\n", "\r\r\n\n", "a\rb \r\n \rw3\r", " \r", "b \r"):
        assert encoded(header, text) == model.encode(text).tolist(), repr(text)


@needs_compiler
def test_two_models_link_together(tmp_path):
    """Each under a name of its own, both implementations in one file."""
    for name, size in (("one", 20), ("other", 30)):
        nblstm.export(language_model(size), tmp_path / f"{name}.h", name=name)
    (tmp_path / "both.c").write_text(
        '#define ONE_IMPLEMENTATION\n#include "one.h"\n#define OTHER_IMPLEMENTATION\n#include "other.h"\n'
        '#include "one.h"\nint main(void) { one_state a; other_state b; one_init(&a);\n'
        "other_init(&b); one_feed(&a, 1); "
        "other_feed(&b, 1); return ONE_VOCAB + OTHER_VOCAB - 50; }\n"
    )
    subprocess.run([CC, "-std=c99", *STRICT, tmp_path / "both.c", "-o", tmp_path / "both"], check=True)
    assert run(tmp_path / "both")[0] == 0


@needs_compiler
@pytest.mark.skipif(not shutil.which("nm"), reason="there is no nm")
@pytest.mark.parametrize("weights", planning.WEIGHTS)
def test_the_library_needs_nothing(tmp_path, weights):
    """No malloc, no libm, no stdio: only what compilers put in themselves; and no variables."""
    nblstm.export(language_model(), tmp_path / "model.h", weights=weights)
    command = [CC, "-O2", "-fno-stack-protector", "-DNBLSTM_IMPLEMENTATION", "-x", "c", "-c", tmp_path / "model.h"]
    subprocess.run([*command, "-o", tmp_path / "model.o"], check=True)
    lines = subprocess.run(["nm", tmp_path / "model.o"], capture_output=True, text=True, check=True).stdout.splitlines()
    kinds = [line.split()[-2:] for line in lines]
    assert {name for kind, name in kinds if kind == "U"} <= {"memcpy", "memset", "memmove", "_GLOBAL_OFFSET_TABLE_"}
    assert not [name for kind, name in kinds if kind in "BbDCG"]


@needs_compiler
def test_sums_of_integers_do_not_overflow(tmp_path):
    """600 inputs that are all as large as they can be: sums are split before they leave 32 bits."""
    model = language_model(8, hidden_size=600, num_layers=1, cell="rnn", nonlinearity="relu", embedding_size=1)
    parameters = np.full_like(model.parameters, 0.01)
    model = type(model)(model.config, model.vocabulary, parameters, {})
    for weights in ("int8", "int4"):
        code, said = run(compiled(tmp_path, model, weights, *PLAIN, *sanitizers()), "--test")
        assert code == 0, said


@needs_compiler
def test_the_test_fails_where_the_numbers_are_wrong(tmp_path):
    """Exit code 1 once a weight has changed."""
    model = language_model(hidden_size=5)
    nblstm.export(model, tmp_path / "model.h", weights="float32")
    text = (tmp_path / "model.h").read_text()
    begin = text.index("nblstm_head_bias[] = {")
    (tmp_path / "model.h").write_text(text[:begin] + text[begin:].replace("{\n    ", "{\n    1.5f + ", 1))
    command = [CC, "-DNBLSTM_MAIN", "-x", "c", tmp_path / "model.h", "-o", tmp_path / "model"]
    subprocess.run(command, check=True)
    assert run(tmp_path / "model", "--test")[0] == 1


def test_a_files_name_cannot_end_the_comment(tmp_path):
    """Where exports name themselves, only letters, digits and a few marks stand."""
    folder = tmp_path / 'a"""*'
    folder.mkdir()
    for name in ('x*"""\n.h', 'x*"""\n.py'):
        nblstm.export(language_model(hidden_size=3), folder / name)
        text = (folder / name).read_text(encoding="utf-8")
        assert "x_____." in text
    compile(text, "exported", "exec")


@needs_compiler
def test_the_program_tells_wrong_options(tmp_path):
    """Exit code 2 and its usage."""
    program = compiled(tmp_path, language_model(hidden_size=5), "int8")
    for args in (
        ["--what"],
        ["-n"],
        ["-n", "x"],
        ["-n", "-1"],
        ["--temperature", "nan"],
        ["--top-p", "0"],
        ["--seed", ""],
    ):
        code, said = run(program, *args)
        assert code == 2 and "usage" in said, args
    assert run(program, "--help")[0] == 0


# ---------------------------------------------------------------- classifiers


@needs_compiler
@pytest.mark.parametrize("name, weights", [*zip(CLASSIFIERS, [*planning.WEIGHTS] * 2)])
def test_a_classifier_says_what_the_model_says(tmp_path, name, weights):
    """Its own test passes, and the label and probability of every text, given or read, are those of its weights."""
    model = classifier(**CLASSIFIERS[name])
    flags = PLAIN if name in ("mean", "last") else ["-O1"]
    program = compiled(tmp_path, model, weights, *flags, *sanitizers())
    code, said = run(program, "--test")
    assert code == 0, said
    exact = planning.rounded(planning.plan(model, weights, "c"))
    found = exact.predict_proba(TEXTS, backend="numpy")
    expected = [(exact.config.labels[row.argmax()], row.max()) for row in found]
    same(run(program, *TEXTS), expected)
    lines = [k for k, text in enumerate(TEXTS) if "\n" not in text]
    done = subprocess.run(
        [program], input="\r\n".join(TEXTS[k] for k in lines).encode(), capture_output=True, timeout=60
    )
    same((done.returncode, done.stdout.decode()), [expected[k] for k in lines])


def same(done, expected):
    """Whether a program ended well and printed these labels and probabilities."""
    code, said = done
    pairs = [line.split("\t") for line in said.splitlines()]
    assert code == 0 and [label for label, _ in pairs] == [label for label, _ in expected], said
    np.testing.assert_allclose([float(p) for _, p in pairs], [p for _, p in expected], atol=3e-4)


@needs_compiler
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_float32_probabilities_are_the_models(tmp_path, name):
    """Within 1e-5, of every label."""
    model = classifier(**CLASSIFIERS[name])
    nblstm.export(model, tmp_path / "model.h", weights="float32")
    command = [CC, "-shared", "-fPIC", "-O1", "-DNBLSTM_IMPLEMENTATION", "-x", "c", tmp_path / "model.h", "-o"]
    subprocess.run([*command, tmp_path / "model.so"], check=True)
    header, work = ctypes.CDLL(str(tmp_path / "model.so")), ctypes.create_string_buffer(1 << 16)
    probabilities = np.zeros(3, np.float32)
    for text, expected in zip(TEXTS, model.predict_proba(TEXTS, backend="numpy")):
        data = text.encode()
        place = probabilities.ctypes.data_as(ctypes.c_void_p)
        assert header.nblstm_classify(work, data, ctypes.c_size_t(len(data)), place) == expected.argmax()
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)


# ---------------------------------------------------------------- numbers and refusals


def test_int8_is_within_half_a_step():
    """Every weight is at most half of a 127th of its row's largest away, and the largest itself is kept."""
    w = np.random.default_rng(0).normal(size=(7, 45)).astype(np.float32)
    packed = planning.pack_weights(w, "int8")
    largest = np.abs(w).max(axis=1, keepdims=True)
    assert (np.abs(packed.values - w) <= largest / 254 * 1.0001).all()
    assert packed.numbers.shape == (8, 64) and not packed.numbers[7].any() and not packed.numbers[:, 45:].any()


def test_bfloat16_is_what_torch_rounds_to():
    """The nearest, of two the even one."""
    torch = pytest.importorskip("torch")
    w = np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32)
    w[0, :2] = 1 + 2**-8, 1 + 3 * 2**-8
    expected = torch.from_numpy(w).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(planning.pack_weights(w, "bfloat16").values, expected)


def test_int4_unpacks_to_its_values():
    """The low half of byte k of a group is column k, the high half column k + 16; a scale for each group."""
    w = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    packed = planning.pack_weights(w, "int4")
    scales = (packed.scales.astype(np.uint32) << 16).view(np.float32)
    for row in range(4):
        for column in range(64):
            byte = packed.numbers[row, column // 32 * 16 + column % 16]
            number = (byte & 15 if column % 32 < 16 else byte >> 4) - 8.0
            assert packed.values[row, column] == np.float32(number * scales[row, column // 32])
    assert np.abs(packed.values - w).max() < np.abs(w).max() / 7


def test_a_tied_matrix_is_stored_once():
    """A large tied vocabulary has no table and no second copy."""
    tied, free = (planning.plan(language_model(2000, tie=tie, cell="gru"), "int8", "c") for tie in (True, False))
    assert "tokens" not in tied.matrices and tied.nbytes < free.nbytes * 0.6


@pytest.mark.parametrize("format", ["c", "py", "html"])
def test_what_cannot_be_done_is_refused_by_name(tmp_path, format):
    """Models that neither write nor classify, one that has learnt nothing, a cell of another form: no file is made."""
    tokens = language_model().vocabulary
    config = MaskedConfig(vocab_size=len(tokens), hidden_size=4, num_layers=1)
    masked = MaskedLanguageModel(config, tokens, np.zeros(config.num_parameters, np.float32), {})
    refused = {"MaskedLanguageModel; choose format onnx": masked, "learnt nothing": nblstm.TextClassifier()}
    for word, other in {**refused, "mogrifier-lstm": language_model(cell="mogrifier-lstm")}.items():
        with pytest.raises(ConfigError, match=word):
            nblstm.export(other, tmp_path / "x", format=format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", FORMATS)
def test_small_integers_are_exported_as_what_they_stand_for(tmp_path, format):
    """A model of int8 weights gives the file that a model of their numbers in float32 gives."""
    small = language_model().quantize()
    plain = LanguageModel(small.config, small.vocabulary, small.parameters, {})
    for name, model in (("small", small), ("plain", plain)):
        (tmp_path / name).mkdir()
        nblstm.export(model, tmp_path / name / "model", format=format)
    assert (tmp_path / "small" / "model").read_bytes() == (tmp_path / "plain" / "model").read_bytes()


@pytest.mark.parametrize("format", FORMATS)
def test_an_adaptive_head_is_refused_by_name(tmp_path, format):
    """Of every format; no file is made."""
    with pytest.raises(ConfigError, match="adaptive head"):
        nblstm.export(language_model(300, "word", head="adaptive", cutoffs="20,90"), tmp_path / "x", format=format)
    assert not list(tmp_path.iterdir())


def test_wrong_arguments_are_told(tmp_path):
    """An ending that is none, a format, weights, a name that is no identifier, a file that is someone's."""
    model, path = language_model(), tmp_path / "model.h"
    for settings in ({"format": "d"}, {"weights": "int3"}, {"name": "2"}, {"name": "a-b"}, {"name": ""}):
        with pytest.raises(ConfigError, match=next(iter(settings))):
            nblstm.export(model, path, **settings)
    with pytest.raises(ConfigError, match="must end with"):
        nblstm.export(model, tmp_path / "model.txt")
    path.write_text("#define MINE\n")
    with pytest.raises(ModelFileError, match="not replaced"):
        nblstm.export(model, path)
    assert path.read_text() == "#define MINE\n"
    path.unlink()
    nblstm.export(model, path)
    nblstm.export(model, path, weights="int4")  # an export may be replaced


def test_the_command_exports_and_checks(folder, command):
    """It says the sizes and the loss before and after; other text goes nowhere."""
    done = command("export", "model.safetensors", "-o", "m.h", "--check", "corpus.txt", "--weights", "int4")
    assert done.code == 0 and "int4" in done.out and "before" in done.out and not done.err
    assert command("export", "-o", "m.x").code == 2
    assert command("export", "nothing.safetensors", "-o", "m.h").code == 1


def test_the_command_checks_a_classifier(tmp_path, command):
    """Its accuracy on labelled lines before and after rounding."""
    classifier().save(tmp_path / "model.safetensors")
    (tmp_path / "lines.txt").write_text("Hello\tno\nwhat\tdon't know\n")
    done = command("export", tmp_path / "model.safetensors", "-o", tmp_path / "m.py", "--check", tmp_path / "lines.txt")
    assert done.code == 0 and "accuracy " in done.out and not done.err
