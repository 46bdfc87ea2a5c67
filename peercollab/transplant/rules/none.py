"""No exchange: peers that train side by side and never meet."""

from dataclasses import dataclass

from peercollab.transplant.rules.rule import Rule


@dataclass(frozen=True, kw_only=True)
class NoExchange(Rule):
    """Nothing is given: the control in which N peers equal N runs of one."""

    name = "none"
    reference = "the baseline of every comparison"
    exchanges = False
