"""Networks of the user's own: what they may be, and what is said of those that they may not."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from peercollab.cli import main
from peercollab.data.sequences import Histories
from peercollab.errors import PeercollabError
from peercollab.models.build import build_model, model_bytes
from peercollab.models.check import require_sound
from peercollab.models.options import GivenModel, ModelOptions
from peercollab.models.own_model import OwnModelOptions
from peercollab.training.options import TrainingOptions
from peercollab.training.trainer import Trainer
from peercollab.transplant.layers import layer_map
from tests.models.guide import python_of_the_guide
from tests.test_run import log as log

ITEMS = 30


class Plain(nn.Module):
    """The least that a network can be."""

    def __init__(self, n_items: int, hidden_size: int = 6, dropout: float = 0.1) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        states: Tensor = self.dropout(self.items(items_BL))
        return states

    def item_table(self) -> Any:
        return self.items.weight


def settings_of(network: Any, **options: Any) -> OwnModelOptions:
    settings = GivenModel(network, **options).build()
    assert isinstance(settings, OwnModelOptions)
    return settings


def file_of(folder: Path, source: str = "") -> str:
    path = folder / "recent.py"
    path.write_text(source or python_of_the_guide()[0], encoding="utf-8")
    return f"{path}:Recent"


def test_options_go_to_the_constructors_arguments() -> None:
    settings = settings_of(Plain, hidden_size=8, dropout=0.4)
    assert (settings.dropout_share, settings.max_length) == (0.4, 100)
    model = build_model(ITEMS, settings, seed=0)
    assert model.item_table()[0].shape == (ITEMS, 8)
    assert settings_of(Plain).dropout_share == 0.1
    other = build_model(ITEMS, settings.with_dropout(0.7), seed=0)
    assert [m.p for m in other.modules() if isinstance(m, nn.Dropout)] == [0.7]
    with pytest.raises(PeercollabError, match="--heads has no effect with model Plain"):
        settings_of(Plain, heads=2)


def test_the_length_is_as_asked_for_or_as_the_network_says() -> None:
    class Short(Plain):
        max_length = 7

    class Told(Plain):
        def __init__(self, n_items: int, max_length: int = 9) -> None:
            super().__init__(n_items)

    assert settings_of(Short).max_length == 7
    assert settings_of(Short, max_length=5).max_length == 5
    assert settings_of(Told).max_length == 9
    assert settings_of(Told, max_length=5).arguments["max_length"] == 5

    class Both(Told):
        max_length = 7

    assert settings_of(Both).max_length == 7
    with pytest.raises(PeercollabError, match="--max-length is 0"):
        settings_of(Plain, max_length=0)


def test_of_a_network_that_is_there_all_peers_are_copies() -> None:
    network = Plain(ITEMS)
    settings = settings_of(network)
    first, second = (build_model(ITEMS, settings, seed) for seed in (1, 2))
    for model in (first, second):
        assert torch.equal(model.item_table()[0], network.items.weight)
    with torch.no_grad():
        first.item_table()[0].zero_()
    assert second.item_table()[0].abs().sum() > 0
    assert network.items.weight.abs().sum() > 0


def test_bytes_are_known_of_a_network_that_wants_some_items() -> None:
    class Some(Plain):
        def __init__(self, n_items: int) -> None:
            assert n_items > 2
            super().__init__(n_items)

    settings = settings_of(Some)
    size = sum(value.nbytes for value in build_model(ITEMS, settings, 0).state_dict().values())
    assert model_bytes(ITEMS, settings) == size


def test_a_file_travels_by_its_text(tmp_path: Path) -> None:
    settings = ModelOptions(model=file_of(tmp_path)).build()
    (tmp_path / "recent.py").unlink()
    there = pickle.loads(pickle.dumps(settings))
    one, other = (build_model(ITEMS, of, seed=3).state_dict() for of in (settings, there))
    assert all(torch.equal(one[name], value) for name, value in other.items())


def test_a_file_may_have_dataclasses_and_keeps_other_modules(tmp_path: Path) -> None:
    source = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    source += "from typing import ClassVar\nimport string\n"
    source += "assert string.digits\n\n\n@dataclass\nclass Sizes:\n    some: ClassVar[int] = 3\n"
    path = tmp_path / "string.py"
    path.write_text(source + python_of_the_guide()[0], encoding="utf-8")
    before = set(sys.modules)
    assert build_model(ITEMS, ModelOptions(model=f"{path}:Recent").build(), 0)
    assert not [name for name in set(sys.modules) - before if str(path) in name]


def test_scopes_are_found_and_can_be_stated(tmp_path: Path) -> None:
    settings = ModelOptions(model=file_of(tmp_path)).build()
    found = {name: of.scope for name, of in layer_map(build_model(ITEMS, settings, 0)).items()}
    assert found == {
        "network.items": "embedding",
        "network.unit": "middle",
        "network.output": "final",
    }

    class Stated(Plain):
        layer_scopes = {"items": "final"}  # noqa: RUF012

    layers = layer_map(build_model(ITEMS, settings_of(Stated), 0))
    assert layers["network.items"].scope == "final"


@pytest.mark.parametrize("itself", ["", "network"])
def test_scopes_of_the_networks_own_parameters_can_be_stated(itself: str) -> None:
    class Scaled(Plain):
        layer_scopes = {itself: "final", "network.items": "middle"}  # noqa: RUF012

        def __init__(self, n_items: int) -> None:
            super().__init__(n_items)
            self.scale = nn.Parameter(torch.ones(6))

    layers = layer_map(build_model(ITEMS, settings_of(Scaled), 0))
    scopes = {name: of.scope for name, of in layers.items()}
    assert scopes == {"network": "final", "network.items": "middle"}


class SeesAll(Plain):
    """A position's state is the mean of the whole history."""

    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        real_BL = torch.arange(items_BL.shape[1]) < lengths_B[:, None]
        sums_BD = (self.items(items_BL) * real_BL[..., None]).sum(dim=1)
        return (sums_BD / lengths_B[:, None])[:, None].expand(*items_BL.shape, -1)


class SeesPadding(Plain):
    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        return super().forward(items_BL, lengths_B) * items_BL.shape[1]


class BeginsAtZero(SeesAll):
    """What it sees of the future is nothing, until it is trained."""

    def __init__(self, n_items: int) -> None:
        super().__init__(n_items)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        states: Tensor = self.items(items_BL)
        return states + self.gate * super().forward(items_BL, lengths_B)


class BeginsSmall(SeesAll):
    def __init__(self, n_items: int) -> None:
        super().__init__(n_items)
        nn.init.normal_(self.items.weight, std=1e-4)


class SeesFarAhead(Plain):
    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        states_BLD = super().forward(items_BL, lengths_B)
        return states_BLD + nn.functional.pad(states_BLD, (0, 0, 0, 40))[:, 40:]


class SeesALittlePadding(Plain):
    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        return super().forward(items_BL, lengths_B) + items_BL.shape[1] / 1000


class FewPositions(Plain):
    max_length = 60

    def __init__(self, n_items: int) -> None:
        super().__init__(n_items)
        self.positions = nn.Embedding(50, 6)

    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        states = super().forward(items_BL, lengths_B)
        return states + self.positions(torch.arange(items_BL.shape[1]))


class WithoutTable(nn.Module):
    def __init__(self, n_items: int) -> None:
        super().__init__()


class SmallTable(Plain):
    def item_table(self) -> Any:
        return self.items.weight[1:]


class BadBias(Plain):
    def item_table(self) -> Any:
        return self.items.weight, torch.zeros(3)


class OtherSize(Plain):
    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        return super().forward(items_BL, lengths_B)[..., :2]


class Failing(Plain):
    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        raise ValueError("no idea\nat all")


class FailsInTraining(Plain):
    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        if self.training:
            raise ValueError("not yet")
        return super().forward(items_BL, lengths_B)


class SmallAndSeesPadding(Plain):
    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        return super().forward(items_BL, lengths_B) * 1e-8 * items_BL.shape[1]


class NotFinite(Plain):
    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        return super().forward(items_BL, lengths_B) / 0


class BadLoss(Plain):
    def loss(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        return hidden_ND.sum(dim=1)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (SeesAll, "sees the future"),
        (BeginsAtZero, "sees the future"),
        (BeginsSmall, "sees the future"),
        (SeesFarAhead, "sees the future"),
        (SeesPadding, "other states beside a longer one"),
        (SeesALittlePadding, "other states beside a longer one"),
        (FewPositions, "failed on a batch that was tried: IndexError: index out of range"),
        (SmallTable, r"\[30 items, hidden size\].* and gave \(29, 6\)"),
        (BadBias, r"the bias of item_table\(\) must have the shape \[30 items\], and has \(3,\)"),
        (OtherSize, r"\(2, 100, 6\) to go with the item table, and gave \(2, 100, 2\)"),
        (
            Failing,
            r"forward\(items, lengths\) failed on a batch that was tried: ValueError: no idea$",
        ),
        (SmallAndSeesPadding, "other states beside a longer one"),
        (FailsInTraining, "failed on a batch that was tried: ValueError: not yet"),
        (NotFinite, "gave NaN or infinite values"),
        (BadLoss, "loss must return one finite number"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_it_is(network: Any, said: str) -> None:
    with pytest.raises(PeercollabError, match=said) as caught:
        require_sound(settings_of(network), ITEMS)
    assert str(caught.value).startswith(f"model {network.__name__}")


def test_a_network_without_an_item_table_is_refused() -> None:
    with pytest.raises(PeercollabError, match="model WithoutTable has no item table: give it"):
        settings_of(WithoutTable)


@pytest.mark.parametrize("made", [lambda n_items: 3, lambda n_items: [][n_items]])
def test_what_makes_no_network_is_refused(made: Any) -> None:
    with pytest.raises(PeercollabError, match=r"makes int|could not be made for 8 items"):
        settings_of(made)


def test_one_that_looks_both_ways_says_so_and_learns_from_last_items() -> None:
    class Both(SeesAll):
        bidirectional = True

    settings = settings_of(Both)
    require_sound(settings, ITEMS)
    assert (settings.is_causal, settings.targets) == (False, "last")
    assert TrainingOptions().of_model(settings).targets == "last"
    with pytest.raises(PeercollabError, match="--targets every would let model Both see what"):
        TrainingOptions(targets="every").of_model(settings)


class OneOfNoItem(Plain):
    """A vector more than there are items, as for padding."""

    def __init__(self, n_items: int) -> None:
        super().__init__(n_items + 1)

    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        return super().forward(items_BL + 1, lengths_B)

    def item_table(self) -> Any:
        return self.items.weight[1:]


class MadeTable(Plain):
    def __init__(self, n_items: int) -> None:
        super().__init__(n_items)
        self.mix = nn.Linear(6, 6)

    def item_table(self) -> Any:
        return self.mix(self.items.weight), self.items.weight[:, 0]


@pytest.mark.parametrize("network", [Plain, OneOfNoItem, MadeTable])
@pytest.mark.parametrize("loss", ["full", "sampled", "gbce"])
def test_every_loss_takes_any_item_table(loss: Any, network: Any) -> None:
    losses = trained(settings_of(network), loss=loss)
    assert losses[-1] < 0.95 * losses[0]


def trained(settings: OwnModelOptions, **options: Any) -> list[float]:
    """The losses of ten epochs on items that follow each other."""
    items = np.tile(np.arange(ITEMS, dtype=np.int32), 4)
    log = Histories(items, np.arange(0, len(items) + 1, 10), ITEMS)
    told = TrainingOptions(epochs=10, batch_size=4, **options)
    trainer = Trainer(log, settings, told, stream=1, learning_rate=0.01, device=torch.device("cpu"))
    return [trainer.train_epoch(epoch).loss for epoch in range(1, 11)]


def test_a_loss_of_its_own_is_what_it_learns_from() -> None:
    class OwnLoss(Plain):
        def loss(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
            return (hidden_ND.square().mean() + 7) + 0 * targets_N.sum()

    losses = trained(settings_of(OwnLoss))
    assert losses == trained(settings_of(OwnLoss), loss="model")
    assert 7 < losses[-1] < losses[0] < 9
    assert trained(settings_of(OwnLoss), loss="full") == trained(settings_of(Plain))


def test_tensors_shared_without_a_word_are_refused() -> None:
    class Tied(Plain):
        def __init__(self, n_items: int) -> None:
            super().__init__(n_items)
            self.output = nn.Linear(6, n_items, bias=False)
            self.output.weight = self.items.weight

    class Stated(Tied):
        shared_layers = ("output",)

    with pytest.raises(PeercollabError, match=r"output\.weight is network\.items\.weight, too"):
        layer_map(build_model(ITEMS, settings_of(Tied), 0))
    assert list(layer_map(build_model(ITEMS, settings_of(Stated), 0))) == ["network.items"]


def test_weights_that_are_whole_numbers_are_refused() -> None:
    class Counting(Plain):
        def __init__(self, n_items: int) -> None:
            super().__init__(n_items)
            self.steps = nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False)

    with pytest.raises(PeercollabError, match=r"layer network: steps is of torch\.int64"):
        layer_map(build_model(ITEMS, settings_of(Counting), 0))


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"nowhere": "final"}, "names nowhere, which is no layer: it has network.items"),
        ({"items": "last"}, "puts network.items into 'last': take one of embedding"),
    ],
)
def test_scopes_of_what_is_not_there_are_refused(stated: dict[str, str], said: str) -> None:
    class Stated(Plain):
        layer_scopes = stated

    with pytest.raises(PeercollabError, match=said):
        layer_map(build_model(ITEMS, settings_of(Stated), 0))


OPTIONS = "--executor local --epochs 2 --batch-size 16 --hidden-size 8"


def test_a_network_of_a_file_is_trained_resumed_and_recommends(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = file_of(tmp_path)
    run = str(tmp_path / "run")
    train = ["train", "--data", str(log), *OPTIONS.split()]
    assert main([*train, "--out", run, "--model", model]) == 0
    assert f"--model {model}" in capsys.readouterr().out.splitlines()[-1]
    assert main(["status", run]) == 0
    assert (
        f"recommend {run} --histories {log} --model {model} --k 10  or  " in capsys.readouterr().out
    )
    # A folder does not have code run that the user has not named.
    recommend = ["recommend", run, "--histories", str(log), "--k", "3"]
    assert main(recommend) == 2
    assert "give --model path/to/file.py:Recent if it is yours" in capsys.readouterr().err
    assert main([*recommend, "--model", model]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "user,item,rank,score,source"
    other = tmp_path / "other.py"
    other.write_text(python_of_the_guide()[0].replace("self.unit", "self.cell"), encoding="utf-8")
    assert main([*recommend, "--model", f"{other}:Recent"]) == 2
    assert f"does not fit --model {other}:Recent" in capsys.readouterr().err
    assert main(["train", "--resume", run, "--epochs", "3"]) == 2
    assert f"give --model {model} again if that is yours" in capsys.readouterr().err
    assert main(["train", "--resume", run, "--epochs", "3", "--model", model]) == 0
    longer = str(tmp_path / "longer")
    assert main([*train, "--out", longer, "--model", model, "--epochs", "3"]) == 0
    ends = [json.loads((Path(of) / "metrics.json").read_text()) for of in (run, longer)]
    assert ends[0] == ends[1]


def test_another_text_of_the_network_is_not_resumed(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = file_of(tmp_path)
    run = str(tmp_path / "run")
    assert (
        main(["train", "--data", str(log), *OPTIONS.split(), "--out", run, "--model", model]) == 0
    )
    file_of(tmp_path, python_of_the_guide()[0] + "\n# mended\n")
    assert main(["train", "--resume", run, "--epochs", "3", "--model", model]) == 2
    assert "the model's file was changed since the run began" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--heads 2", "--heads has no effect with --model"),
        ("--augment mask", "--augment mask has no effect"),
        ("--loss model", "--loss model is for networks of your own that have a loss"),
        ("--loss bpr", "--loss bpr is for models of users"),
        ("--align", "--align needs a model that says"),
    ],
)
def test_what_does_not_go_with_it_is_refused(
    options: str, said: str, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train = ["train", "--data", str(log), "--out", str(out), *OPTIONS.split()]
    assert main([*train, "--model", file_of(tmp_path), *options.split()]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) <= 2
    assert not out.exists()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("class Recent(:", "line 1 cannot be run: SyntaxError"),
        ("import torch\nRecent = 3\nclass Other: ...", "has no Recent; it has Other"),
        ("raise SystemExit", "cannot be run: SystemExit"),
    ],
)
def test_a_file_without_the_network_is_refused(source: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(PeercollabError, match=said):
        ModelOptions(model=file_of(tmp_path, source))


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(PeercollabError, match=r"nowhere\.py cannot be read: No such file"):
        ModelOptions(model="nowhere.py:Net")
