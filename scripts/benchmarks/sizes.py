"""How much each part of the benchmark does: the full amount, and a tiny one to test it with."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Sizes:
    """Amounts of work.

    Attributes
    ----------
    users, items, interactions
        Of the synthetic log that stands in for MovieLens-1M.
    steps
        Training steps of one measurement.
    gemm_seconds
        Time given to one measurement of the products of matrices.
    hidden_sizes
        The network's sizes whose training is measured; the first is compared with the reference.
    max_length
        Positions of a row.
    round_items, round_hidden_size
        What makes the weights of the round's peers as large as they are.
    one_user_of
        Of so many users one takes part where whole epochs are trained.
    start_users, start_items, start_interactions
        Of the log with which a whole `peercollab train` is started, where no real one is there.
    large_users, large_items, large_interactions
        Of the log that is prepared from Parquet.
    growth
        Interactions of smaller logs, whose costs per interaction are compared with the large one's.
    memory_items, memory_rows
        Catalogue and full rows of the training step whose memory is measured.
    catalogue_users, catalogue_items, catalogue_interactions
        Of the log with a large catalogue, which is trained on negatives.
    planning
        Numbers of peers and layers.
    convergence_epochs, convergence_seeds
        How long and how often both ways are trained to be compared in what they learn.
    """

    users: int = 6_040
    items: int = 3_416
    interactions: int = 987_019
    steps: int = 12
    gemm_seconds: float = 1.0
    hidden_sizes: tuple[int, ...] = (64, 256)
    max_length: int = 100
    round_items: int = 26_744
    round_hidden_size: int = 256
    one_user_of: int = 5
    start_users: int = 943
    start_items: int = 1_682
    start_interactions: int = 100_000
    large_users: int = 138_493
    large_items: int = 26_744
    large_interactions: int = 20_000_000
    growth: tuple[int, ...] = (100_000, 1_000_000)
    memory_items: int = 27_000
    memory_rows: int = 128
    catalogue_users: int = 20_000
    catalogue_items: int = 1_000_000
    catalogue_interactions: int = 2_000_000
    planning: tuple[tuple[int, int], ...] = ((8, 200), (64, 50), (64, 200))
    convergence_epochs: int = 6
    convergence_seeds: int = 4

    def with_large(self, interactions: int) -> "Sizes":
        """The same with another size of the large log, whose users are in proportion."""
        share = interactions / self.large_interactions
        return replace(
            self,
            large_interactions=interactions,
            large_users=max(2, round(self.large_users * share)),
            growth=tuple(size for size in self.growth if size < interactions),
        )


FULL = Sizes()
TINY = Sizes(
    users=60,
    items=50,
    interactions=3_000,
    steps=2,
    gemm_seconds=0.02,
    hidden_sizes=(8, 16),
    max_length=10,
    round_items=200,
    round_hidden_size=8,
    one_user_of=2,
    start_users=60,
    start_items=50,
    start_interactions=3_000,
    large_users=100,
    large_items=80,
    large_interactions=5_000,
    growth=(2_000,),
    memory_items=4_000,
    memory_rows=32,
    catalogue_users=300,
    catalogue_items=2_000,
    catalogue_interactions=4_000,
    planning=((4, 10),),
    convergence_epochs=2,
    convergence_seeds=2,
)
