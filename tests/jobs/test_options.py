"""What ./scripts/submit and ./scripts/local-cluster refuse, and what travels with a job."""

import zipfile
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import create_package

from peercollab.errors import PeercollabError
from scripts.jobs.__main__ import main
from scripts.jobs.options import parse_options
from scripts.jobs.source import EXCLUDES, ROOT
from scripts.local_cluster.__main__ import main as local_cluster


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "options of peercollab train are missing"),
        (["--", "--out"], "--out"),
        (["--adress", "x", "--", "--out", "/runs/a"], "--adress"),
        (["--address", "ftp://head:21", "--", "--out", "/runs/a"], "give the dashboard's"),
        (["--address", "http://head:many", "--", "--out", "/runs/a"], "give the dashboard's"),
        (["--python", ".venv/bin/python", "--", "--out", "/runs/a"], "--python .venv/bin/python"),
        (["--", "--out", "runs/a"], "--out runs/a"),
        (["--", "--out", "/runs/a", "--data", "log.csv"], "--data log.csv"),
        (["--", "--out", "/runs/a", "--epoch", "3"], "did you mean --epochs?"),
        (["--", "--out", "/runs/a", "--config", "none.toml"], "none.toml cannot be read"),
        (["--", "--out", "/runs/a", "--preset", "pcrec", "--factor", "0.9"], "--factor"),
        (["--address", "127.0.0.1:9", "--", "--out", "/runs/a"], "no Ray dashboard answers"),
    ],
    ids=" ".join,
)
def test_bad_input_is_told_in_a_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("submit: ")
    assert expected in said
    assert len(said.splitlines()) == 1


def test_the_address_that_is_given_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:7")
    assert main(["--", "--out", "/runs/a"]) == 2
    assert "http://127.0.0.1:7:" in capsys.readouterr().err
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:7")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:11")
    assert main(["--address", "http://127.0.0.1:9", "--", "--out", "/runs/a"]) == 2
    assert "http://127.0.0.1:9:" in capsys.readouterr().err


def test_options_reach_the_command_whole() -> None:
    options = parse_options(["--", "--data", "/data/my log.csv", "--out", "/runs/a;b"])
    assert options.entrypoint == (
        "python3 -m peercollab train --data '/data/my log.csv' --out '/runs/a;b'"
    )


def test_options_of_a_file_are_known(tmp_path: Path) -> None:
    recipe = str(ROOT / "docs" / "recipes" / "nextitnet-ml-20m.toml")
    told = ["--config", recipe, "--dilations", "1", "2", "--data", "/d/x", "--out", "/r/a"]
    assert parse_options(["--", *told]).train == tuple(told)
    own = tmp_path / "own.toml"
    own.write_text("data = 'log.csv'\n")
    with pytest.raises(PeercollabError, match=r"--data log\.csv: the job runs on the cluster"):
        parse_options(["--", "--config", str(own), "--out", "/r/a"])
    # What lies on the cluster alone is looked at there.
    elsewhere = ["--config", "/not/here/own.toml", "--factor", "0.9", "--out", "/r/a"]
    assert parse_options(["--", *elsewhere]).train == tuple(elsewhere)


def test_the_source_travels_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    wanted = ["pyproject.toml", "peercollab/data/read.py", "peercollab/run.py", "rules/mine.py"]
    unwanted = [
        ".git/HEAD",
        ".venv/bin/python",
        "runs/a/config.json",
        "data/log.csv",
        "build/lib/x.py",
        "peercollab/__pycache__/run.pyc",
        "peercollab.egg-info/PKG-INFO",
        ".mypy_cache/x.json",
    ]
    for name in [*wanted, *unwanted]:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    package = tmp_path / "package.zip"
    # As if Ray were told not to honour .gitignore.
    create_package(str(source), package, include_gitignore=False, excludes=EXCLUDES)
    with zipfile.ZipFile(package) as archive:
        files = {name for name in archive.namelist() if not name.endswith("/")}
    assert files == set(wanted)


def test_the_source_is_this_repository() -> None:
    assert (ROOT / "peercollab" / "cli.py").is_file()
    assert (ROOT / "pyproject.toml").is_file()


def test_a_local_cluster_refuses_what_is_not_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> str:
        assert local_cluster(arguments) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        return said

    thesis = tmp_path / "thesis.tex"
    thesis.write_text("years of work")
    assert "not the folder of a local cluster" in refused("down", "--folder", str(tmp_path))
    assert thesis.is_file()
    assert "no cluster is up" in refused("down", "--folder", str(tmp_path / "none"))
    assert "at most 35 bytes" in refused("up", "--folder", "/tmp/" + "x" * 40)
    assert "--cpus" in refused("up", "--cpus", "none")
    assert "choose from" in refused("sideways")
