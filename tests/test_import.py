"""`nblstm import`: PyTorch's state dicts become models with the same logits, and hostile files do nothing."""

import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest

import nblstm
from nblstm.convert import torch_file
from nblstm.convert.weights import import_weights
from nblstm.errors import ConfigError, ModelFileError
from nblstm.exporting.language import reference_logits
from nblstm.files import safetensors

LETTERS = [chr(97 + k) for k in range(11)]


def stored(folder, tokens):
    """A vocabulary file."""
    (folder / "vocabulary.json").write_text(json.dumps(tokens))
    return folder / "vocabulary.json"


def close(model, logits, tokens, first=0):
    """Whether the model has these logits (T, V) behind tokens of its own ids, its <unk> apart if that is new."""
    np.testing.assert_allclose(reference_logits(model, tokens)[:, first:], logits, atol=1e-6)


# ---------------------------------------------------------------- what comes from PyTorch


def of_torch(kind, names, V=11, E=7, H=6, layers=2, **settings):
    """(a state dict of embedding, recurrent layers and head under these names, the logits of some ids)."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    parts = {
        names[0]: torch.nn.Embedding(V, E), names[1]: getattr(torch.nn, kind)(E, H, layers, **settings),
        names[2]: torch.nn.Linear(settings.get("proj_size") or H, V),
    }  # fmt: skip
    ids = torch.arange(20) * 7 % V
    embedding, rnn, head = parts.values()
    with torch.no_grad():
        logits = head(rnn(embedding(ids)[:, None])[0])[:, 0].numpy()
    state = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    return state, ids.numpy(), logits


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize("kind, names, settings", [
    ("LSTM", ("encoder", "rnn", "decoder"), {}), ("GRU", ("encoder", "gru", "decoder"), {}),
    ("RNN", ("embedding", "rnn", "fc"), {"nonlinearity": "relu"}),
    ("LSTM", ("model.emb", "model.lstm", "model.out"), {}),
    ("LSTM", ("a", "b", "c"), {"proj_size": 3}), ("LSTM", ("embed", "lstm", "linear"), {"bias": False}),
])  # fmt: skip
def test_the_logits_are_pytorchs(tmp_path, kind, names, settings, ending):
    """Within 1e-6, of the layouts people have; the order of ids is kept behind a new <unk>."""
    torch = pytest.importorskip("torch")
    state, ids, logits = of_torch(kind, names, **settings)
    path = tmp_path / f"weights.{ending}"
    if ending == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, path)
    else:
        torch.save({"epoch": 3, "model": state} if kind == "GRU" else state, path)  # as a checkpoint, too
    model = import_weights(path, stored(tmp_path, LETTERS), nonlinearity=settings.get("nonlinearity", "tanh"))
    assert model.vocabulary.tokens == ("<unk>", *LETTERS)
    close(model, logits, ids + 1, first=1)
    assert "".join(model.generate("ab", n=30, seed=1, backend="numpy")).isalpha()


def test_a_tied_network_and_an_unknown_token_elsewhere(tmp_path):
    """word_language_model with --tied: one matrix, <unk> at id 4, <eos> for a line end."""
    torch = pytest.importorskip("torch")
    state, ids, _ = of_torch("LSTM", ("encoder", "rnn", "decoder"), E=6)
    state["decoder.weight"] = state["encoder.weight"]
    torch.save(state, tmp_path / "model.pt")
    lstm = torch.nn.LSTM(6, 6, 2)
    lstm.load_state_dict({name[4:]: value for name, value in state.items() if name.startswith("rnn.")})
    with torch.no_grad():
        features = lstm(state["encoder.weight"][torch.from_numpy(ids)][:, None])[0][:, 0]
        logits = (features @ state["encoder.weight"].T + state["decoder.bias"]).numpy()
    words = ["the", "<eos>", "cat", "sat", "<unk>", "on", "a", "mat", "and", "was", "it"]
    model = import_weights(tmp_path / "model.pt", stored(tmp_path, {word: id for id, word in enumerate(words)}))
    order = [4, 0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert model.config.tie and model.vocabulary.tokens == (
        "<unk>",
        *("\n" if w == "<eos>" else w for w in words if w != "<unk>"),
    )
    close(model, logits[:, order], np.argsort(order)[ids])


def test_one_hot_inputs_and_half_numbers(tmp_path):
    """A network without an embedding reads one-hot vectors; bfloat16 and views with strides are read as they are."""
    torch = pytest.importorskip("torch")
    lstm, head = torch.nn.LSTM(11, 6), torch.nn.Linear(6, 11)
    state = {f"lstm.{key}": value.T.contiguous().T for key, value in lstm.state_dict().items() if value.dim() == 2}
    state |= {f"lstm.{key}": value for key, value in lstm.state_dict().items() if value.dim() == 1}
    state |= {"head.weight": head.weight.detach().bfloat16(), "head.bias": head.bias.detach().double()}
    torch.save(state, tmp_path / "m.pt")
    model = import_weights(tmp_path / "m.pt", stored(tmp_path, LETTERS))
    with torch.no_grad():
        features = lstm(torch.eye(11)[:, None])[0][:, 0]
        logits = (features @ state["head.weight"].float().T + head.bias).numpy()
    close(model, logits, np.arange(1, 12), first=1)


def test_our_own_file_comes_back(tmp_path, model):
    """A model file of ours is a state dict, too."""
    model.save(tmp_path / "ours.safetensors")
    again = import_weights(tmp_path / "ours.safetensors", stored(tmp_path, model.vocabulary.to_dict()))
    np.testing.assert_array_equal(again.parameters, model.parameters)


def test_names_are_mapped(tmp_path):
    """A tensor that has no place is named; it can be left out, and others can be given their names."""
    arrays = {
        "x": (11, 7),
        "y.weight_ih_l0": (24, 7),
        "y.weight_hh_l0": (24, 6),
        "z": (11, 6),
        "b": (11,),
        "extra": (3, 3),
    }
    arrays = {name: np.ones(shape, np.float32) for name, shape in arrays.items()}
    safetensors.write(tmp_path / "w.safetensors", arrays, {})
    words = stored(tmp_path, LETTERS)
    with pytest.raises(ModelFileError, match="'extra' .* has no place"):
        import_weights(tmp_path / "w.safetensors", words)
    names = {"extra": "", "x": "embedding.weight", "b": "head.bias"}
    assert import_weights(tmp_path / "w.safetensors", words, names=names).config.cell == "lstm"
    for wrong in ({"none": "x"}, {"x": "b"}):
        with pytest.raises(ConfigError, match="map"):
            import_weights(tmp_path / "w.safetensors", words, names=wrong)


@pytest.mark.parametrize("tokens, word", [
    (LETTERS[:5], "11 tokens, but"), ([], "list of tokens"), ({"a": 0, "b": 5}, "ids from 0"),
    ([1, 2], "list of tokens"),
    ([*LETTERS[:10], "a"], "distinct"), ({"9" * 5000: "a"}, "ids from 0"), ({"a": 0, "b": 0}, "ids from 0"),
    ({"level": "char", "tokens": 5}, "vocabulary.json: the vocabulary must hold"),
])  # fmt: skip
def test_a_wrong_vocabulary_is_told(tmp_path, tokens, word):
    """Too few tokens, none, ids with gaps, numbers, one twice, an id of 5,000 digits, an id of two, a document that is none."""
    arrays = {"r.weight_ih_l0": (24, 11), "r.weight_hh_l0": (24, 6), "head.weight": (11, 6)}
    arrays = {name: np.ones(shape, np.float32) for name, shape in arrays.items()}
    safetensors.write(tmp_path / "w.safetensors", arrays, {})
    with pytest.raises(ModelFileError, match=word):
        import_weights(tmp_path / "w.safetensors", stored(tmp_path, tokens))


# ---------------------------------------------------------------- hostile files


class Global:
    """What pickles as the bare name of a module's member."""

    def __init__(self, module, name):
        self.place = module, name


class Pickler(pickle._Pickler):
    """Writes names that need not exist, and storages as PyTorch does."""

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.write(pickle.GLOBAL + "{}\n{}\n".format(*obj.place).encode())
        elif isinstance(obj, Call):
            self.save(obj.what), self.save(obj.args), self.write(pickle.REDUCE)
        elif isinstance(obj, Stored):
            self.save(obj.fields), self.write(pickle.BINPERSID)
        else:
            super().save(obj, save_persistent_id)


class Call:
    def __init__(self, what, *args):
        self.what, self.args = what, args


class Stored:
    def __init__(self, kind="FloatStorage", key="0", length=6):
        self.fields = ("storage", Global("torch", kind), key, "cpu", length)


def tensor(storage=None, offset=0, sizes=(2, 3), strides=(3, 1)):
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, storage or Stored(), offset, sizes, strides, False, Call(Global("collections", "OrderedDict")))


def archive(folder, value, data=bytes(24), compression=zipfile.ZIP_STORED):
    """A .pt file of a value, or of the pickle's bytes themselves, and one storage."""
    file = io.BytesIO()
    if isinstance(value, bytes):
        file.write(value)
    else:
        Pickler(file, 2).dump(value)
    with zipfile.ZipFile(folder / "x.pt", "w", compression) as made:
        made.writestr("x/data.pkl", file.getvalue())
        made.writestr("x/data/0", data)
    return folder / "x.pt"


def test_a_sound_archive_is_read(tmp_path):
    """What the hostile ones below are made from: a view with an offset and strides, in nested dicts."""
    data = np.arange(6, dtype="<f4").tobytes()
    found = torch_file.read_torch(
        archive(tmp_path, {"a": {"b": tensor(sizes=(2, 2), strides=(1, 2), offset=1)}, "n": 3}, data)
    )
    np.testing.assert_array_equal(found["a.b"], [[1, 3], [2, 4]])


@pytest.mark.parametrize("value, word", [
    (Call(Global("os", "system"), "touch hostile"), "os.system"),
    (Call(Global("builtins", "eval"), "1"), "builtins.eval"),
    (Call(Global("torch", "load"), "x"), "torch.load"),
    (Call(Global("collections", "OrderedDict"), 5), "TypeError"),
    ({"a": tensor(sizes=(2, 4), strides=(4, 1))}, "leaves its storage"),
    ({"a": tensor(offset=1)}, "leaves its storage"),
    ({"a": tensor(sizes=(1 << 20, 1 << 20), strides=(0, 0))}, "leaves its storage"),
    ({"a": tensor(sizes=(2,), strides=(3, 1))}, "leaves its storage"),
    ({"a": tensor(offset=-1)}, "none"), ({"a": tensor(sizes=(2, -3))}, "none"),
    ({"a": tensor(strides=(3, "1"))}, "none"),
    ({"a": tensor(sizes=(True, 3))}, "none"),
    ({"a": tensor(Stored(length=7), sizes=(7,), strides=(1,))}, "fewer bytes"),
    ({"a": tensor(Stored(key="../../etc/passwd"))}, "lacks"), ({"a": tensor(Stored(length=-1))}, "none"),
    ({"a": tensor(Stored("UntypedStorage"))}, "UntypedStorage"),
    (b"\x80\x02" + pickle.LONG_BINPUT + b"\xff\xff\xff\x7f.", "damaged"), (b"", "damaged"), (b"\x80\x02", "damaged"),
    (pickle.BINUNICODE8 + b"\xff\xff\xff\xff\xff\x00\x00\x00a", "damaged"),
    (b"\x80\x02" + b"}X\x01\x00\x00\x00a" * 9 + b"}" + b"s" * 9 + b".", "nested"),
])  # fmt: skip
def test_hostile_archives_are_refused(tmp_path, monkeypatch, value, word):
    """One sentence, and nothing is run, read elsewhere, or allocated."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match=word):
        torch_file.read_torch(archive(tmp_path, value))
    assert not (tmp_path / "hostile").exists()


NAME = lambda text: pickle.BINUNICODE + struct.pack("<I", len(text)) + text
DEEP = b")" + pickle.TUPLE1 * 200_000  # a tuple whose hash takes more stack than there is
REBUILD, ORDERED = b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n"


def shared(fan, depth):
    """The pickle of a dict that holds one dict fan times, which holds one fan times, and so on."""
    levels = (
        b"}(" + b"".join(NAME(b"%d" % k) + b"h" + bytes([d]) for k in range(fan)) + b"uq" + bytes([d + 1])
        for d in range(depth)
    )
    return b"\x80\x02}q\x00" + b"".join(levels) + b"."


@pytest.mark.parametrize("value, word", [
    (b"\x80\x02}" + DEEP + b"Ns.", "names and numbers"), (b"\x80\x04\x8f(" + DEEP + b"\x90.", "instruction 0x8f"),
    (b"\x80\x02" + ORDERED + b"]](" + DEEP + b"Nea\x85R.", "TypeError"), (b"\x80\x02](NNu.", "names and numbers"),
    (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".", "instruction 0x96"), (b"\x80\x02I9\n.", "instruction 0x49"),
    (shared(60, 7), "more than"), ({f"t{k}": tensor() for k in range(4)}, "times its bytes"),
    ({"a": tensor(Stored(key="1"))}, "in one place"),
])  # fmt: skip
def test_small_files_that_ask_for_much(tmp_path, monkeypatch, value, word):
    """Deep keys, shared dicts, a storage seen often, parts in one place: refused before the stack, time or memory ends."""
    monkeypatch.setattr(torch_file, "MAX_ITEMS", 1000)
    monkeypatch.setattr(torch_file, "COPIES", 8 if word != "times its bytes" else 0)
    place = archive(tmp_path, value)
    if word == "in one place":
        content = place.read_bytes()
        start, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
        entries = content[start:end] * 9
        lie = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 18, 18, len(entries), start, 0)
        place.write_bytes(content[:start] + entries + lie)
    with pytest.raises(ModelFileError, match=word):
        torch_file.read_torch(place)


def test_a_pickle_changes_nothing_of_the_process(tmp_path):
    """It gives no attributes to what it names, nor to its dicts, whose own methods are called."""
    state = b"N}" + NAME(b"__defaults__") + b"K\x01\x85s\x86"
    assert torch_file.read_torch(archive(tmp_path, b"\x80\x02}" + NAME(b"a") + REBUILD + state + b"bs.")) == {}
    assert torch_file._rebuild.__defaults__ is None
    items = b"\x80\x02" + ORDERED + b")R}" + NAME(b"items") + REBUILD + b"sb."
    assert torch_file.read_torch(archive(tmp_path, items)) == {}


@pytest.mark.parametrize("level, content, word", [
    ("subword", b'["a", "b"]', "what Vocabulary.to_dict gives"), ("byte", b'["a", "b"]', "256 bytes"),
    (None, "a\nb\n".encode("utf-16"), "UTF-8"), (None, b"a\nb\nc", "has 3"),
])  # fmt: skip
def test_a_vocabulary_that_fits_no_level_is_told(tmp_path, level, content, word):
    """Sub-words without their merges, other than 256 bytes, another encoding; a token on each line is one."""
    arrays = {"r.weight_ih_l0": (24, 11), "r.weight_hh_l0": (24, 6), "head.weight": (11, 6)}
    arrays = {name: np.ones(shape, np.float32) for name, shape in arrays.items()}
    safetensors.write(tmp_path / "w.safetensors", arrays, {})
    (tmp_path / "tokens").write_bytes(content)
    with pytest.raises(ModelFileError, match=word):
        import_weights(tmp_path / "w.safetensors", tmp_path / "tokens", level=level)


SOUND = {"r.weight_ih_l0": (24, 11), "r.weight_hh_l0": (24, 6), "head.weight": (11, 6)}


@pytest.mark.parametrize("arrays, word", [
    ({"a.weight_ih_l0": (24, 11), "a.weight_hh_l0": (24, 6), "b.weight_ih_l0": (24, 6)}, "several recurrent modules"),
    ({"r.weight_ih_l0": (24, 11), "r.weight_hh_l0": (24,)}, "must be a matrix"),
    ({"r.weight_ih_l0": (20, 11), "r.weight_hh_l0": (20, 6)}, "4 H, 3 H or H rows"),
    ({"r.weight_ih_l0_reverse": (24, 11)}, "reads backwards"),
    ({"r.weight_ih_l0": (24, 11), "r.weight_hh_l0": (24, 6)}, "not clear"),
    ({"r.weight_ih_l0": (24, 5), "r.weight_hh_l0": (24, 6), "head.weight": (11, 6)}, "no tensor for embedding.weight"),
    ({**SOUND, "r.weight_ih_l0": (24, 5), "embedding.weight": (12, 5)}, "embedding.weight must have 11 rows"),
    ({**SOUND, "r.weight_ih_l0": (24, 5), "embedding.weight": (9, 5)}, "embedding.weight must have 11 rows"),
    ({**SOUND, "r.weight_hr_l0": ()}, "must be a matrix"), ({**SOUND, "r.weight_ih_l1": ()}, "must be a matrix"),
    ({**SOUND, "r.bias_ih_l0": (24, 1)}, "must be a vector"), ({**SOUND, "r.bias_ih_l3": (24,)}, "bias_ih_l3 is of no layer"),
    ({**SOUND, "r.weight_ih_l7": (24, 6)}, "weight_ih_l7 is of no layer"),
    ({**SOUND, "r.weight_hr_l1": (3, 6)}, "weight_hr_l1 is of no layer"),
    ({**SOUND, "r.weight_hh_l\u0661": (24, 6)}, "has no place"),
])  # fmt: skip
def test_tensors_that_are_no_network_of_ours(tmp_path, arrays, word):
    """Two modules, shapes that no cell has, the other direction, parts that are missing: named, with the file."""
    safetensors.write(tmp_path / "w.safetensors", {k: np.ones(s, np.float32) for k, s in arrays.items()}, {})
    with pytest.raises(ModelFileError, match=f"w.safetensors: .*{word}"):
        import_weights(tmp_path / "w.safetensors", stored(tmp_path, LETTERS))


def test_a_vocabulary_with_a_byte_order_mark(tmp_path):
    """The mark is no part of the first token."""
    safetensors.write(tmp_path / "w.safetensors", {k: np.ones(s, np.float32) for k, s in SOUND.items()}, {})
    (tmp_path / "tokens").write_bytes(b"\xef\xbb\xbf" + "\n".join(LETTERS).encode())
    assert import_weights(tmp_path / "w.safetensors", tmp_path / "tokens").vocabulary.tokens[1:] == tuple(LETTERS)


def test_a_dict_that_holds_itself(tmp_path):
    """Ends."""
    loop = b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."
    with pytest.raises(ModelFileError, match="nested"):
        torch_file.read_torch(archive(tmp_path, loop))


def test_files_that_are_no_archives(tmp_path):
    """Compressed, cut, a plain pickle, none at all."""
    with pytest.raises(ModelFileError, match="compressed"):
        torch_file.read_torch(archive(tmp_path, {"a": tensor()}, compression=zipfile.ZIP_DEFLATED))
    whole = archive(tmp_path, {"a": tensor()}).read_bytes()
    for length in range(0, len(whole), 31):
        (tmp_path / "x.pt").write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            torch_file.read_torch(tmp_path / "x.pt")
    with pytest.raises(ModelFileError, match="does not exist"):
        import_weights(tmp_path / "none.pt", stored(tmp_path, LETTERS))


def test_damaged_archives(tmp_path):
    """A directory that lies, an archive of several disks, bytes that have changed anywhere: refused, or read."""
    tokens, sound = stored(tmp_path, LETTERS), archive(tmp_path, {"a": tensor()}).read_bytes()
    end = sound.rindex(b"PK\5\6")
    lies = [
        struct.pack("<4sHHHHIIH", b"PK\5\6", disk, disk, 1, 1, size, 10, 0) for disk in (0, 1) for size in (46, 1 << 22)
    ]
    damaged, random = [sound[:56] + lie for lie in lies], np.random.default_rng(0)
    for place in random.integers(0, len(sound), 100):
        damaged.append(sound[:place] + bytes([random.integers(256)]) + sound[place + 1 :])
    damaged += [sound[:end] + random.bytes(4) + sound[end + 4 :], sound[: end + 4] + random.bytes(18)]
    for name in ("x.pt", "x.keras"):
        for content in damaged:
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ModelFileError):
                import_weights(tmp_path / name, tokens)


def test_numbers_beyond_float32(tmp_path):
    """Are as little wanted as infinity, without a warning of NumPy's."""
    arrays = {"rnn.weight_ih_l0": (24, 11), "rnn.weight_hh_l0": (24, 6), "fc.weight": (11, 6), "fc.bias": (11,)}
    safetensors.write(tmp_path / "w.safetensors", {name: np.full(size, 1e300) for name, size in arrays.items()}, {})
    with pytest.raises(ModelFileError, match="finite"):
        import_weights(tmp_path / "w.safetensors", stored(tmp_path, LETTERS))


def test_the_command(tmp_path, monkeypatch, command):
    """It writes a model that samples, and keeps one that is there."""
    monkeypatch.chdir(tmp_path)
    arrays = {"rnn.weight_ih_l0": (24, 11), "rnn.weight_hh_l0": (24, 6), "fc.weight": (11, 6), "fc.bias": (11,)}
    random = np.random.default_rng(0)
    safetensors.write("w.safetensors", {k: random.normal(size=s).astype(np.float32) for k, s in arrays.items()}, {})
    stored(tmp_path, LETTERS)
    args = ["import", "w.safetensors", "--vocabulary", "vocabulary.json", "-o", "model.safetensors"]
    done = command(*args)
    assert done.code == 0 and "LSTM 1 x 6" in done.out and not done.err
    assert command("sample", "-n", "5").code == 0
    assert command(*args).code == 2 and command(*args, "--map", "x").code == 2
    assert command(*args, "--overwrite").code == 0
    assert isinstance(nblstm.load("model.safetensors"), nblstm.LanguageModel)
