"""A rule from a file of the user's own: the guide works, and mistakes are named."""

import pickle
import re
import shlex
from pathlib import Path

import pytest
import torch
from torch import Tensor

from peercollab.cli import main
from peercollab.errors import PeercollabError
from peercollab.transplant.options import TransplantOptions
from peercollab.transplant.rules.own_rule import OwnRule
from tests.test_run import log as log

GUIDE = Path(__file__).parents[2] / "docs" / "write-a-rule.md"


def rule_of(folder: Path, source: str, function: str = "mine") -> OwnRule:
    path = folder / "rules.py"
    path.write_text(source, encoding="utf-8")
    rule = TransplantOptions(rule=f"{path}:{function}").build().rule
    assert isinstance(rule, OwnRule)
    return rule


def mixed(rule: OwnRule, own: Tensor, donor: Tensor, keep: float = 0.5) -> Tensor:
    (new_T,) = rule.mix("table.weight", (own,), (donor,), keep)
    return new_T


def test_the_function_of_the_guide_does_what_the_guide_says(tmp_path: Path) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (function,) = re.findall(r"--rule \S+\.py:(\w+)", text)
    rule = rule_of(tmp_path, source, function)
    own, donor = torch.tensor([[1.0, -5.0, 2.0]]), torch.tensor([[-3.0, 4.0, 2.0]])
    assert mixed(rule, own, donor).tolist() == [[-3.0, -5.0, 2.0]]


def test_the_share_is_that_of_layer_wise_and_its_options_count(tmp_path: Path) -> None:
    rule = rule_of(tmp_path, "def mine(own, donor, keep):\n    return own * keep\n")
    assert mixed(rule, torch.ones(2, 2), torch.zeros(2, 2), 0.25).tolist() == [[0.25] * 2] * 2
    options = TransplantOptions(rule=f"{tmp_path / 'rules.py'}:mine", steepness=3.0, donors="best")
    rule = options.build().rule  # type: ignore[assignment]
    assert (rule.steepness, rule.donors) == (3.0, "best")


def test_a_function_is_asked_about_a_layer_that_layer_wise_would_keep(tmp_path: Path) -> None:
    rule = rule_of(tmp_path, "def mine(own, donor, keep):\n    return donor\n")
    assert 0 < 1 - rule.keep(100.0, 0.0) < 1e-5


def test_a_rule_travels_without_its_file(tmp_path: Path) -> None:
    rule = rule_of(tmp_path, "def mine(own, donor, keep):\n    return donor + 1\n")
    (tmp_path / "rules.py").unlink()
    there = pickle.loads(pickle.dumps(rule))
    assert mixed(there, torch.zeros(1, 2), torch.ones(1, 2)).tolist() == [[2.0, 2.0]]


def test_what_a_function_writes_to_its_arguments_reaches_nobody(tmp_path: Path) -> None:
    rule = rule_of(tmp_path, "def mine(own, donor, keep):\n    return own.add_(donor.mul_(2))\n")
    own, donor = torch.ones(2, 2), torch.ones(2, 2)
    assert mixed(rule, own, donor).tolist() == [[3.0, 3.0]] * 2
    assert own.tolist() == donor.tolist() == [[1.0, 1.0]] * 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return own[:1]", r"shape \(1, 4\) for table.weight, which has \(3, 4\)"),
        ("return own.sum()", r"shape \(\) for table.weight, which has \(3, 4\)"),
        ("return 1.0", "gave float for table.weight: return a tensor"),
        ("return own / 0", "gave NaN or infinite values for table.weight"),
        ("return own @ donor", "failed on table.weight: RuntimeError"),
    ],
)
def test_a_bad_result_is_refused_with_the_tensors_name(
    body: str, message: str, tmp_path: Path
) -> None:
    rule = rule_of(tmp_path, f"def mine(own, donor, keep):\n    {body}\n")
    with pytest.raises(PeercollabError, match=message) as caught:
        mixed(rule, torch.ones(3, 4), torch.ones(3, 4))
    assert "rules.py:mine" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def other(own, donor, keep):\n    return own\n", "no mine; it has other"),
        ("mine = 3\n", "no mine; it has nothing to call"),
        ("def mine(own, donor):\n    return own\n", "must take the receiver's tensor"),
        ("def mine(own, donor, keep)\n    return own\n", "rules.py, line 1 cannot be run"),
        ("import nowhere\n", "cannot be run: ModuleNotFoundError"),
    ],
)
def test_a_file_without_such_a_function_is_refused(
    source: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(PeercollabError, match=message):
        rule_of(tmp_path, source)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(PeercollabError, match=r"nowhere\.py cannot be read"):
        TransplantOptions(rule="nowhere.py:mine")


@pytest.mark.parametrize("result", ["own.double() * 0 + 1e300", "own.long()", "own + 1j"])
def test_another_type_is_refused_with_both_named(result: str, tmp_path: Path) -> None:
    rule = rule_of(tmp_path, f"def mine(own, donor, keep):\n    return {result}\n", "mine")
    with pytest.raises(PeercollabError, match=r"for linear.weight, which has torch.float32"):
        rule.mix("linear.weight", (torch.ones(2, 2),), (torch.zeros(2, 2),), 0.5)


def test_a_file_or_function_that_ends_the_process_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PeercollabError, match=r"cannot be run: SystemExit"):
        rule_of(tmp_path, "import sys\nsys.exit(0)\n", "mine")
    leaving = "import sys\ndef mine(own, donor, keep):\n    sys.exit(0)\n"
    with pytest.raises(PeercollabError, match=r"failed on x: SystemExit"):
        rule_of(tmp_path, leaving, "mine").mix("x", (torch.ones(1),), (torch.ones(1),), 0.5)


def test_a_builtin_can_be_a_rule(tmp_path: Path) -> None:
    rule = rule_of(tmp_path, "from torch import lerp as mine\n", "mine")
    (new,) = rule.mix("x", (torch.zeros(3),), (torch.ones(3),), 0.25)
    assert torch.equal(new, torch.full((3,), 0.25))


def test_the_file_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "rules.py"
    path.write_text("def mine(own, donor, keep):\n    return donor\n")
    options = TransplantOptions(rule=f"{path}:mine")
    path.unlink()
    assert options.build().rule is options.build().rule


def test_the_command_of_the_guide_runs(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (command,) = re.findall(r"```sh\n(.*?)\n```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("interactions.csv").write_bytes(log.read_bytes())
    Path("larger.py").write_text(source, encoding="utf-8")
    program, *words = shlex.split(command)
    assert program == "peercollab"
    faster = "--executor local --epochs 1 --hidden-size 8 --batch-size 16"
    assert main([*words, *faster.split()]) == 0
    assert (tmp_path / "runs" / "larger" / "best" / "model.safetensors").exists()
