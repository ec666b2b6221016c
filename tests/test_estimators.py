"""Estimators keep scikit-learn's conventions: its own tools copy, search and chain them. Without it, the conventions."""

import warnings

import numpy as np
import pytest

import nblstm
from nblstm.errors import ConfigError

TEXT = "the cat sat on the mat. the dog lay on the log. " * 12
WAVE = np.sin(np.arange(200) / 5)
SMALL = {
    nblstm.SeriesModel: {"hidden_size": 4, "steps": 5},
    nblstm.MLPLanguageModel: {"window": 3, "hidden_size": 4, "epochs": 1, "valid_fraction": 0.2},
    nblstm.TextGenerator: {"hidden_size": 4, "num_layers": 1, "steps": 5, "bptt": 8, "batch_size": 2},
}
DATA = {nblstm.SeriesModel: WAVE, nblstm.MLPLanguageModel: TEXT, nblstm.TextGenerator: TEXT}


@pytest.mark.parametrize("kind", SMALL)
def test_settings_are_kept_as_given_and_fit_returns_the_model(kind):
    """Nothing is learned or changed before `fit`, which returns the estimator."""
    model = kind(**SMALL[kind])
    assert SMALL[kind].items() <= model.get_params().items() and not model.__sklearn_is_fitted__()
    assert model.set_params(hidden_size=5) is model and model.get_params()["hidden_size"] == 5
    assert model.fit(DATA[kind]) is model and len(model.parameters)
    again = kind(**model.get_params()).fit(DATA[kind])
    np.testing.assert_array_equal(again.parameters, model.parameters)


@pytest.mark.parametrize("kind", SMALL)
def test_a_wrong_setting_is_named(kind):
    """When the model is made and when a setting is changed; nothing is changed then."""
    with pytest.raises(ConfigError, match="no setting 'hiden_size'"):
        kind(hiden_size=5)
    with pytest.raises(ConfigError, match="hidden_size must be at least 1, got 0"):
        kind(hidden_size=0)
    model = kind(**SMALL[kind])
    before = model.get_params()
    with pytest.raises(ConfigError):
        model.set_params(hidden_size=0)
    assert model.get_params() == before


@pytest.mark.parametrize("kind", SMALL)
def test_scikit_learn_copies_them(kind):
    """clone makes an unfitted one with the same settings."""
    base = pytest.importorskip("sklearn.base")
    model = kind(**SMALL[kind]).fit(DATA[kind])
    copy = base.clone(model)
    assert type(copy) is kind and copy.get_params() == model.get_params() and not copy.__sklearn_is_fitted__()


def test_scikit_learn_searches_their_settings():
    """GridSearchCV finds the size that predicts better, by the model's own score."""
    search = pytest.importorskip("sklearn.model_selection")
    pairs = [np.stack([np.sin(np.arange(60) / 5 + k), np.cos(np.arange(60) / 5 + k)], axis=1) for k in range(4)]
    series, targets = [pair[:, :1] for pair in pairs], [pair[:, 1:] for pair in pairs]
    grid = {"steps": [1, 150], "hidden_size": [8]}
    found = search.GridSearchCV(nblstm.SeriesModel(lr=0.02), grid, cv=2).fit(series, targets)
    assert found.best_params_ == {"steps": 150, "hidden_size": 8} and found.best_score_ > 0.5
    assert np.shape(found.predict(series[:1])[0]) == (60, 1)


def test_scikit_learn_chains_them():
    """A Pipeline scales a table, then fits and asks the model of it."""
    pytest.importorskip("sklearn")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table = np.stack([WAVE, 3 * WAVE + 1], axis=1)
    chain = make_pipeline(StandardScaler(), nblstm.SeriesModel(hidden_size=8, steps=100, lr=0.02))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chain.fit(table, WAVE)
    assert chain.predict(table).shape == (200, 1) and chain.score(table, WAVE) > 0.9


def test_old_names_work_and_warn():
    """For one more version: a config's earlier name, and `fit` called on the class with the settings among its arguments."""
    with pytest.warns(DeprecationWarning, match="nblstm.ModelConfig is now nblstm.LanguageConfig"):
        assert nblstm.ModelConfig is nblstm.LanguageConfig
    series, settings = [np.sin(np.arange(40.0))[:, None]], {"hidden_size": 3, "steps": 2, "seed": 1}
    with pytest.warns(
        DeprecationWarning, match=r"SeriesModel.fit will go in the next version; call SeriesModel\(settings\)"
    ):
        old = nblstm.SeriesModel.fit(series, **settings)
    np.testing.assert_array_equal(old.parameters, nblstm.SeriesModel(**settings).fit(series).parameters)


def test_it_is_shown_by_the_settings_that_were_given():
    """As scikit-learn shows its own: those that were given, and no others."""
    assert repr(nblstm.SeriesModel(hidden_size=3, cell="gru")) == "SeriesModel(hidden_size=3, cell='gru')"
