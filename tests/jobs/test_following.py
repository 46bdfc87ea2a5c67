"""A log is followed as long as somebody sends it, however long it says nothing."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from ray.job_submission import JobStatus

from peercollab.errors import PeercollabError
from scripts.jobs import job as module
from scripts.jobs.job import Job


class Client:
    """A job server's client whose log says a line after so many seconds, and then ends."""

    def __init__(self, address: str, seconds: float) -> None:
        self._address, self._seconds = address, seconds

    def submit_job(self, **job: Any) -> None: ...

    def get_address(self) -> str:
        return self._address

    def get_job_status(self, id: str) -> JobStatus:
        return JobStatus.SUCCEEDED

    def get_job_info(self, id: str) -> None:
        raise RuntimeError("no answer")

    async def tail_job_logs(self, id: str) -> AsyncIterator[str]:
        await asyncio.sleep(self._seconds)
        yield "done\n"


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS_OF_SILENCE", 0.05)
    monkeypatch.setattr(module, "SECONDS_BETWEEN", 0.01)
    monkeypatch.setattr(module, "MOST_ATTEMPTS", 2)


def test_a_job_that_says_nothing_for_long_is_followed(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Job(Client(server, 0.5), "true").follow() == JobStatus.SUCCEEDED
    assert "done\n" in capsys.readouterr().out


def test_a_server_that_is_gone_without_a_word_is_noticed(server: str) -> None:
    gone = "http://127.0.0.1:9"
    with pytest.raises(PeercollabError, match="the cluster is out of reach"):
        Job(Client(gone, 600.0), "true").follow()


def test_why_a_job_failed_may_stay_unknown(server: str) -> None:
    said = Job(Client(server, 0.0), "true").why_failed()
    assert said.endswith("failed, and why is not known: no answer")
