"""All that a training run can be told."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from peercollab.actors.options import ExecutionOptions
from peercollab.command_line import unless_given
from peercollab.data.demo import DEMO
from peercollab.data.layout import ReadOptions
from peercollab.data.prepare import PrepareOptions
from peercollab.errors import PeercollabError
from peercollab.models.options import ModelOptions
from peercollab.training.diversity import DiversityOptions
from peercollab.training.options import TrainingOptions
from peercollab.transplant.options import TransplantOptions


@dataclass(frozen=True)
class TrainOptions:
    """Train peers on an interaction log, and keep the best of them."""

    out: Annotated[Path | None, unless_given("must be given, unless --resume is")] = None
    """Folder of the run; made anew."""
    resume: Annotated[Path | None, unless_given("a new run")] = None
    """Go on with the run in this folder, under its own options, from its last checkpoint."""
    data: str = DEMO
    """An interaction file, or demo: a synthetic log made on the spot."""
    overwrite: bool = False
    """Replace the run that is in --out."""
    read: ReadOptions = field(default_factory=ReadOptions)
    prepare: PrepareOptions = field(default_factory=PrepareOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    diversity: DiversityOptions = field(default_factory=DiversityOptions)
    transplant: TransplantOptions = field(default_factory=TransplantOptions)
    execution: ExecutionOptions = field(default_factory=ExecutionOptions)

    def __post_init__(self) -> None:
        if self.out is None and self.resume is None:
            raise PeercollabError(
                "--out is missing: name a folder for the run, or with --resume one to go on with "
                "(see peercollab train --help)"
            )
        if self.resume is not None and (self.overwrite or self.out not in (None, self.resume)):
            raise PeercollabError(
                "--resume names the folder of the run: leave --out and --overwrite out"
            )
        rule = self.transplant.build().rule
        if rule.remembers and self.training.init == "own":
            raise PeercollabError(
                f"--rule {self.transplant.rule} goes on from weights that all peers share: leave "
                "--init own out"
            )
        model = self.model.build()
        self.training.of_model(model)
        self.diversity.require_model(model)
        self.diversity.require_peers(self.execution.peers)
        for number in range(1, self.execution.peers + 1):
            self.diversity.dropout(model.dropout_share, number, self.execution.peers)

    @property
    def folder(self) -> Path:
        """Where the run lies, or will lie."""
        folder = self.out if self.resume is None else self.resume
        assert folder is not None
        return folder

    def as_json(self) -> dict[str, Any]:
        """All options, as they stand in the run's ``config.json``."""
        options = asdict(self) | {"out": str(self.folder)}
        del options["resume"]
        return options
