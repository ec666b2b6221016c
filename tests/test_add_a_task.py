"""docs/add-a-task.md, followed: its code adds a task, which trains, answers, saves and loads."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import nblstm
import nblstm.tasks
from nblstm.config import Recipe
from nblstm.errors import ConfigError, ModelFileError
from nblstm.nn.parameters import initial
from nblstm.tasks import registry

RECIPE = Path(__file__).parent.parent / "docs" / "add-a-task.md"
WORDS = ["good", "fine", "great", "bad", "poor", "dull"]
TEXTS = [f"a {a} and {b} book" for a in WORDS for b in WORDS]
STARS = [float(sum(word in WORDS[:3] for word in (text.split()[1], text.split()[3]))) for text in TEXTS]


@pytest.fixture(autouse=True)
def rating(tmp_path, monkeypatch):
    """The task of the recipe, each block of its code in the file that it names."""
    if not RECIPE.exists():
        pytest.skip("not run from a checkout")
    found = re.findall(r"^ *```python\n(.*?)^ *```", RECIPE.read_text(encoding="utf-8"), flags=re.M | re.S)
    blocks = [re.sub(r"^   ", "", block, flags=re.M) for block in found]
    files = {block.split("\n")[0].removeprefix("# nblstm/tasks/"): block for block in blocks}
    for name, block in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(block, encoding="utf-8")
    monkeypatch.setattr(nblstm.tasks, "__path__", [*nblstm.tasks.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "MODELS", dict(registry.MODELS))
    exec(files["registry.py"], vars(registry))
    yield registry.model_of("rating")
    for name in [name for name in sys.modules if name.startswith("nblstm.tasks.rating")]:
        del sys.modules[name]
    vars(nblstm.tasks).pop("rating", None)


def test_it_trains_answers_saves_and_loads(rating, tmp_path):
    """It learns to count good words; a file brings back the same model as any other task's."""
    recipe = Recipe(epochs=40, lr=0.01, batch_size=12, schedule="constant")
    model = rating.train(TEXTS, STARS, level="word", recipe=recipe, hidden_size=16, num_layers=1)
    assert np.abs(model.predict(TEXTS) - STARS).max() < 0.5
    assert model.training["steps"] == 40 * 3
    model.save(tmp_path / "stars.safetensors")
    loaded = nblstm.load(tmp_path / "stars.safetensors")
    assert type(loaded) is rating
    np.testing.assert_array_equal(loaded.predict(TEXTS), model.predict(TEXTS))
    assert loaded.config == model.config and loaded.training == model.training


@pytest.mark.parametrize("format", ["c", "py", "html", "onnx"])
def test_exports_refuse_it_by_name(rating, tmp_path, format):
    """With those that they hold; no file is made."""
    model = rating.train(TEXTS, STARS, recipe=Recipe(steps=1), hidden_size=4, num_layers=1)
    with pytest.raises(ConfigError, match=f"format {format} has the models .*, got RatingModel; train one of them"):
        nblstm.export(model, tmp_path / "stars", format=format)
    assert not (tmp_path / "stars").exists()


def test_its_files_are_its_own(rating, tmp_path):
    """Whoever wants another task's file says so; a tied head, which it cannot have, is refused by name."""
    model = rating.train(TEXTS, STARS, recipe=Recipe(steps=1), hidden_size=4, num_layers=1)
    model.save(tmp_path / "stars.safetensors")
    with pytest.raises(ModelFileError, match="not an nblstm model"):
        nblstm.LanguageModel.load(tmp_path / "stars.safetensors")
    with pytest.raises(ConfigError, match="leave tie out"):
        type(model.config)(7, tie=True)


def test_its_gradients(rating):
    """Finite differences in float64, of a batch of texts of unequal lengths."""
    batches = sys.modules["nblstm.tasks.rating.batches"]
    config = registry.config_of("rating")(5, hidden_size=3, num_layers=2, dropout=0.0, dtype="float64")
    source = batches.RatedTexts(
        [np.array([1, 2, 3]), np.array([4]), np.array([0, 2])], np.array([1.0, -2.0, 0.5]), 3, 0
    )
    (chunk,) = source.epoch(0)
    flat = initial(config, 0)
    gradient, scratch, step = np.empty_like(flat), np.empty_like(flat), 1e-6

    def loss(parameters, into):
        network = rating.NETWORK(config, parameters, "numpy")
        return network.loss_and_gradient(into, chunk, network.initial_state(chunk.num_texts), 0, 0)[0]

    loss(flat, gradient)
    assert np.count_nonzero(gradient)
    for k in range(len(flat)):
        moved = [loss(flat + sign * step * np.eye(1, len(flat), k)[0], scratch) for sign in (1, -1)]
        assert gradient[k] == pytest.approx((moved[0] - moved[1]) / (2 * step), abs=1e-7)
