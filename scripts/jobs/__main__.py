"""``./scripts/submit -- OPTIONS``: ``peercollab train`` as a job on a Ray cluster."""

import logging
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from ray.job_submission import JobStatus

from peercollab.errors import PeercollabError
from scripts.jobs.cluster import connect
from scripts.jobs.job import FAILED, INTERRUPTED, SUCCEEDED, Job
from scripts.jobs.options import parse_options

BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Submit a job and see it through; the exit code."""
    signal.signal(signal.SIGTERM, _like_ctrl_c)
    try:
        options = parse_options(sys.argv[1:] if arguments is None else arguments)
        client = connect(options.address)
        job = Job(client, options.entrypoint)
        print(f"job {job.id} at {client.get_address()}", flush=True)
        return _see_through(job)
    except PeercollabError as error:
        print(f"submit: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("submit: stopped", file=sys.stderr)
        return INTERRUPTED


def _see_through(job: Job) -> int:
    interrupted = False
    try:
        status = job.follow()
    except KeyboardInterrupt:
        interrupted = True
        status = job.stop()
    if status == JobStatus.SUCCEEDED:
        return SUCCEEDED
    reason = job.why_failed() if status == JobStatus.FAILED else f"job {job.id} was stopped"
    print(f"submit: {reason}", file=sys.stderr)
    return INTERRUPTED if interrupted and status == JobStatus.STOPPED else FAILED


def _like_ctrl_c(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    # Ray's client remarks on all that it packs and uploads.
    logging.disable(logging.WARNING)
    sys.exit(main())
