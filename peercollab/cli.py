"""The command line: ``peercollab COMMAND``; see `Command` for what there is."""

import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, get_args

import pandas as pd
import tyro

from peercollab.command_line import did_you_mean, parse, unless_given, value_of
from peercollab.comparison.compare import compare
from peercollab.comparison.entry import whole_entries
from peercollab.comparison.folder import COMPARISON, read_comparison
from peercollab.comparison.options import CompareOptions, require_no_option_of_an_arm
from peercollab.comparison.status import (
    comparison_in_words,
    is_comparison,
    require_no_comparison,
    serving_command,
)
from peercollab.comparison.table import print_comparison
from peercollab.config_file import PresetName, expanded
from peercollab.data.layout import Layout, ReadOptions
from peercollab.data.prepare import own_histories
from peercollab.data.read import read_interactions
from peercollab.disk import replacing
from peercollab.doctor import doctor, render
from peercollab.errors import PeercollabError
from peercollab.options import TrainOptions
from peercollab.results.display import print_results, standard_output
from peercollab.results.run_folder import of_this_version, read_config, recommend_command
from peercollab.results.status import in_words, status
from peercollab.resume import stored_options
from peercollab.run import train
from peercollab.serving.recommender import Recommender
from peercollab.transplant.options import RULES, described
from peercollab.version import __version__

BAD_INPUT = 2
INTERRUPTED = 130

# Unknown items named in a message before it ends in dots.
MOST_NAMED = 5


@dataclass(frozen=True)
class TrainCommand(TrainOptions):
    __doc__ = TrainOptions.__doc__

    preset: Annotated[PresetName | None, unless_given("none")] = None
    """Options of a published form, of which those of --config and the ones told here win."""
    config: Annotated[Path | None, unless_given("none")] = None
    """A file of options, such as those in docs/recipes; what is told here as well counts here."""

    @classmethod
    def of(cls, options: TrainOptions) -> "TrainCommand":
        """The command that asks for a training under these options."""
        return cls(**{field.name: getattr(options, field.name) for field in fields(TrainOptions)})

    @property
    def options(self) -> TrainOptions:
        """What is asked for; the file's options are among these already."""
        names = [field.name for field in fields(TrainOptions)]
        return TrainOptions(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class RecommendOptions:
    """Recommend items to users, with your own ids: CSV of user, item, rank, score, source."""

    run: tyro.conf.Positional[Path]
    """Folder of a run."""
    histories: Path
    """Interactions of the users to recommend to, in the layout that the run was trained on."""
    model: Annotated[str | None, unless_given("as the run says")] = None
    """Of a run with a network of your own: path/to/file.py:Name again, as its code is run."""
    k: int = 10
    """Items a user."""
    keep_seen: bool = False
    """Recommend items of the history, too."""
    format: Literal["csv", "parquet", "jsonl"] = "csv"
    """parquet and jsonl go to a file."""
    out: Annotated[Path | None, unless_given("printed")] = None
    """File to write."""


@dataclass(frozen=True)
class ReportOptions:
    """Write report.html of a run or a comparison anew, also of one that was stopped."""

    run: tyro.conf.Positional[Path]
    """Folder of a run or a comparison."""


@dataclass(frozen=True)
class StatusOptions:
    """Say how a run or a comparison stands, from anywhere that sees its folder."""

    run: tyro.conf.Positional[Path]
    """Folder of a run or a comparison."""
    json: bool = False
    """Say it as JSON; of a run alone, as a comparison has its comparison.json."""


@dataclass(frozen=True)
class RulesOptions:
    """List the rules by which peers give weights, with their options and where they come from."""


@dataclass(frozen=True)
class DoctorOptions:
    """Say what this machine has and what a run would use."""


Command = (
    Annotated[TrainCommand, tyro.conf.subcommand("train")]
    | Annotated[CompareOptions, tyro.conf.subcommand("compare")]
    | Annotated[StatusOptions, tyro.conf.subcommand("status")]
    | Annotated[RecommendOptions, tyro.conf.subcommand("recommend")]
    | Annotated[ReportOptions, tyro.conf.subcommand("report")]
    | Annotated[RulesOptions, tyro.conf.subcommand("rules")]
    | Annotated[DoctorOptions, tyro.conf.subcommand("doctor")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0, 2 for what the user can mend, 130 when stopped."""
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _stop)
    try:
        if list(arguments) == ["--version"]:
            print(f"peercollab {__version__}")
            return 0
        return _run(_parse(list(arguments)))
    except PeercollabError as error:
        print(f"peercollab: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("peercollab: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output, such as `head`, has had enough: no more can be flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if {"-h", "--help"} & set(arguments) or arguments[0] not in ("train", "compare"):
            return 0
        print("peercollab: nobody reads its output any more: it ends here", file=sys.stderr)
        return INTERRUPTED


def _parse(arguments: Sequence[str]) -> Any:
    _require_command(next(iter(arguments), ""))
    if arguments[:1] == ["compare"]:
        require_no_option_of_an_arm(arguments[1:])
    if arguments[:1] != ["train"] or "--help" in arguments:
        return parse(Command, arguments, arguments[0])
    told = expanded(arguments[1:])
    if (run := value_of("--resume", told)) is None:
        return parse(Command, ["train", *told], "train").options
    # What is not told anew is as it was.
    named = [value for option in ("--rule", "--model") if (value := value_of(option, told))]
    stored = stored_options(Path(run), named)
    return parse(TrainCommand, told, "train", default=TrainCommand.of(stored)).options


def _require_command(word: str) -> None:
    """Refuse what is no command, where one has to stand, and name those that there are."""
    names = [get_args(of)[1].name for of in get_args(Command)]
    if word in names or word in ("-h", "--help"):
        return
    those = ", ".join(names)
    if not word or word.startswith("-"):
        raise PeercollabError(f"name a command first: one of {those}")
    raise PeercollabError(
        f"there is no command {word}: take one of {those}{did_you_mean(word, names)}"
    )


def _run(
    command: TrainOptions
    | CompareOptions
    | StatusOptions
    | RecommendOptions
    | ReportOptions
    | RulesOptions
    | DoctorOptions,
) -> int:
    match command:
        case TrainOptions():
            return _train(command)
        case CompareOptions():
            return _compare(command)
        case StatusOptions() if is_comparison(command.run) and not command.json:
            print(comparison_in_words(command.run))
            return 0
        case StatusOptions():
            require_no_comparison(command.run, f"which has {COMPARISON} in place of --json")
            stands = status(command.run)
            print(json.dumps(stands.as_json(), indent=2) if command.json else in_words(stands))
            return 0
        case RecommendOptions():
            require_no_comparison(command.run, "which report and status tell of")
            return _recommend(command)
        case ReportOptions():
            return _report(command.run)
        case RulesOptions():
            print("\n\n".join(described(rule) for rule in RULES.values()))
            return 0
        case DoctorOptions():
            return _doctor()


def _train(options: TrainOptions) -> int:
    # Not above: it loads matplotlib, which is slow, and most commands draw nothing.
    from peercollab.results.report import write_report

    result = train(options)
    report = write_report(result.folder)
    print_results(standard_output(), result.metrics)
    print(f"run folder: {result.folder}")
    print(f"report: {report}")
    print(f"next: {recommend_command(result.folder, read_config(result.folder))}")
    return 0


def _compare(options: CompareOptions) -> int:
    from peercollab.comparison.report import write_comparison_report

    result = compare(options)
    print_comparison(standard_output(), result)
    print(f"report: {write_comparison_report(options.folder, result)}")
    if (serving := serving_command(options.folder, result)) is not None:
        print(f"next: {serving}")
    if not any(map(whole_entries, result["arms"])):
        raise PeercollabError("no training came to a model: see the lines below the table")
    return 0


def _report(folder: Path) -> int:
    from peercollab.comparison.report import write_comparison_report
    from peercollab.results.report import write_report

    if is_comparison(folder):
        report = write_comparison_report(folder, read_comparison(folder))
    else:
        report = write_report(folder)
    print(f"report: {report}")
    return 0


def _recommend(options: RecommendOptions) -> int:
    if options.format != "csv" and options.out is None:
        raise PeercollabError(f"--format {options.format} goes to a file: name it with --out")
    recommender = Recommender.load(options.run, model=options.model)
    with of_this_version(options.run):
        layout = Layout(**read_config(options.run)["layout"])
    interactions = read_interactions(
        options.histories, ReadOptions(), layout=layout, allow_empty=True
    )
    histories = dict(own_histories(interactions))
    if unknown := recommender.unknown_items(histories):
        named = ", ".join(unknown[:MOST_NAMED]) + (", ..." if len(unknown) > MOST_NAMED else "")
        print(
            f"peercollab: items unknown to the model were skipped ({len(unknown)} in all): {named}",
            file=sys.stderr,
        )
    if new := recommender.unknown_users(histories):
        named = ", ".join(new[:MOST_NAMED]) + (", ..." if len(new) > MOST_NAMED else "")
        print(
            f"peercollab: users that the model was not trained on get a vector made of the items "
            f"in their history, without its order ({len(new)} in all): {named}",
            file=sys.stderr,
        )
    with warnings.catch_warnings():
        # Said above, in the words of the command line.
        warnings.simplefilter("ignore", UserWarning)
        table = recommender.recommend(histories, options.k, keep_seen=options.keep_seen)
    _write(table, options)
    return 0


def _write(table: pd.DataFrame, options: RecommendOptions) -> None:
    if options.out is None:
        sys.stdout.buffer.write(_csv(table))
        sys.stdout.buffer.flush()
        return
    with replacing(options.out) as path:
        match options.format:
            case "csv":
                path.write_bytes(_csv(table))
            case "parquet":
                table.to_parquet(path, index=False)
            case "jsonl":
                packing: Literal["gzip"] | None = "gzip" if options.out.suffix == ".gz" else None
                table.to_json(
                    path, orient="records", lines=True, force_ascii=False, compression=packing
                )


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n", float_format="%.6g").encode()


def _doctor() -> int:
    print(render(doctor(), sys.stdout.encoding))
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    """Being ended by another process cleans up like Ctrl-C."""
    raise KeyboardInterrupt
