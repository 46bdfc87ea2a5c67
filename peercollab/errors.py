"""What can go wrong in a way that the user can act on."""


class PeercollabError(Exception):
    """A mistake or mishap told in one or two lines: what is wrong, where, and what to do.

    The command line prints its text on stderr and ends with exit code 2, without a traceback.
    """


class DivergedError(PeercollabError):
    """Training came to a loss or a weight that is no finite number."""


class LostError(PeercollabError):
    """A peer or the coordinator died, or does not answer: what it did since is to be done again."""


class FaultError(LostError):
    """A peer or the coordinator raised an error that nobody foresaw; it may pass, or not.

    Attributes
    ----------
    kind
        Whose, where and of which type it was: its text may have numbers that differ each time.
    """

    def __init__(self, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.kind = kind or text
