"""Every error nblstm raises on purpose. One base class, so that a caller can catch them all."""


class NblstmError(Exception):
    """Base of all errors raised on purpose: the message is one sentence that says what to do."""


class ConfigError(NblstmError, ValueError):
    """A setting breaks a rule: `hidden_size must be at least 1, got 0.`"""


class TextError(NblstmError):
    """A corpus cannot be read, decoded, split or encoded."""


class ModelFileError(NblstmError):
    """A model or checkpoint file is missing, damaged, foreign, or written by a newer version."""


class TrainingError(NblstmError):
    """Training cannot go on: the loss is not finite, or a checkpoint does not fit the run."""


class DivergenceError(TrainingError):
    """A loss, a gradient or a weight is not finite, or absurd."""


class NonFiniteError(NblstmError):
    """What a model computes is not finite at some token or step: its weights are damaged, or far too large."""


class DeviceError(NblstmError):
    """The requested backend cannot run here (numba is absent, say)."""


class ReportError(NblstmError):
    """A report or a plot cannot be made: its metrics cannot be read, or its output would replace something else."""
