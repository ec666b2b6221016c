"""Estimator: scikit-learn's conventions, without scikit-learn.

Settings are given to `__init__` and kept as they are given; `fit` learns and returns the estimator; what was learned has
names of its own. So `sklearn.base.clone`, `GridSearchCV` and `Pipeline` work with every estimator here.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from nblstm import checks
from nblstm.config.checks import Config
from nblstm.errors import ConfigError, ModelFileError
from nblstm.files.model_file import ModelFile, load_model
from nblstm.interrupts import held
from nblstm.kernels.threads import WORKERS
from nblstm.nn.parameters import check_parameters
from nblstm.remembered import kept_under

if TYPE_CHECKING:
    from nblstm.training.report import Report
    from nblstm.training.trainer import Trainer

E = TypeVar("E", bound="Estimator")


class Estimator:
    """Base of models that are made with settings, then fitted.

    CONFIGS: the configs whose fields are settings; of those with the same name the first one's default counts. The first
    is the network's, which its file holds.
    GIVEN: fields that the data give, which are no settings. KIND: what scikit-learn calls it.
    """

    CONFIGS: ClassVar[tuple[Any, ...]] = ()
    GIVEN: ClassVar[frozenset[str]] = frozenset()
    DEFAULTS: ClassVar[dict[str, Any]] = {}  # where they differ from the configs', and settings that no config has
    KIND: ClassVar[str] = "regressor"
    config: Any
    parameters: Any

    def __init__(self, **settings: Any) -> None:
        """settings: fields of CONFIGS. ConfigError for a wrong name; values are checked now, too."""
        self._settings = self.defaults()
        self._given: dict[str, Any] = {}
        self._set(settings)

    def _set(self, settings: dict[str, Any]) -> None:
        """Change settings, all or none. ConfigError for a wrong one."""
        for name in settings:
            if name not in self._settings:
                raise checks.no_setting(name, self._settings, f" of {type(self).__name__}")
        before, self._settings = self._settings, {**self._settings, **settings}
        try:
            self.check_settings()
        except ConfigError:
            self._settings = before
            raise
        self._given = {**self._given, **settings}

    def check_settings(self) -> None:
        """Raise ConfigError for a wrong value, or values that exclude each other."""

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the name and default of every setting."""
        found: dict[str, Any] = {}
        for config in cls.CONFIGS:
            for field in dataclasses.fields(config):
                if field.name not in cls.GIVEN:
                    found.setdefault(field.name, field.default)
        return {**found, **cls.DEFAULTS}

    def of(self, config: type[Config]) -> dict[str, Any]:
        """Return the settings that are fields of a config."""
        return {name: self._settings[name] for name in config.names() if name in self._settings}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings by name."""
        return dict(self._settings)

    def set_params(self: E, **settings: Any) -> E:
        """Change settings, all or none; the fitted parameters stay until the next `fit`. ConfigError for a wrong one."""
        self._set(settings)
        return self

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._given.items())
        return f"{type(self).__name__}({given})"

    # ------------------------------------------------------------ what was learned

    def _hold(self, config: Any, parameters: Any, training: Any) -> None:
        """Set config, parameters and training, as `fit` and `load` leave them. ConfigError unless they fit together."""
        self.config, self.parameters = config, check_parameters(config, parameters)
        self.training = checks.a(dict, "training", training)
        self._networks: dict[tuple[str, int], Any] = {}

    def _fitted(self) -> None:
        """Raise ConfigError before there is a model."""
        if not self.__sklearn_is_fitted__():
            raise ConfigError(f"this {type(self).__name__} has learnt nothing yet; call fit or load first.")

    def _network(self, backend: str, threads: int) -> Any:
        """Return the network on a backend, made once."""
        checks.a(str, "backend", backend), checks.whole("threads", threads, 0, WORKERS)
        return kept_under((backend, threads), self._networks, lambda: self._make_network(backend, threads))

    def _make_network(self, backend: str, threads: int) -> Any:
        """Make the network of these parameters, which never change."""
        raise NotImplementedError

    @classmethod
    def _settings_of(cls, config: Any) -> dict[str, Any]:
        """Return the settings that a network's config was made with."""
        return {name: getattr(config, name) for name in config.names() - cls.GIVEN}

    @classmethod
    def load(cls: type[E], path: str | os.PathLike[str]) -> E:
        """Read a model from its file. ModelFileError if it is missing, damaged, of another task or a newer version."""
        return model_from(cls, load_model(path, [cls.CONFIGS[0]]), path)

    # ------------------------------------------------------------ scikit-learn

    def __sklearn_is_fitted__(self) -> bool:
        """Tell whether anything was learned or loaded."""
        return getattr(self, "parameters", None) is not None

    def __sklearn_tags__(self) -> Any:
        """Say what this is to scikit-learn, which alone asks."""
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        return Tags(
            estimator_type=self.KIND,
            target_tags=TargetTags(required=False),
            classifier_tags=ClassifierTags() if self.KIND == "classifier" else None,
            regressor_tags=RegressorTags() if self.KIND == "regressor" else None,
            input_tags=InputTags(two_d_array=False, string=True),
        )


class renamed:
    """A method under its old name for one more version: it warns, and calls the new one."""

    def __init__(self, new: str, call: Callable[..., Any]) -> None:
        self.new, self.call = new, call

    def __set_name__(self, owner: type, name: str) -> None:
        self.old = name

    def __get__(self, instance: Any, owner: type) -> Callable[..., Any]:
        def called(*args: Any, **keywords: Any) -> Any:
            message = f"{owner.__name__}.{self.old} will go in the next version; {self.new}"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return self.call(owner if instance is None else instance, *args, **keywords)

        return called


class method_of_instances:
    """A method that was once called on the class itself: so called it still works, and warns."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method
        self.__doc__ = method.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.on_class = renamed(f"call {owner.__name__}(settings).{name}(...)", _called_on_class(name))
        self.on_class.__set_name__(owner, name)

    def __get__(self, instance: Any, owner: type) -> Callable[..., Any]:
        if instance is None:
            return self.on_class.__get__(None, owner)
        return MethodType(self.method, instance)


def _called_on_class(name: str) -> Callable[..., Any]:
    """Make an estimator of the keywords that are settings, and call its method with the others."""

    def call(owner: type[Estimator], *args: Any, **keywords: Any) -> Any:
        passed = {key: keywords.pop(key) for key in ("on_report", "on_message", "stop", "targets") if key in keywords}
        return getattr(owner(**keywords), name)(*args, **passed)

    return call


def run_to_end(
    trainer: Trainer, stop: Callable[[], bool], on_report: Callable[[Report], None], learn: Callable[[], object]
) -> None:
    """Let a trainer run, then call `learn`, which takes what it has found, whole: signals wait until it is done.

    Where an interrupt or an error ends the run after its first update, `learn` is called before that is raised again.
    """
    try:
        for report in trainer.run(stop):
            on_report(report)
    except BaseException:
        if trainer.step:
            with held():
                learn()
        raise
    with held():
        learn()


def check_pair(valid: Any, what: str) -> None:
    """Raise ConfigError unless `valid` is None or a pair; what: both halves of it in words."""
    if valid is not None and not (isinstance(valid, (tuple, list)) and len(valid) == 2):
        raise ConfigError(f"valid must be a pair, {what}.")


def model_from(model: Any, file: ModelFile, path: Any) -> Any:
    """Make a model of the content of the file at `path`; content that does not fit together is the file's fault."""
    try:
        return model.restore(file)
    except ConfigError as error:
        raise ModelFileError(f"{path}: {error}") from None
