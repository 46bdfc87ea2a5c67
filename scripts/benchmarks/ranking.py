"""How fast the catalogue is ranked: from given hidden states, and with the forward pass."""

import numpy as np
import torch
from torch import Tensor

from peercollab.data.sequences import Int32Array, Int64Array
from peercollab.data.split import Spans, queries
from peercollab.models.build import build_model
from peercollab.models.sasrec import SASRecOptions
from peercollab.training.metrics import metrics_of
from peercollab.training.precision import choose
from peercollab.training.scoring import ModelScorer, rank_targets, top_k
from scripts.benchmarks.limits import HeadProducts
from scripts.benchmarks.measure import GIGA, in_turns, ratios, seconds, spread
from scripts.benchmarks.profiling import profiled
from scripts.benchmarks.report import Bar, Row
from scripts.benchmarks.setting import Setting
from tests.reference.lists import lists_of
from tests.reference.plain_model import PlainSASRec
from tests.reference.plain_ranking import plain_metrics, plain_ranks

PART = "rank"
K = 10
FROM_STATES = Bar("at least", 25_000)
FASTER_THAN_PLAIN = Bar("at least", 4)


class GivenStates:
    """A scorer whose hidden states are there already: one for each user.

    Parameters
    ----------
    states_UD, table_VD, bias_V
        What scores are made of.
    offsets
        int64 ``[users + 1]``: where each user's history begins, to tell whose a span is.
    """

    def __init__(
        self, states_UD: Tensor, table_VD: Tensor, bias_V: Tensor, offsets: Int64Array
    ) -> None:
        self._states_UD = states_UD
        self._table_VD = table_VD
        self._bias_V = bias_V
        self._offsets = offsets

    def last_hidden(self, items: Int32Array, spans: Spans, users: Int64Array | None) -> Tensor:
        users = np.searchsorted(self._offsets, spans.starts, side="right") - 1
        return self._states_UD[torch.from_numpy(users).to(self._states_UD.device)]

    def item_table(self) -> tuple[Tensor, Tensor | None]:
        return self._table_VD, self._bias_V


def measure(setting: Setting) -> list[Row]:
    """Rows on users per second."""
    return [*_from_states(setting), *_whole(setting)]


def _from_states(setting: Setting) -> list[Row]:
    """Scores, filter of seen items, and the ten best, for every user of the log."""
    histories, device = setting.histories, setting.device
    hidden_size = setting.sizes.hidden_sizes[0]
    setting.say("top ten from given hidden states: users/s, and GFLOP/s of products of matrices")
    generator = torch.Generator().manual_seed(1)
    scorer = GivenStates(
        torch.randn(histories.n_users, hidden_size, generator=generator).to(device),
        torch.randn(histories.n_items, hidden_size, generator=generator).to(device),
        torch.randn(histories.n_items, generator=generator).to(device),
        histories.offsets,
    )
    spans = Spans(histories.offsets[:-1], histories.offsets[1:])

    def rank() -> None:
        top_k(scorer, histories.items, spans, K, keep_seen=False)

    rank()
    # Peers rank in float32 whatever they train in.
    limit = HeadProducts(
        hidden_size,
        histories.n_items,
        device,
        choose("fp32", device.type),
        setting.sizes.gemm_seconds,
    )
    taken = in_turns(
        setting, {"users": lambda: len(spans) / seconds(rank, device), "limit": limit.rate}
    )
    if setting.profile is not None:
        profiled(setting.profile, "top-k", rank, device)
    flops = [users * 2 * histories.n_items * hidden_size / GIGA for users in taken["users"]]
    what = f"from given states, seen items left out, d {hidden_size}"
    return [
        Row(PART, f"top {K} {what}", "users/s", spread(taken["users"]), bar=FROM_STATES),
        Row(
            PART,
            f"the scores' FLOPs over the whole of it, d {hidden_size}",
            "GFLOP/s",
            spread(flops),
            ratios(flops, taken["limit"]),
            "products of matrices",
        ),
    ]


def _whole(setting: Setting) -> list[Row]:
    """Ranks and metrics of every validation item, from the histories."""
    histories, device, sizes = setting.histories, setting.device, setting.sizes
    options = SASRecOptions(hidden_size=sizes.hidden_sizes[0], max_length=sizes.max_length)
    setting.say("whole ranking of validation: users/s")
    model = build_model(histories.n_items, options, seed=1).to(device).eval()
    plain = PlainSASRec(histories.n_items, options.hidden_size, max_length=options.max_length)
    plain.copy_from(model.state_dict())
    plain.to(device)
    asked = queries(histories, "validation")
    own_lists = lists_of(histories.items, asked.spans)
    targets = asked.targets.tolist()

    def ours() -> None:
        scorer = ModelScorer(model, device)
        metrics_of(rank_targets(scorer, histories.items, asked, keep_seen=False))

    def reference() -> None:
        plain_metrics(plain_ranks(plain, own_lists, targets))

    ours()
    taken = in_turns(
        setting,
        {
            "ours": lambda: len(asked) / seconds(ours, device),
            "plain": lambda: len(asked) / seconds(reference, device),
        },
    )
    if setting.profile is not None:
        profiled(setting.profile, "ranking", ours, device)
    return [
        Row(PART, "plain reference, whole ranking", "users/s", spread(taken["plain"])),
        Row(
            PART,
            "whole ranking of validation, forward pass included",
            "users/s",
            spread(taken["ours"]),
            ratios(taken["ours"], taken["plain"]),
            "the plain reference",
            FASTER_THAN_PLAIN,
        ),
    ]
