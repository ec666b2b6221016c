"""The library's messages in the command line's spelling."""

import click
import pytest
from nblstm.cli.main import nblstm
from nblstm.cli.spelling import in_options
from support.cases import each

from nblstm.errors import ConfigError


def options(name):
    return nblstm.get_command(click.Context(nblstm), name)


@each(
    "message, spelt",
    [
        ("hidden_size must be at least 1, got 0.", "--hidden-size must be at least 1, got 0."),
        ("clip must be at least 0, got -1.0.", "--clip must be at least 0, got -1.0."),
        ("momentum is for sgd, not for adam; leave it out.", "--momentum is for sgd, not for adam; leave it out."),
        ("try less than lr=0.01, or clip=5.", "try less than --lr 0.01, or --clip 5."),
        ('read raw bytes with level="byte".', "read raw bytes with --level byte."),
        ("go on with it by resume=True, or not.", "go on with it by --resume, or not."),
        ("add text or lower valid_fraction.", "add text or lower --valid-fraction."),
    ],
)
def test_settings_become_options(message, spelt):
    """A setting with a value, one of several words, and one with which the message begins."""
    assert in_options(message, options("train")) == spelt


@pytest.mark.parametrize(
    "message",
    [
        "/data/hidden_size.txt cannot be read: No such file or directory.",
        "/data/lr=3 is a folder; choose a file as output.",
        "leave out --num-samples and --novel.",
        "the text has no level or clip of its own, and documents are not one stream.",
        "there is no setting 'my_hidden_size'.",
    ],
)
def test_other_words_stay(message):
    """Paths, options that are spelt already, and words that happen to be names."""
    assert in_options(message, options("train")) == message


def test_options_are_those_of_the_command():
    """A command that has no such option leaves the setting as it is."""
    message = "hidden_size must be 8, got 9; n must be at least 0."
    assert in_options(message, options("sample")) == message


def test_another_command_is_spelt_as_it_is_typed():
    """Who samples from a checkpoint is told which command reads it."""
    message = "a.safetensors is a training checkpoint, not a model; nblstm.train(resume=True) reads it."
    assert in_options(message, options("sample")).endswith("not a model; nblstm train --resume reads it.")


def test_a_way_out_that_the_command_lacks_is_not_offered():
    """Only who makes a vocabulary can choose its level; the encoding is chosen by all that read text."""
    message = 'a.txt is not utf-8 text at byte 3; name its encoding="cp1252", or read raw bytes with level="byte".'
    assert in_options(message, options("score")) == "a.txt is not utf-8 text at byte 3; name its --encoding cp1252."
    assert in_options(message, options("train")).endswith("--encoding cp1252, or read raw bytes with --level byte.")


def test_the_command_line_spells_and_the_library_does_not(command):
    """The same error, for those who call Python and for those who type."""
    import nblstm as library

    with pytest.raises(ConfigError, match="^batch_size must be at least 1, got 0"):
        library.train("missing", batch_size=0)
    outcome = command("train", "missing", "--batch-size", 0)
    assert (outcome.code, outcome.err) == (2, "Error: --batch-size must be at least 1, got 0.\n")
