"""Training from Python: the same as on the command line, with tables in and out."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from torch import Tensor, nn

import peercollab
from peercollab.errors import PeercollabError
from peercollab.resume import stored_options
from tests.test_run import log as log
from tests.test_run import run

SMALL: dict[str, Any] = {
    "executor": "local",
    "epochs": 2,
    "hidden_size": 8,
    "max_length": 10,
    "batch_size": 16,
}


class Last(nn.Module):
    """The last item's vector, and a layer on it."""

    def __init__(self, n_items: int, hidden_size: int = 8) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items, hidden_size)
        self.mix = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, n_items)

    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        states: Tensor = self.mix(self.items(items_BL))
        return states

    def item_table(self) -> tuple[Tensor, Tensor]:
        return self.output.weight, self.output.bias


def test_it_is_what_the_command_line_does(log: Path, tmp_path: Path) -> None:
    folder = run(log, tmp_path / "run")
    result = peercollab.fit(log, out=tmp_path / "fitted", blocks=1, **SMALL)
    assert result.folder == tmp_path / "fitted"
    for name in ("metrics.json", "best/model.safetensors"):
        assert (result.folder / name).read_bytes() == (folder / name).read_bytes()


def test_a_table_is_as_good_as_its_file(log: Path) -> None:
    of_file = peercollab.fit(log, **SMALL)
    of_table = peercollab.fit(pd.read_csv(log), **SMALL)
    pd.testing.assert_frame_equal(of_file.metrics, of_table.metrics)
    histories = {"u0": ["i1", "i2"]}
    pd.testing.assert_frame_equal(
        of_file.recommend(histories, k=3), of_table.recommend(histories, k=3)
    )


def test_what_it_came_to_are_tables(log: Path, tmp_path: Path) -> None:
    result = peercollab.fit(log, out=tmp_path / "run", validate_every=2, **SMALL)
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())
    test = result.metrics.query("split == 'test'").set_index("of")
    assert test.loc["model", "ndcg@10"] == told["test"]["ndcg@10"]
    assert test.loc["popularity", "hr@5"] == told["popularity"]["test"]["hr@5"]
    rounds = result.rounds
    assert list(rounds["round"]) == [1, 1, 2, 2]
    assert list(rounds["peer"]) == [1, 2, 1, 2]
    assert rounds["loss"].gt(0).all()
    assert list(rounds["ndcg@10"].isna()) == [True, True, False, False]


def test_a_run_without_a_folder_goes_with_its_result(log: Path) -> None:
    result = peercollab.fit(log, **SMALL)
    folder = result.folder
    assert (folder / "best").exists()
    del result
    assert not folder.exists()


def test_a_class_trains_like_its_file(log: Path, tmp_path: Path) -> None:
    path = tmp_path / "last.py"
    path.write_text(
        "from torch import Tensor, nn\n" + "class Last" + _source_of_last(), encoding="utf-8"
    )
    of_class = peercollab.fit(log, model=Last, **SMALL)
    of_file = peercollab.fit(log, model=f"{path}:Last", **SMALL)
    pd.testing.assert_frame_equal(of_class.rounds, of_file.rounds)
    pd.testing.assert_frame_equal(of_class.metrics, of_file.metrics)
    loaded = peercollab.Recommender.load(of_class.folder, model=Last)
    histories = {"new": ["i3", "i4"]}
    pd.testing.assert_frame_equal(loaded.recommend(histories), of_class.recommend(histories))
    with pytest.raises(PeercollabError, match="is Last, a network from a file"):
        peercollab.Recommender.load(of_class.folder)
    with pytest.raises(PeercollabError, match="was given in Python, and is in no file: train anew"):
        stored_options(of_class.folder, ["Last"])


def _source_of_last() -> str:
    import inspect

    return inspect.getsource(Last).removeprefix("class Last")


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    "model", [Last, "bpr-mf", pytest.param("nextitnet", marks=pytest.mark.slow)]
)
def test_actors_and_local_peers_come_to_the_same(model: Any, log: Path) -> None:
    options = {**SMALL, "threads_per_peer": 1}
    if model == "bpr-mf":
        del options["max_length"]
    here = peercollab.fit(log, model=model, **options)
    there = peercollab.fit(log, model=model, **{**options, "executor": "ray"})
    pd.testing.assert_frame_equal(here.rounds, there.rounds)
    weights = [(of.folder / "best" / "model.safetensors").read_bytes() for of in (here, there)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epoch": 3}, "fit: epoch is no option; did you mean epochs?"),
        ({"resume": "x"}, "fit: resume is no option"),
        ({"epochs": 0}, "--epochs is 0"),
        ({"rule": "layerwise"}, "--rule is 'layerwise'"),
        ({"epochs": "many"}, "many"),
        ({"donors": {}}, "fit: donors is {}"),
        ({"model": "sasrek"}, "did you mean sasrec?"),
        ({"model": Last, "heads": 2}, "--heads has no effect with model Last"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, Any], said: str, log: Path) -> None:
    with pytest.raises(PeercollabError) as caught:
        peercollab.fit(log, **options)
    assert said in str(caught.value)


def test_users_of_bpr_are_known_by_their_ids(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {name: value for name, value in SMALL.items() if name != "max_length"}
    result = peercollab.fit(log, model="bpr-mf", **options)
    histories = {"u5": ["i1"], "stranger": ["i1", "i2"], "empty": []}
    table = result.recommend(histories, k=4)
    sources = table.drop_duplicates("user").set_index("user")["source"].to_dict()
    assert sources == {"u5": "model", "stranger": "fold-in", "empty": "popularity"}
    # The history of a known user only says what was seen.
    other = result.recommend({"u5": ["i9", "i1"]}, k=4)
    kept = table.query("user == 'u5' and item != 'i9'")["item"].tolist()
    assert [item for item in other["item"] if item in kept] == kept
    assert result.recommender.unknown_users(histories) == ["stranger"]
    assert result.recommender.unknown_users({"new": ["an unknown item"]}) == []


def test_a_known_user_of_bpr_needs_no_history(log: Path) -> None:
    options = {name: value for name, value in SMALL.items() if name != "max_length"}
    result = peercollab.fit(log, model="bpr-mf", **options)
    alone = result.recommend({"u5": []}, k=3)
    assert list(alone["source"]) == ["model"] * 3
    among = result.recommend({"new": ["i1"], "u5": [], "none": []}, k=3).query("user == 'u5'")
    pd.testing.assert_frame_equal(among.reset_index(drop=True), alone, check_dtype=False)
    with pytest.warns(UserWarning, match="items unknown to the model"):
        unknown = result.recommend({"u5": ["unheard of"]}, k=3)
    pd.testing.assert_frame_equal(unknown, alone, check_dtype=False)
    seen = alone["item"][0]
    assert seen not in result.recommend({"u5": [seen]}, k=3)["item"].tolist()
    assert result.recommend({"u5": [seen]}, k=3, keep_seen=True)["item"].tolist()[0] == seen


class OwnLoss(Last):
    """A dropout of 0.5, and a loss of its own."""

    def __init__(self, n_items: int, hidden_size: int = 8, dropout: float = 0.5) -> None:
        super().__init__(n_items, hidden_size)

    def loss(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.output(hidden_ND), targets_N)


def test_options_go_with_the_network_that_is_given_and_no_other(log: Path) -> None:
    result = peercollab.fit(log, model=OwnLoss, loss="model", dropout_spread=0.4, **SMALL)
    config = json.loads((result.folder / "config.json").read_text())
    assert [peer["dropout"] for peer in config["peers"]] == pytest.approx([0.1, 0.9])
    with pytest.raises(
        PeercollabError, match=r"--loss model is for networks .* model Last has none"
    ):
        peercollab.fit(log, model=Last, loss="model", **SMALL)


def test_what_fails_leaves_nothing_behind(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(PeercollabError):
        peercollab.fit(pd.read_csv(log), lr=-1.0, **SMALL)
    assert not list(tmp_path.iterdir())
