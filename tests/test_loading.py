"""What is slow to load is loaded where it is wanted, and not by every command."""

import subprocess
import sys

LOADED = """
import sys
import peercollab.cli
print(*sorted({"matplotlib", "ray", "scipy.stats", "torch._dynamo"} & set(sys.modules)))
"""


def test_the_command_line_is_there_without_what_few_commands_want() -> None:
    assert subprocess.check_output([sys.executable, "-c", LOADED], text=True).split() == []
