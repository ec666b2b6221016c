"""Runs of a trainer, and how two of them are compared."""

import numpy as np

from nblstm.config import TrainConfig
from nblstm.files.model_file import load_checkpoint, save_checkpoint
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial
from nblstm.scoring import validation_streams
from nblstm.tasks.language.config import LanguageConfig
from nblstm.text.batches import Streams
from nblstm.training.trainer import Trainer

CHUNKS = 5  # per epoch of the text below
SHAPE = LanguageConfig(7, hidden_size=8, num_layers=2, dropout=0.3, input_dropout=0.2, output_dropout=0.1)


def make_trainer(valid=True, shape=SHAPE, backend="cpu", **settings):
    """Return a trainer on 133 random tokens: 4 streams of 33 transitions, read in chunks of 8."""
    ids = np.random.default_rng(1).integers(0, shape.vocab_size, 173)
    settings = {"batch_size": 4, "bptt": 8, "threads": 2, **settings}
    network = Network(shape, initial(shape, 3), backend, settings["threads"])
    config = TrainConfig(**settings)
    streams = Streams(ids[:133], config.batch_size, config.bptt)
    assert len(streams) == CHUNKS
    return Trainer(network, config, streams, validation_streams(ids[133:]) if valid else ())


def through_a_file(trainer, path, **settings):
    """Return a new trainer that goes on from a checkpoint of `trainer`."""
    save_checkpoint(path, trainer.tensors(), trainer.facts())
    resumed = make_trainer(**settings)
    resumed.restore(*load_checkpoint(path))
    return resumed


def history(reports):
    """Return what training computed: every loss and norm, bit by bit, and every validation."""
    return [(r.step, r.valid_loss) if r.validated else (r.step, r.loss, r.gradient_norm, r.lr) for r in reports]


def assert_same_run(one, other):
    """Fail unless every array and number of two trainers is equal to the last bit, the clock's apart."""
    for name, array in one.tensors().items():
        np.testing.assert_array_equal(array, other.tensors()[name], err_msg=name)
    assert {**one.facts(), "seconds": 0} == {**other.facts(), "seconds": 0}
