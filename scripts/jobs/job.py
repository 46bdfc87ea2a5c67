"""A submitted job: its log as it grows, its end, its outcome as an exit code."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
from ray.job_submission import JobStatus, JobSubmissionClient

from peercollab.errors import PeercollabError
from scripts.jobs.cluster import CLIENT_ERRORS, in_a_line, require_answer
from scripts.jobs.source import SECONDS_TO_STOP, runtime_env

SUCCEEDED, FAILED, INTERRUPTED = 0, 1, 130

# For so many attempts, a second apart, the server may be out of reach.
MOST_ATTEMPTS = 30
SECONDS_BETWEEN = 1.0

# After so long without a line it is asked whether the server is there: the log would never tell.
SECONDS_OF_SILENCE = 30.0


class Job:
    """A job on a cluster.

    Parameters
    ----------
    client
        The job server.
    entrypoint
        Shell command to run, in the folder where this source is unpacked.

    Raises
    ------
    PeercollabError
        The server does not take it.
    """

    def __init__(self, client: JobSubmissionClient, entrypoint: str) -> None:
        self._client = client
        self._printed = 0
        self.id = f"peercollab-{secrets.token_hex(4)}"
        try:
            client.submit_job(
                entrypoint=entrypoint, submission_id=self.id, runtime_env=runtime_env()
            )
        except KeyboardInterrupt:
            # The server may have it already.
            with suppress(*CLIENT_ERRORS):
                client.stop_job(self.id)
            raise
        except CLIENT_ERRORS as error:
            raise PeercollabError(f"the job was not accepted: {in_a_line(error)}") from error

    def follow(self) -> JobStatus:
        """Print the log as it grows until the job has ended; how it ended.

        Raises
        ------
        PeercollabError
            The server is out of reach for long.
        """
        attempt = 0
        while True:
            printed = self._printed
            try:
                asyncio.run(self._print_log())
                status = self._client.get_job_status(self.id)
                if status.is_terminal():
                    return status
                reason = "it closes the log"
            except (*CLIENT_ERRORS, aiohttp.ClientError, PeercollabError) as error:
                reason = in_a_line(error)
            attempt = 1 if self._printed > printed else attempt + 1
            if attempt == MOST_ATTEMPTS:
                raise PeercollabError(
                    f"the cluster is out of reach ({reason}); job {self.id} may be running still: "
                    f"ray job status --address {self._client.get_address()} {self.id}"
                )
            time.sleep(SECONDS_BETWEEN)

    def stop(self) -> JobStatus:
        """Stop the job, and follow it to its end; how it ended.

        Raises
        ------
        PeercollabError
            The server is out of reach.
        """
        print(f"stopping job {self.id}, which may take {SECONDS_TO_STOP} s", flush=True)
        try:
            self._client.stop_job(self.id)
        except CLIENT_ERRORS as error:
            raise PeercollabError(
                f"job {self.id} may be running still: {in_a_line(error)}"
            ) from error
        return self.follow()

    def why_failed(self) -> str:
        """In a line, why the job failed: the code with which it ended, or Ray's reason."""
        try:
            info = self._client.get_job_info(self.id)
        except CLIENT_ERRORS as error:
            return f"job {self.id} failed, and why is not known: {in_a_line(error)}"
        if info.driver_exit_code is not None:
            return f"job {self.id} failed with exit code {info.driver_exit_code}"
        return f"job {self.id} failed: {in_a_line(RuntimeError(info.message or 'no reason given'))}"

    async def _print_log(self) -> None:
        """The log from its beginning; what was printed before is left out."""
        seen = 0
        log = self._client.tail_job_logs(self.id)
        while (text := await self._next(log)) is not None:
            print(text[max(0, self._printed - seen) :], end="", flush=True)
            seen += len(text)
            self._printed = max(self._printed, seen)

    async def _next(self, log: AsyncIterator[str]) -> str | None:
        """The log's next part, None at its end, as long as the server is there."""
        part = asyncio.ensure_future(anext(log, None))
        try:
            while not (await asyncio.wait({part}, timeout=SECONDS_OF_SILENCE))[0]:
                require_answer(self._client.get_address())
            return part.result()
        finally:
            part.cancel()
