"""``python -m peercollab``."""

from peercollab.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
