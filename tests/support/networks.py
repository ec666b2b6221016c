"""Networks of tokens, whichever way they read."""

from nblstm.nn.network import Network
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.masked.config import MaskedConfig
from nblstm.tasks.masked.network import MaskedNetwork


def text_config(*sizes, bidirectional=False, **settings):
    """The config of a language model, or with bidirectional of a masked one."""
    if not bidirectional:
        settings.pop("mask_fraction", None)
    return (MaskedConfig if bidirectional else LanguageConfig)(*sizes, **settings)


def text_network(config, *args, **keywords):
    """The network of such a config."""
    return (MaskedNetwork if isinstance(config, MaskedConfig) else Network)(config, *args, **keywords)
