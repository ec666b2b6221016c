"""Learning-rate schedules: worked values, PyTorch's schedulers, and the state that travels in a checkpoint."""

import json

import pytest
from support.cases import each

from nblstm.config import SCHEDULES, TrainConfig
from nblstm.errors import TrainingError
from nblstm.training.schedules import SCHEDULE_CLASSES, make_schedule

EPOCHS, STEPS = 12, 4  # of the comparisons with PyTorch: epochs, updates in each
LOSSES = [3.0, 2.0, 2.5, 2.0, 1.9, 1.95, 1.9, 2.1, 2.0, 1.8, 1.8, float("nan")]


def schedule_of(name, **settings):
    return make_schedule(TrainConfig(schedule=name, lr=0.5, **settings))


def our_rates(schedule):
    """The rate at the start of each epoch, with the validation loss heard at its end."""
    rates = []
    for epoch, loss in enumerate(LOSSES):
        rates.append(schedule.lr(epoch * STEPS, float(epoch), epoch / EPOCHS))
        schedule.validated(loss)
    return rates


def torch_rates(make, needs_loss=False):
    """The same of a torch.optim.lr_scheduler."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for loss in LOSSES:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(*[loss] if needs_loss else [])
    return rates


def test_every_name_has_its_class():
    """The config's choices and the classes are the same list."""
    assert tuple(SCHEDULE_CLASSES) == tuple(SCHEDULES)


def test_constant():
    """The rate is lr0 at any time."""
    schedule = schedule_of("constant")
    assert [schedule.lr(*when) for when in [(0, 0.0, 0.0), (9, 3.5, 0.5), (99, 20.0, 1.0)]] == [0.5] * 3


def test_exponential_by_hand():
    """lr_decay is the factor of one epoch, its root that of a part of one."""
    schedule = schedule_of("exponential", lr_decay=0.25)
    assert [schedule.lr(0, epoch, 0.0) for epoch in (0.0, 0.5, 1.0, 2.0)] == [0.5, 0.25, 0.125, 0.03125]


def test_exponential_is_pytorchs():
    """At the start of each epoch the rate is that of ExponentialLR."""
    theirs = torch_rates(lambda schedulers, optimizer: schedulers.ExponentialLR(optimizer, 0.9))
    assert our_rates(schedule_of("exponential", lr_decay=0.9)) == pytest.approx(theirs, rel=1e-12)


def test_step_by_hand():
    """Two epochs at the full rate, to their very end, then half of it, then a quarter."""
    schedule = schedule_of("step", lr_decay=0.5, decay_after=2)
    rates = [schedule.lr(0, epoch, 0.0) for epoch in (0.0, 1.0, 1.99, 2.0, 2.99, 3.0)]
    assert rates == [0.5, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_step_is_pytorchs():
    """At the start of each epoch the rate is that of MultiplicativeLR with factors 1, 1, 1, d, d, ..."""

    def make(schedulers, optimizer):
        return schedulers.MultiplicativeLR(optimizer, lambda epoch: 0.8 if epoch >= 3 else 1.0)

    ours = our_rates(schedule_of("step", lr_decay=0.8, decay_after=3))
    assert ours == pytest.approx(torch_rates(make), rel=1e-12)


def test_plateau_by_hand():
    """Two epochs in a row that are not better than the best halve the rate, and the count starts anew."""
    schedule = schedule_of("plateau", lr_decay=0.5, decay_after=2)
    # losses       3    2    2.5* 2*    1.9   1.95* 1.9*   2.1*   2.0*    1.8
    assert our_rates(schedule)[:10] == [0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125, 0.0625]


@pytest.mark.parametrize("wait", [1, 2, 3])
def test_plateau_is_pytorchs(wait):
    """The rate is that of ReduceLROnPlateau, whose patience counts the epochs before the one that reduces."""

    def make(schedulers, optimizer):
        return schedulers.ReduceLROnPlateau(optimizer, factor=0.7, patience=wait - 1, threshold=0, eps=0)

    ours = our_rates(schedule_of("plateau", lr_decay=0.7, decay_after=wait))
    assert ours == pytest.approx(torch_rates(make, needs_loss=True), rel=1e-12)


def test_plateau_continues_from_its_state():
    """Stopped after any epoch, stored as JSON and restored, it goes on exactly as if never stopped."""
    whole = our_rates(schedule_of("plateau", lr_decay=0.7, decay_after=2))
    for stop in range(len(LOSSES)):
        first, second = (schedule_of("plateau", lr_decay=0.7, decay_after=2) for _ in range(2))
        for loss in LOSSES[:stop]:
            first.validated(loss)
        second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
        rates = []
        for loss in LOSSES[stop:]:
            rates.append(second.lr(0, 0.0, 0.0))
            second.validated(loss)
        assert rates == whole[stop:]


def test_cosine_by_hand():
    """Warm-up in equal steps, half way down in the middle (plus the floor's half), 1 % at the end and after it."""
    schedule = schedule_of("cosine", warmup=4)
    assert [schedule.lr(step, 0.0, 0.0) for step in range(5)] == [0.125, 0.25, 0.375, 0.5, 0.5]
    assert schedule.lr(1000, 5.0, 0.5) == pytest.approx(0.5 * 0.505)
    assert schedule.lr(1000, 5.0, 1.0) == pytest.approx(0.5 * 0.01)
    assert schedule.lr(1000, 5.0, 1.1) == pytest.approx(0.5 * 0.01)


def test_cosine_is_pytorchs():
    """Without warm-up the rate is that of CosineAnnealingLR."""

    def make(schedulers, optimizer):
        return schedulers.CosineAnnealingLR(optimizer, T_max=EPOCHS, eta_min=0.005)

    assert our_rates(schedule_of("cosine", warmup=0)) == pytest.approx(torch_rates(make), rel=1e-9)


def test_a_short_run_outgrows_its_warm_up():
    """In a run of 50 updates with a warm-up of 100, the warm-up ends after a tenth of the run."""
    schedule = schedule_of("cosine", warmup=100)
    rates = [schedule.lr(step, 0.0, step / 50) for step in range(50)]
    assert rates[0] == pytest.approx(0.005)
    assert rates.index(max(rates)) == 5 and max(rates) > 0.48


@each("name", SCHEDULES)
def test_the_state_of_another_schedule_is_refused(name):
    """A checkpoint of a run with another schedule, or a damaged one, does not fit."""
    schedule = schedule_of(name)
    schedule.load_state_dict(schedule.state_dict())
    for state in [{"x": 1}, {"best": "1", "waited": 0, "factor": 1.0}, {"best": 1.0, "waited": 0, "factor": 0.0}, None]:
        with pytest.raises(TrainingError, match=name):
            schedule.load_state_dict(state)
