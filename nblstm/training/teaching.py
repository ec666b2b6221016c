"""Teaching: a second network that reads what the student reads, and shows it what comes next (distillation)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nblstm.nn.distilled import DistilledHead
from nblstm.nn.network import Network
from nblstm.nn.state import State
from nblstm.training.companion import Companion
from nblstm.training.place import check_states
from nblstm.training.ranks import ProcessGroup
from nblstm.training.trainer import Trainer

TEACHER_STATES = ("teacher.state.h", "teacher.state.c")  # tensors of a checkpoint


class Teacher(Companion):
    """A network whose distributions a student learns. state: of the student's texts, as the teacher has read them."""

    def __init__(self, network: Network) -> None:
        self.network, self.state = network, network.initial_state()
        self._after = self.state

    def join(self, ranks: ProcessGroup) -> None:
        """Keep this rank's texts alone."""
        self.state = ranks.own_state(self.state)

    def prepare(self, part: Any) -> Any:
        """Return a chunk with the teacher's features of it; None of none."""
        if part is None:
            self._after = self.network.initial_state(0)
            return None
        taught, self._after = self.network.features(part, self.network.before(part, self.state))
        return replace(part, taught=taught)

    def moved(self, trainer: Trainer) -> None:
        """Go on behind the chunk that was prepared last: its update is made."""
        self.state = self._after

    def tensors(self, ranks: ProcessGroup) -> dict[str, np.ndarray]:
        """Return the teacher's state of all texts."""
        state = ranks.whole_state(self.state)
        return dict(zip(TEACHER_STATES, (state.h, state.c)))

    def restore(self, tensors: dict[str, np.ndarray], ranks: ProcessGroup, texts: int) -> None:
        """Take up a stored state of at least so many texts. TrainingError if it does not fit."""
        h, c = (tensors.get(name, np.empty(0)) for name in TEACHER_STATES)
        check_states(dict(zip(TEACHER_STATES, ((h, self.state.h), (c, self.state.c)))), texts)
        features = np.zeros((h.shape[1], self.network.config.head_size), h.dtype)
        self.state = ranks.own_state(State(h, c, features))


def teach(trainer: Trainer, network: Network) -> None:
    """Let a trainer's network learn what another one says, as its config's distil_temperature and distil_weight say."""
    student, recipe = trainer.network, trainer.config
    student.head = DistilledHead(
        student.config, student.weights, network, recipe.distil_temperature, recipe.distil_weight
    )
    trainer.companions.each.append(Teacher(network))
