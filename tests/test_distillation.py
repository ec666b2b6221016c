"""Distillation: a student that learns what a teacher says (Hinton, Vinyals & Dean 2015)."""

import numpy as np
import pytest
from support.cases import each
from support.compare import close
from support.gradients import check_gradient
from support.kernels import TOLERANCE
from support.networks import make_chunk, make_network
from support.numba import cpu

import nblstm
from nblstm.errors import ConfigError, ModelFileError, TrainingError
from nblstm.files.model_file import load_checkpoint, save_checkpoint
from nblstm.kernels import Lesson, reference
from nblstm.nn import distilled
from nblstm.nn.distilled import DistilledHead
from nblstm.nn.parameters import views

KERNELS = [kernels for kernels in (reference, cpu) if kernels is not None]


def lesson(M, V, dtype, temperature=2.0, weight=0.3, seed=0):
    """Return logits (M, V), and what they are compared with; some rows count nothing."""
    r = np.random.default_rng(seed)
    y, taught = (r.normal(0, 2, (M, V)).astype(dtype) for _ in range(2))
    scales = (r.random(M) * (r.random(M) > 0.3)).astype(dtype)
    return y, Lesson(r.integers(0, V, M).astype(np.int32), scales, taught, temperature, weight)


def distilled_by(kernels, y, given, threads=2):
    """Return (losses, gradient), which takes the logits' place."""
    losses, dy = np.full(len(y), np.nan, y.dtype), y.copy()
    kernels.distillation(losses, dy, dy, given, threads)
    return losses, dy


@each("dtype", [np.float32, np.float64])
@each("M, V, temperature, weight", [(1, 1, 2.0, 0.5), (5, 7, 0.5, 1.0), (40, 65, 3.0, 0.4), (3, 700, 8.0, 0.0)])
def test_the_kernel_equals_the_specification(M, V, temperature, weight, dtype):
    """Losses and gradient in the arrays' type, for vocabularies that fill no vector, on any threads to the last bit."""
    pytest.importorskip("numba")
    y, given = lesson(M, V, dtype, temperature, weight)
    first, *others = (distilled_by(cpu, y, given, threads) for threads in (1, 2, 5))
    for expected, actual, *same in zip(distilled_by(reference, y, given), first, *others):
        assert actual.dtype == dtype and all(np.array_equal(actual, other) for other in same)
        close(actual, expected, 4 * TOLERANCE[dtype])


@pytest.mark.parametrize("kernels", KERNELS)
@each("temperature, weight", [(1.0, 0.5), (2.0, 0.3), (4.0, 1.0)])
def test_the_loss_is_hintons(kernels, temperature, weight):
    """torch: (1 - a) cross_entropy + a T^2 kl_div(log_softmax(y / T), softmax(taught / T)), and its gradient."""
    torch = pytest.importorskip("torch")
    y, given = lesson(6, 21, np.float64, temperature, weight)
    theirs, taught = torch.from_numpy(y.copy()).requires_grad_(), torch.from_numpy(given.taught)
    F = torch.nn.functional
    hard = F.cross_entropy(theirs, torch.from_numpy(given.targets).long(), reduction="none")
    soft = F.kl_div(F.log_softmax(theirs / temperature, 1), F.softmax(taught / temperature, 1), reduction="none").sum(1)
    expected = (1 - weight) * hard + weight * temperature**2 * soft
    (expected * torch.from_numpy(given.scales)).sum().backward()
    losses, dy = distilled_by(kernels, y, given)
    close(losses, expected.detach().numpy(), 1e-13)
    close(dy, theirs.grad.numpy(), 1e-13)


@pytest.mark.parametrize("kernels", KERNELS)
def test_logits_that_are_huge_or_none(kernels):
    """Logits 1e4 apart make no NaN; a NaN of either network makes that row's loss NaN, and no other row's."""
    y, given = lesson(3, 20, np.float32)
    y[0, 3], given.taught[0, 4] = 1e4, -1e4
    assert np.isfinite(distilled_by(kernels, y, given)[0]).all()
    for array in (y, given.taught):
        array[1, 5] = np.nan
        with np.errstate(invalid="ignore"):
            assert np.isnan(distilled_by(kernels, y, given)[0]).tolist() == [False, True, False]
        array[1, 5] = 0


@each("backend", ["numpy", "cpu"])
def test_gradient_of_a_taught_network(backend, monkeypatch):
    """Every parameter of a student of weighted texts, by finite differences in float64; rows are worked off in turns."""
    if backend == "cpu":
        pytest.importorskip("numba")
    monkeypatch.setattr(distilled, "LOGITS_BYTES", 5 * 11 * 8)
    student, teacher = make_network(backend, 1), make_network(backend, 1, hidden_size=23, num_layers=1, cell="gru")
    student.head = DistilledHead(student.config, student.weights, teacher, 2.0, 0.6)
    student.head.classes = np.random.default_rng(2).random(11) + 0.5
    chunk, state = make_chunk(student.config, T=4)
    taught, _ = teacher.features(chunk, make_chunk(teacher.config, T=4)[1])
    chunk = distilled_chunk(chunk, taught)
    gradient, scratch = np.empty_like(student.parameters), np.empty_like(student.parameters)

    def loss(into=scratch):
        return student.loss_and_gradient(into, chunk, state, seed=1, step=2)[0]

    loss(gradient)
    grads = views(gradient, student.config)
    for name in student.config.shapes:
        check_gradient(name, loss, student.weights[name], grads[name], entries=2)


def distilled_chunk(chunk, taught):
    """Return a chunk with a teacher's features, whose rows count differently."""
    from dataclasses import replace

    weights = np.random.default_rng(4).random(len(chunk.tokens)) * (np.arange(len(chunk.tokens)) % 3 > 0)
    return replace(chunk, taught=taught, weights=weights)


# ---------------------------------------------------------------- runs

TEXT = "".join(np.random.default_rng(0).choice(list("abcd \n"), 900, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1]))
TINY = {"hidden_size": 8, "num_layers": 1, "dropout": 0.3, "batch_size": 4, "bptt": 16, "threads": 1}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return train with small settings, in a folder with a text and its teacher big.safetensors."""
    pytest.importorskip("numba")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(TEXT)
    nblstm.train("a.txt", "big.safetensors", **{**TINY, "hidden_size": 20, "steps": 2, "cell": "gru"})
    return lambda output="s.safetensors", **settings: nblstm.train("a.txt", output, **{**TINY, **settings})


def test_a_run_that_is_resumed_is_the_run_that_was_not(run):
    """To the last bit: the teacher's state goes on along the streams; its dropout is none. A moved teacher is found."""
    whole = run(teacher="big.safetensors", steps=9)
    part = run("p.safetensors", teacher="big.safetensors", steps=9, **stopping_at(4))
    tensors, facts = load_checkpoint("p.checkpoint.safetensors")
    assert part.training["steps"] == 4 and tensors["teacher.state.h"].shape == (1, 4, 20)
    assert facts["teacher"]["fingerprint"] == nblstm.load("big.safetensors").fingerprint
    nblstm.load("big.safetensors").save("moved.safetensors")
    resumed = nblstm.train(output="p.safetensors", resume=True, teacher="moved.safetensors")
    assert np.array_equal(resumed.parameters, whole.parameters)
    assert resumed.training["valid_loss"] == whole.training["valid_loss"]
    assert facts["config"]["distil_temperature"] == 2.0 and facts["config"]["distil_weight"] == 0.5


def stopping_at(step):
    """Return the arguments of a run that ends after so many updates."""
    seen = []
    return {"on_report": seen.append, "stop": lambda: bool(seen) and seen[-1].step >= step}


def test_the_validation_loss_is_the_plain_one(run):
    """That which `score` finds of the same text: neither temperature nor teacher."""
    model = run(teacher=nblstm.load("big.safetensors").quantize(), steps=4, distil_weight=0.9, distil_temperature=3)
    text = TEXT[-45:]
    assert model.training["valid_loss"] == pytest.approx(model.score(text).loss, abs=2e-2)
    assert model.vocabulary.to_dict() == nblstm.load("big.safetensors").vocabulary.to_dict()


def test_a_student_learns_what_the_teacher_says(run):
    """With the teacher's whole weight its distributions come nearer, whatever the text says."""
    teacher = nblstm.load("big.safetensors")
    far, near = (run(f"{n}.safetensors", teacher=teacher, steps=n, distil_weight=1, dropout=0.0) for n in (1, 60))
    found = [divergence(teacher, model) for model in (far, near)]
    assert found[1] < found[0] / 2


def divergence(teacher, model):
    """Return the mean divergence of a model from another behind some text."""
    p, q = (distribution(each) for each in (teacher, model))
    return (p * (np.log(p) - np.log(q))).sum()


def distribution(model):
    """Return what a model expects behind a text."""
    logits = model.network().logits(model.state("abca ab").features)[0].astype(float)
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


WRONG = [
    ({"distil_temperature": 2.0}, "needs a teacher"), ({"distil_weight": 0.5}, "needs a teacher"),
    ({"teacher": "big.safetensors", "distil_weight": 1.5}, "at most 1"),
    ({"teacher": "big.safetensors", "distil_temperature": 0.0}, "greater than 0"),
    ({"teacher": "big.safetensors", "bidirectional": True}, "bidirectional"),
    ({"teacher": "big.safetensors", "task": "classify"}, "not for task classify"),
    ({"teacher": "big.safetensors", "label_smoothing": 0.1}, "label_smoothing"),
    ({"teacher": "big.safetensors", "level": "byte"}, "level comes from the model"),
    ({"teacher": "big.safetensors", "head": "adaptive", "level": "word"}, "adaptive"),
    ({"teacher": 3}, "teacher"),
]  # fmt: skip


@each("settings, words", WRONG)
def test_what_cannot_be_taught_is_refused(settings, words, run):
    """In a line that names it, before anything is written."""
    with pytest.raises(ConfigError, match=words):
        settings = {**TINY, **settings}
        nblstm.train(
            "a.txt", "never.safetensors", **{k: v for k, v in settings.items() if k != "bptt" or "task" not in settings}
        )


def test_who_has_no_teacher_has_no_settings_of_one():
    """TextGenerator trains alone; a report's command line names a teacher where there was one."""
    from types import SimpleNamespace

    from nblstm.reporting.recipe import command_line

    with pytest.raises(ConfigError, match="distil_weight needs a teacher"):
        nblstm.TextGenerator(distil_weight=0.5, hidden_size=3).fit(["abc abc"] * 9)
    recipe = nblstm.TrainConfig(distil_temperature=2.0, distil_weight=0.5).to_dict()
    made = SimpleNamespace(training={"corpus": ["a.txt"], "config": recipe}, config=nblstm.LanguageConfig(7))
    assert command_line(made).endswith("--teacher FILE --distil-temperature 2 --distil-weight 0.5")


def test_a_teacher_is_not_written_over(run):
    """Neither replaced nor renamed: the run could not go on without it."""
    with pytest.raises(ConfigError, match="its teacher; choose another output"):
        run(output="big.safetensors", teacher="./big.safetensors")
    assert nblstm.load("big.safetensors").config.hidden_size == 20


def test_another_teacher_is_refused(run, tmp_path):
    """One of another vocabulary at the start; another model when a run goes on; one that was given in memory is asked for."""
    (tmp_path / "b.txt").write_text(TEXT.replace("a", "x"))
    other = nblstm.train("b.txt", "other.safetensors", **{**TINY, "steps": 1})
    first = run("first.safetensors", steps=1)
    with pytest.raises(ConfigError, match="teacher's vocabulary of 7 tokens"):
        nblstm.train("a.txt", "c.safetensors", init_from="first.safetensors", teacher=other, steps=1, batch_size=4)
    with pytest.raises(ConfigError, match="extend_vocabulary"):
        nblstm.train("a.txt", "c.safetensors", init_from="first.safetensors", teacher=first, extend_vocabulary=True)
    run("s.safetensors", teacher=first, steps=1)
    with pytest.raises(ConfigError, match="in memory"):
        nblstm.train(output="s.safetensors", resume=True, steps=2)
    with pytest.raises(TrainingError, match="not the one"):
        nblstm.train(output="s.safetensors", resume=True, steps=2, teacher="big.safetensors")
    assert nblstm.train(output="s.safetensors", resume=True, steps=2, teacher=first).training["steps"] == 2
    run("alone.safetensors", steps=1)
    with pytest.raises(ConfigError, match="has no teacher"):
        nblstm.train(output="alone.safetensors", resume=True, steps=2, teacher=first)


DAMAGE = [
    {"path": 3}, {"fingerprint": None}, {"model": []}, {"model": {"vocab_size": "x"}}, {"model": {"hidden_size": 10**9}},
]  # fmt: skip


@each("damage", DAMAGE)
def test_a_checkpoint_whose_teacher_is_damaged_is_refused(damage, run):
    """Every field of it has its type, and the tensors are those of its config."""
    run("s.safetensors", teacher="big.safetensors", steps=1, overwrite=True)
    tensors, facts = load_checkpoint("s.checkpoint.safetensors")
    changed = {**facts["teacher"], **damage}
    if isinstance(changed["model"], dict):
        changed["model"] = {**facts["teacher"]["model"], **changed["model"]}
    save_checkpoint("s.checkpoint.safetensors", tensors, {**facts, "teacher": changed})
    with pytest.raises(ModelFileError):
        nblstm.train(output="s.safetensors", resume=True, steps=2)
