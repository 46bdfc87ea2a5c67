"""From whom each peer receives."""


def ring(peers: int) -> list[int]:
    """Donor of each peer: peer i receives from peer i - 1, and the first from the last.

    Peers are counted from 0 here; a single peer has itself. Source: the published PCRec code.
    """
    return [(peer - 1) % peers for peer in range(peers)]
