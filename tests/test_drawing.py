"""What is drawn: its probability and seed, biases, penalties, several temperatures; and the command that prints it."""

import json
import os

import numpy as np
import pytest
from support.cases import each
from support.commands import SMALL, USAGE, VERSE, assert_refused

import nblstm
from nblstm.errors import ConfigError

BACKENDS = ["numpy", "cpu"]


# ---------------------------------------------------------------- probabilities


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_log_probability_is_that_of_scoring(model, backend):
    """That of a text behind a prompt is the score of both less that of the prompt; whatever it was drawn with."""
    drawn = model.draw("Shall", n=30, num_samples=3, seed=2, temperature=0.7, top_k=5, backend=backend)
    assert [found.text for found in drawn] == model.generate_many(
        "Shall", n=30, num_samples=3, seed=2, temperature=0.7, top_k=5, backend=backend
    )
    for found in drawn:
        expected = model.score("Shall" + found.text, "numpy").nats - model.score("Shall", "numpy").nats
        assert -found.log_probability == pytest.approx(expected, rel=1e-4)
        assert (found.tokens, found.seed) == (30, 2)


def test_the_probability_of_a_text_that_was_stopped(model):
    """It is that of what is returned, before the stop string."""
    (found,) = model.draw("Shall", n=200, seed=2, stop=["\n"])
    assert found.tokens == len(found.text) < 200
    expected = model.score("Shall" + found.text, "numpy").nats - model.score("Shall", "numpy").nats
    assert -found.log_probability == pytest.approx(expected, rel=1e-4)


def test_an_end_is_part_of_the_probability(tmp_path):
    """A document that has ended has the log-probability that `score_lines` gives it: its <end> included."""
    (tmp_path / "a").write_text("ab\nabc\nb\n" * 30)
    settings = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "documents": "line", "steps": 9}
    lines = nblstm.train(tmp_path / "a", tmp_path / "m.safetensors", **settings)
    for found in lines.draw(n=50, num_samples=5, seed=1, backend="numpy"):
        (score,) = lines.score_lines([found.text], "numpy")
        assert (found.tokens, -found.log_probability) == (score.tokens, pytest.approx(score.nats, rel=1e-4))


def test_a_seed_that_nobody_gave_is_told(model):
    """It draws the same text again."""
    (found,) = model.draw(n=20)
    assert "".join(model.generate(n=20, seed=found.seed)) == found.text
    assert model.draw(n=20)[0].seed != found.seed


def test_nothing_drawn_is_certain(model):
    """No token has probability 1."""
    (found,) = model.draw("Shall", n=0)
    assert (found.text, found.tokens, found.log_probability) == ("", 0, 0)


# ---------------------------------------------------------------- biases and penalties


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bias_is_added_to_the_logits(model, backend):
    """Shares of many first tokens follow softmax(logits + bias); what has -100 never comes; the same on both backends."""
    bias = {"e": 3.0, " ": -100, "t": -1.5}
    texts = model.generate_many("Shall", n=1, num_samples=4000, seed=1, logit_bias=bias, backend=backend)
    logits = model.network("numpy").logits(model.state("Shall").features)[0].astype(float)
    tokens = model.vocabulary.tokens
    logits += [bias.get(token, 0.0) for token in tokens]
    p = np.where([token in (" ", "<unk>") for token in tokens], 0, np.exp(logits))
    p /= p.sum()
    shares = np.array([texts.count(token) for token in tokens]) / len(texts)
    assert np.abs(shares - p).max() < 5 * np.sqrt(p.max() / len(texts)) and " " not in texts
    assert texts == model.generate_many("Shall", n=1, num_samples=4000, seed=1, logit_bias=bias, backend="numpy")


@each(
    "bias, words",
    [
        ({"é": 1}, "vocabulary does not have"),
        ({"e": 101}, "-100 to 100"),
        ({"e": "1"}, "-100 to 100"),
        ({"e": float("nan")}, "-100 to 100"),
        ({3: 1}, "-100 to 100"),
    ],
)
def test_a_wrong_bias_is_named(model, bias, words):
    """The token or the number."""
    with pytest.raises(ConfigError, match=words):
        model.generate(logit_bias=bias)


def test_some_token_must_be_left(model):
    """A bias of -100 for all of them is refused, before anything is written."""
    with pytest.raises(ConfigError, match="leaves no token"):
        model.generate(logit_bias=dict.fromkeys(model.vocabulary.tokens, -100))


@pytest.mark.parametrize("settings", [{"frequency_penalty": 50}, {"presence_penalty": 50, "repetition_window": 5}])
def test_penalties_change_the_text_alike_on_both_backends(model, settings):
    """A heavy one lets no character come again while others are left; equal texts on both backends."""
    texts = [
        "".join(model.generate("S", n=9, seed=3, backend=backend, **{"repetition_window": 0, **settings}))
        for backend in BACKENDS
    ]
    assert texts[0] == texts[1]
    window = settings.get("repetition_window", 99)
    assert all(letter not in ("S" + texts[0])[max(0, at - window) : at] for at, letter in enumerate("S" + texts[0]))


@each("name", ["presence_penalty", "frequency_penalty"])
def test_penalties_have_a_range(model, name):
    """-100 to 100."""
    for value in (-101, 101, "1"):
        with pytest.raises(ConfigError, match=name):
            model.generate(**{name: value})


# ---------------------------------------------------------------- the command


def test_json_lines(command, folder):
    """An object for each text: what the library draws, with the seed."""
    asked = ["sample", "--prompt", "Shall", "-n", 9, "--num-samples", 2, "--seed", 5, "--json"]
    rows = [json.loads(line) for line in command(*asked).out.splitlines()]
    drawn = nblstm.load("model.safetensors").draw("Shall", n=9, num_samples=2, seed=5)
    assert [(row["text"], row["seed"], row["tokens"]) for row in rows] == [(d.text, 5, 9) for d in drawn]
    assert [row["log_probability"] for row in rows] == pytest.approx([d.log_probability for d in drawn])
    beam = [json.loads(line) for line in command("sample", "--beam", 2, "-n", 4, "--json").out.splitlines()]
    assert beam[0].keys() == {"text", "log_probability", "score"}


def test_several_temperatures(command, folder):
    """A text at each, under its name; as JSON an object each."""
    asked = ["sample", "-n", 9, "--seed", 5, "--temperature"]
    texts = [command(*asked, t).out for t in ("0", "0.5", "1")]
    shown = command(*asked, "0,0.5,1").out
    assert shown == "".join(f"temperature {t}\n{text}" for t, text in zip(("0", "0.5", "1"), texts))
    rows = [json.loads(line) for line in command(*asked, "0,0.5", "--json").out.splitlines()]
    assert [row["temperature"] for row in rows] == [0, 0.5] and rows[0]["text"] + "\n" == texts[0]


def test_an_output_file(command, folder):
    """It gets what standard output would, and no other file is replaced."""
    asked = ["sample", "-n", 50, "--seed", 5, "--prompt", "Shall"]
    printed = command(*asked)
    written = command(*asked, "-o", "out.txt")
    assert written.out == "" and "wrote out.txt" in written.err
    assert (folder / "out.txt").read_text(encoding="utf-8") == printed.out
    assert_refused(command(*asked, "-o", "model.safetensors"), USAGE, "exists", "-o")
    assert_refused(command(*asked, "-o", "no/out.txt"), USAGE, "no folder no")


def test_biases_on_the_command_line(command, folder):
    """TOKEN=NUMBER with escapes, also of '=', and a JSON file; several are put together."""
    (folder / "bias.json").write_text(json.dumps({"a": -100, " ": -100}))
    shown = command("sample", "-n", 200, "--seed", 1, "--logit-bias", "bias.json", "--logit-bias", r"\n=-100")
    assert shown.code == 0 and not {"a", " "} & set(shown.out) and shown.out.count("\n") == 1
    (folder / "equals.txt").write_text("=a" * 99)
    command("train", "equals.txt", *SMALL, "--steps", 1, "-o", "e.safetensors")
    shown = command("sample", "-m", "e.safetensors", "-n", 9, "--logit-bias", "==-100")
    assert shown.out == "a" * 9 + "\n"


@each(
    "args, words",
    [
        (["--temperature", "a,b"], ["not a valid float"]), (["--temperature", "1,-1"], ["--temperature"]),
        (["--json", "--novel", "corpus.txt"], ["--json", "--novel"]), (["--logit-bias", "no.json"], ["cannot be read"]),
        (["--save-state", "s", "--temperature", "1,2"], ["--save-state"]), (["--logit-bias", "e=x"], ["e=x"]),
        (["--beam", "2", "--temperature", "1"], ["--temperature", "--beam"]), (["--logit-bias", "e=101"], ["-100 to 100"]),
        (["--beam", "2", "--logit-bias", "e=1"], ["--logit-bias", "--beam"]),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(command, folder, args, words):
    """One line, exit code 2, nothing written."""
    before = sorted(os.listdir())
    assert_refused(command("sample", "-n", 5, *args), USAGE, *words)
    assert sorted(os.listdir()) == before


# ---------------------------------------------------------------- write


def test_the_cursor_moves_in_the_line(model):
    """Characters come where it stands, Backspace takes the one before it, and continuations follow the text before it."""
    writer, other = model.cowriter(), model.cowriter()
    writer.type("Shl")
    writer.move(-1)
    writer.type("al")
    assert (writer.line, writer.cursor) == ("Shall", 4)
    other.type("Shal")
    assert writer.continuations() == other.continuations()
    writer.move(-99)
    writer.backspace()
    assert (writer.line, writer.cursor) == ("Shall", 0)
    writer.move(2)
    writer.enter()
    assert (writer.lines, writer.line, writer.cursor) == (["Sh"], "all", 0)


def test_undo(model):
    """Words, continuations, line ends and what Backspace took come back one by one, with the state behind them."""
    writer = model.cowriter()
    states = []
    for key in ("S", "o", " ", "l"):
        writer.type(key)
    writer.backspace()
    writer.enter()
    writer.type("and\nthou")
    for _ in range(7):
        states.append((writer.text, writer.cursor))
        writer.undo()
    assert states[:4] == [("So \nand\nthou", 4), ("So \n", 0), ("So ", 3), ("So l", 4)]
    assert states[4:] == [("So ", 3), ("So", 2), ("", 0)]
    writer.type("So")
    fresh = model.cowriter()
    fresh.type("So")
    assert writer.continuations() == fresh.continuations()


def test_a_text_is_opened(model):
    """Its lines are those before; what follows is offered as if it had been typed."""
    writer, typed = model.cowriter(), model.cowriter()
    writer.open(VERSE + "Rough")
    typed.type(VERSE + "Rough")
    assert (writer.text, writer.cursor) == (VERSE + "Rough", 5)
    assert writer.continuations() == typed.continuations()


def test_escape_hides_what_is_offered(model):
    """Until the line is another one."""
    writer = model.cowriter()
    writer.type("Sha")
    assert writer.continuations()
    writer.dismiss()
    assert writer.continuations() == []
    writer.type("l")
    assert writer.continuations()


@each("until", ["word", "line"])
def test_continuations_at_a_temperature(model, until):
    """They are drawn: another seed offers others, the same the same, distinct in any case."""
    found = []
    for seed in (1, 1, 2):
        writer = model.cowriter(temperature=1.5, seed=seed, until=until)
        writer.type("Sh")
        found.append(writer.continuations())
        assert len(set(found[-1])) == len(found[-1]) > 0
    assert found[0] == found[1] != found[2]


def test_a_temperature_divides_the_logits(model):
    """A decoder at 0.5 gives twice the logits of one at 1, on both backends, also where weights are tied."""
    for backend in BACKENDS:
        network = model.network(backend)
        plain, cold = (network.decoder(1, None, t)([3], network.initial_state()) for t in (1.0, 0.5))
        np.testing.assert_allclose(cold, 2 * plain, rtol=1e-5, atol=1e-5)
