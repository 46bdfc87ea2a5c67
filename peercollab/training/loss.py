"""Full softmax cross-entropy over the catalogue, in chunks of rows that fit a cache."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Bytes of logits held at once. On a CPU a few megabytes stay in its cache; a GPU wants work
# enough to fill it.
_CHUNK_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}
_FEWEST_ROWS = 32


def rows_at_once(n_items: int, device: torch.device, itemsize: int = 4) -> int:
    """Rows whose scores over the whole catalogue may exist at one time, a power of two."""
    rows = _CHUNK_BYTES.get(device.type, _CHUNK_BYTES["cpu"]) // (n_items * itemsize)
    return max(_FEWEST_ROWS, 1 << max(rows, 1).bit_length() - 1)


def full_cross_entropy(
    hidden_ND: Tensor, table_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor
) -> Tensor:
    """Mean of ``-log softmax(hidden @ table.T + bias)[target]`` over positions: a scalar.

    The logits ``[positions, items]`` never exist as a whole: torch works through them by chunks
    of rows, and takes the gradients on the way.
    """
    return F.linear_cross_entropy(
        hidden_ND,
        table_VD,
        targets_N,
        linear_bias=bias_V,
        options=torch.nn.LinearCrossEntropyOptions(
            batch_chunk_size=rows_at_once(len(table_VD), hidden_ND.device),
            chunking_method=None,
        ),
    )
