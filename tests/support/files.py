"""Model files, as tests write them."""

from nblstm.files.model_file import ModelFile, save_model


def store(path, config, vocabulary, weights, training=None):
    """Write a model file of its parts."""
    save_model(path, ModelFile(config, vocabulary, weights, {}, training or {}))
