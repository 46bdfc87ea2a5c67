"""Plain averaging of receiver and donor."""

from dataclasses import dataclass

from peercollab.transplant.rules.layer_rule import LayerRule


@dataclass(frozen=True, kw_only=True)
class Average(LayerRule):
    """``W_new = (W + V) / 2``, whatever the layers hold: the control that matters most."""

    name = "average"
    reference = "Filter Grafting for Deep Neural Networks (CVPR 2020), arXiv 2001.05868, its A = 0"

    def keep(self, own: float, donor: float) -> float:
        return 0.5
