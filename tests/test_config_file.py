"""Options from a file: spelled as on the command line, which wins."""

import json
import tomllib
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from torch import nn

from peercollab import fit
from peercollab.cli import _parse, main
from peercollab.config_file import PRESETS, PresetName, words_for, words_of
from peercollab.errors import PeercollabError
from peercollab.models.sasrec import SASRecOptions
from peercollab.options import TrainOptions

pytestmark = pytest.mark.usefixtures("undrawn")

RECIPES = sorted((Path(__file__).parents[1] / "docs" / "recipes").glob("*.toml"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(
        'lr = 3e-4\nhidden-size = 8\nlr-spread = false\ntied = true\nrule = "average"\n'
        'augment = ["crop", "mask"]\nexchange-every = 5\nexecutor = "local"\n'
    )
    return path


def parsed(*arguments: str) -> TrainOptions:
    options = _parse(["train", "--out", "runs/x", *arguments])
    assert type(options) is TrainOptions
    return options


def test_a_file_says_what_the_command_line_could(config: Path) -> None:
    told = (
        "--lr 3e-4 --hidden-size 8 --no-lr-spread --tied --rule average --augment crop mask "
        "--exchange-every 5 --executor local"
    )
    assert parsed("--config", str(config)) == parsed(*told.split())
    assert parsed(f"--config={config}") == parsed(*told.split())


def test_the_command_line_wins(config: Path) -> None:
    options = parsed(
        "--lr", "0.1", "--config", str(config), "--no-tied", "--augment", "none", "none"
    )
    assert options.training.lr == 0.1
    assert not options.model.tied
    assert options.diversity.augment == ("none", "none")
    assert options.model.hidden_size == 8


def test_a_run_under_a_file_is_gone_on_with_without_it(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert main(["train", "--out", str(out), "--config", str(config), "--epochs", "1"]) == 0
    stored = json.loads((out / "config.json").read_text())
    assert stored["training"]["lr"] == 3e-4
    assert "config" not in stored
    assert main(["train", "--resume", str(out), "--epochs", "2"]) == 0
    assert len((out / "rounds.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr = ", "is no TOML: "),
        ("learning-rate = 1e-3", "learning-rate is no option of training"),
        ("stepness = 3", "did you mean steepness?"),
        ('out = "x"', "out is no option of training"),
        ("[training]\nlr = 1e-3", "training is no option of training"),
        ("lr = 1979-05-27", "lr is datetime.date"),
        ("augment = [[1]]", "augment is [[1]]: give text, a number or true"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_name(
    text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(PeercollabError) as refused:
        words_of(path)
    assert str(refused.value).startswith(f"--config {path}")
    assert said in str(refused.value)


def test_a_missing_file_and_a_wrong_value_are_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--out", "x", "--config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml cannot be read: No such file" in capsys.readouterr().err
    path = tmp_path / "own.toml"
    path.write_text("lr = -1")
    assert main(["train", "--out", "x", "--config", str(path)]) == 2
    assert "--lr is -1.0: give a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_one(path: Path) -> None:
    assert parsed("--config", str(path)) != parsed()
    assert f"--config docs/recipes/{path.name}" in path.read_text()


@pytest.mark.parametrize("name", get_args(PresetName))
def test_a_preset_is_a_file_that_comes_along_and_everything_told_wins(
    name: str, config: Path
) -> None:
    file = PRESETS / f"{name}.toml"
    assert parsed("--preset", name) == parsed("--config", str(file)) != parsed()
    told = parsed("--preset", name, "--config", str(config), "--blocks", "3")
    assert (told.model.blocks, told.model.hidden_size) == (3, 8)
    assert told.training.epochs == parsed("--preset", name).training.epochs


def test_every_preset_has_a_file_and_the_package_has_them_all() -> None:
    assert {path.stem for path in PRESETS.glob("*.toml")} == set(get_args(PresetName))
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert "presets/*.toml" in project["tool"]["setuptools"]["package-data"]["peercollab"]


def test_an_unknown_preset_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--out", str(tmp_path / "run"), "--preset", "pcrek"]) == 2
    assert "--preset is 'pcrek': take one of pcrec, sasrec-plus; did you mean pcrec?" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("told", [["--model", "nextitnet"], ["--model=mine.py:Net"]])
def test_a_preset_of_another_model_is_refused(
    told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--out", str(tmp_path / "run"), "--preset", "pcrec", *told]
    assert main(command) == 2
    assert "--preset pcrec is a form of sasrec, and the model is" in capsys.readouterr().err
    with pytest.raises(PeercollabError, match="the model is Linear: leave one of them out"):
        fit(model=nn.Linear(1, 1), preset="pcrec")
    assert parsed("--preset", "pcrec", "--model", "sasrec") == parsed("--preset", "pcrec")


def test_pcrec_is_what_was_published() -> None:
    options = parsed("--preset", "pcrec")
    network = options.model.build()
    assert network == SASRecOptions(hidden_size=256, dropout=0.0)
    training = options.training
    assert (training.epochs, training.patience, training.lr) == (200, 0, 1e-3)
    assert (options.transplant.rule, options.execution.peers) == ("layer-wise", 2)


def test_sasrec_plus_is_what_was_released() -> None:
    options = parsed("--preset", "sasrec-plus")
    assert options.model.build() == SASRecOptions(
        hidden_size=64,
        dropout=0.2,
        max_length=200,
        norm="before",
        final_norm=True,
        projection=True,
        tied=True,
    )


@pytest.mark.parametrize("option", ["--config", "--preset"])
def test_an_option_without_its_value_is_refused(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--out", str(tmp_path / "run"), option]) == 2
    assert option in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.float32(0.5), ["--x", "0.5"]),
        (np.int64(3), ["--x", "3"]),
        ([np.int64(1), np.int64(2)], ["--x", "1", "2"]),
        (False, ["--no-x"]),
    ],
)
def test_numbers_of_numpy_are_numbers(value: Any, words: list[str]) -> None:
    assert words_for("x", value, "fit") == words
