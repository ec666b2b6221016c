"""The golden files of `tests/data`: what earlier versions stored is read, continued and computed as it was then."""

import json

import numpy as np
import pytest
from support import golden
from support.cases import each

from nblstm.files import safetensors
from nblstm.files.digest import DIGEST

NUMBERS = json.loads(golden.NUMBERS.read_text(encoding="utf-8"))
SINGLE, DOUBLE = 2e-5, 1e-9  # relative, of what is computed in float32 and in float64: sums in another order


def same(found, stored, tolerance, place="it"):
    """Assert that two JSON values are the same, their fractions to a relative tolerance."""
    if isinstance(stored, dict):
        assert found.keys() == stored.keys(), place
        for key in stored:
            same(found[key], stored[key], tolerance, f"{place}, {key}")
    elif isinstance(stored, list):
        assert len(found) == len(stored), place
        for k, pair in enumerate(zip(found, stored)):
            same(*pair, tolerance, f"{place}[{k}]")
    elif isinstance(stored, float):
        assert found == pytest.approx(stored, rel=tolerance, abs=tolerance), place
    else:
        assert found == stored, place


# ---------------------------------------------------------------- stored files


@each("path", sorted(golden.DATA.glob("*.safetensors")), ids=lambda path: path.stem)
def test_stored_files_are_of_the_oldest_version_that_holds_them(path):
    """The files are what they should guard: small integers need format version 2, nothing else does."""
    _, metadata = safetensors.read(path)
    metadata.pop(DIGEST, None)  # which the first ones did not have
    (document,) = metadata.values()
    assert json.loads(document)["format_version"] == (2 if path.stem == golden.INT8 else 1)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@each("name", golden.LANGUAGE_MODELS)
def test_a_stored_model_says_and_writes_what_it_did(name, backend):
    """Scores, surprisals, fingerprint; texts drawn with a seed, searched, continued; on both backends."""
    same(golden.of_language_model(name, backend), NUMBERS[name], SINGLE)


@pytest.mark.parametrize("backend, tolerance", [("numpy", SINGLE), ("cpu", 1e-3)])
def test_a_stored_model_of_small_integers_says_and_writes_what_it_did(backend, tolerance):
    """The same of a file of format version 2; compiled kernels round what they multiply, too."""
    same(golden.of_language_model(golden.INT8, backend), NUMBERS[golden.INT8], tolerance)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_stored_state_is_gone_on_from(backend):
    """The state of a stored model still belongs to it, and the same text follows."""
    assert golden.after_state(backend) == NUMBERS["after state"]


def test_a_stored_windowed_model_says_and_writes_what_it_did():
    """Score, probabilities and texts."""
    same(golden.of_windowed_model(), NUMBERS["window"], SINGLE)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_stored_model_of_series_predicts_what_it_did(backend):
    """Predictions and a forecast."""
    same(golden.of_series_model(backend), NUMBERS["series"], SINGLE)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_stored_tagger_tags_as_it_did(backend):
    """Tags, F1 and accuracy."""
    same(golden.of_tagger(backend), NUMBERS["tagger"], SINGLE)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_stored_classifier_decides_as_it_did(backend):
    """Probabilities, and what moved the decisions."""
    same(golden.of_classifier(backend), NUMBERS["classifier"], SINGLE)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_stored_translator_writes_what_it_did(backend):
    """Searched and drawn translations, their scores, attention, the perplexity of references."""
    same(golden.of_translator(backend), NUMBERS["translator"], SINGLE)


# ---------------------------------------------------------------- stored runs


@pytest.fixture(scope="module")
def parameters():
    """The stored parameters, by name."""
    with np.load(golden.PARAMETERS) as stored:
        return dict(stored)


@pytest.mark.parametrize("name", golden.RUNS)
def test_a_stored_run_goes_on_as_it_would_have(name, tmp_path, parameters):
    """From its checkpoint, in the middle of an epoch, to the same parameters."""
    found = golden.weights(golden.continued(name, tmp_path).trainer)
    np.testing.assert_allclose(found, parameters[name], rtol=DOUBLE, atol=DOUBLE)


@pytest.mark.parametrize("name", golden.RUNS)
def test_a_stored_run_goes_on_with_compiled_kernels(name, tmp_path):
    """`nblstm.train(resume=True)` returns the weights that the same run has with NumPy."""
    same(golden.sampled(golden.continued_by_library(name, tmp_path)), NUMBERS[f"best of {name}"], DOUBLE)


# ---------------------------------------------------------------- training


@each("name", golden.KINDS)
def test_every_kind_learns_what_it_did(name, tmp_path, parameters):
    """Twelve updates with NumPy in float64: every loss and every parameter."""
    trainer, losses = golden.trained(golden.KINDS[name], tmp_path)
    same(losses, NUMBERS[f"losses of {name}"], DOUBLE)
    np.testing.assert_allclose(golden.weights(trainer), parameters[name], rtol=DOUBLE, atol=DOUBLE)


@each("name", golden.MORE)
def test_optimizers_schedules_and_texts_are_what_they_were(name, tmp_path):
    """Twelve updates with NumPy in float64: every loss, and some parameters."""
    trainer, losses = golden.trained(golden.MORE[name], tmp_path)
    same(losses, NUMBERS[f"losses of {name}"], DOUBLE)
    same(golden.sampled(golden.weights(trainer)), NUMBERS[f"parameters of {name}"], DOUBLE)


# ---------------------------------------------------------------- random streams


def test_initial_parameters_are_what_they_were():
    """Of every kind of network, from two seeds."""
    same(golden.initial_parameters(), NUMBERS["initial parameters"], 1e-12)


def test_dropout_keys_are_what_they_were():
    """64 bits of every site, seed and step."""
    assert golden.dropout_keys() == NUMBERS["dropout keys"]


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_dropout_masks_are_what_they_were(backend):
    """The places that are kept, by key and rate."""
    assert golden.dropout_masks(backend) == NUMBERS["dropout masks"]


@each("name", golden.NOISY)
def test_noise_falls_where_it_did(name, tmp_path):
    """The key, rate and size of every mask of three updates, and the targets that count: what a masked model hides."""
    same(golden.noise_of_training(golden.NOISY[name], tmp_path), NUMBERS[f"noise of {name}"], 0)


def test_sources_shuffle_as_they_did():
    """Buckets, windows and series: the first chunks of two epochs."""
    assert golden.orders() == NUMBERS["orders"]
