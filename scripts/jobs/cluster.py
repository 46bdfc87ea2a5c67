"""Reach a cluster's job server, and say in a line why it cannot be done."""

import http.client
import os
import re
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from peercollab.errors import PeercollabError

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
SECONDS_TO_ANSWER = 10.0

# What comes out of Ray's client; requests' own errors are OSErrors.
CLIENT_ERRORS = (AuthenticationError, OSError, RuntimeError, ValueError)

TOO_LARGE = re.compile("Maximum request body size|exceeds the maximum size")
NO_TOKEN = (
    "the cluster asks for a token: export RAY_AUTH_MODE=token, and have the cluster's token in "
    "~/.ray/auth_token, RAY_AUTH_TOKEN, or a file named by RAY_AUTH_TOKEN_PATH"
)
WRONG_TOKEN = (
    "the cluster refuses the token: have that of its head node, from ~/.ray/auth_token there, in "
    "~/.ray/auth_token, RAY_AUTH_TOKEN, or a file named by RAY_AUTH_TOKEN_PATH"
)


def connect(address: str | None) -> JobSubmissionClient:
    """The job server at an address.

    Parameters
    ----------
    address
        URL of the dashboard; without it that of RAY_API_SERVER_ADDRESS, or Ray's default.

    Raises
    ------
    PeercollabError
        None answers there, or it wants a token.
    """
    # Ray prefers both variables to the address that it is given.
    from_environment = os.environ.pop("RAY_API_SERVER_ADDRESS", None)
    os.environ.pop("RAY_ADDRESS", None)
    url = _url(address or from_environment or DEFAULT_ADDRESS)
    require_answer(url)
    try:
        return JobSubmissionClient(url)
    except CLIENT_ERRORS as error:
        raise PeercollabError(f"{url}: {in_a_line(error)}") from error


def in_a_line(error: Exception) -> str:
    """What an error of Ray's client says that matters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    if isinstance(error, AuthenticationError):
        return WRONG_TOKEN if lines[0].startswith("Authentication failed") else NO_TOKEN
    if TOO_LARGE.search(str(error)):
        return (
            "the source is larger than the job server takes (100 MiB): move what is no source out "
            "of the repository, or name it in .gitignore"
        )
    # Of a traceback that the server sent the last line says what happened.
    return lines[-1].rstrip(".")


def _url(address: str) -> str:
    if "://" not in address:
        address = f"http://{address}"
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        usable = False
    if not usable:
        raise PeercollabError(
            f"--address {address}: give the dashboard's, such as {DEFAULT_ADDRESS}"
        )
    return address.rstrip("/")


def require_answer(url: str) -> None:
    """Make sure that a server answers: Ray's client waits for ever for one that says nothing.

    Raises
    ------
    PeercollabError
        It does not, within seconds.
    """
    try:
        urllib.request.urlopen(f"{url}/api/version", timeout=SECONDS_TO_ANSWER).close()
    except urllib.error.HTTPError:
        return  # An answer, too, which Ray's client explains.
    except OSError as error:
        raise _no_dashboard(url, str(getattr(error, "reason", error))) from error
    except http.client.HTTPException as error:
        raise _no_dashboard(url, "what answers is no web server") from error


def _no_dashboard(url: str, reason: str) -> PeercollabError:
    return PeercollabError(
        f"{url}: no Ray dashboard answers there ({reason}); give the URL that `ray start --head` "
        "printed for the dashboard, not the cluster's own port"
    )
