"""What all tests share; ``./scripts/test`` runs them, with ``--slow`` the long ones too."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# Read when Ray is imported: here, and in every process that a test or Ray starts.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112

# A shell leaves what it starts in the background deaf to Ctrl-C, and so would be all that the tests
# start, of which some are stopped by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REAL_DATA = "PEERCOLLAB_TEST_DATA"
OBJECT_STORE_BYTES = 256 << 20

# Shared machines are slow at times: nothing here fails for taking long. With CI set the examples
# are the same in every run.
settings.register_profile(
    "peercollab",
    deadline=None,
    max_examples=50,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("peercollab")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: runs with --slow"))


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """The tests' tensors are small, and Ray's workers want the other cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of published data sets; tests that need it are skipped without it."""
    if REAL_DATA not in os.environ:
        pytest.skip(f"{REAL_DATA} does not name the folder with the real data sets")
    folder = Path(os.environ[REAL_DATA])
    if not folder.is_dir():
        pytest.skip(f"{REAL_DATA} names {folder}, which is no folder")
    return folder


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Pictures of reports are empty: to draw them takes several times as long as a small run."""
    with pytest.MonkeyPatch.context() as patch:
        empty = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
        patch.setattr("peercollab.results.page.to_svg", lambda _: empty)
        yield


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A Ray cluster of two CPUs on this machine, its own, shared by all tests that ask for it."""
    import ray

    _start_ray()
    yield
    ray.shutdown()


def _start_ray(tries: int = 3) -> None:
    import ray

    try:
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=0,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="warning",
        )
    except Exception as error:
        # Ray gives a node half a minute to come up, which beside much other work may be too little.
        # What it has started of one ends with this process.
        if tries == 1 or "timed out during startup" not in str(error):
            raise
        _start_ray(tries - 1)
