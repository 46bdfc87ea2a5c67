"""The Python of docs/bring-your-model.md."""

import re
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "bring-your-model.md"


def python_of_the_guide() -> list[str]:
    """Its blocks: a network, its use from Python, and a network that is no recommender."""
    return re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def command_of_the_guide() -> str:
    """What it says for the command line."""
    (command,) = re.findall(r"```sh\n(.*?)\n```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    return str(command)
