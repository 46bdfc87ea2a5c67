"""Causal attention with dropout on its weights, by whatever way is fast where it runs."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from peercollab.models.dropout import Dropout


def attend(query_BHLK: Tensor, key_BHLK: Tensor, value_BHLK: Tensor, dropout: Dropout) -> Tensor:
    """``dropout(softmax(query @ key.T / sqrt(K)))`` of earlier positions and the own, ``@ value``.

    Parameters
    ----------
    query_BHLK, key_BHLK, value_BHLK
        float ``[rows, heads, positions, size of a head]``.
    dropout
        Applied to the weights while it is in training mode.

    Returns
    -------
    float ``[rows, heads, positions, size of a head]``
    """
    drops = dropout.training and dropout.p > 0
    if query_BHLK.device.type != "cpu" or not drops or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(
            query_BHLK,
            key_BHLK,
            value_BHLK,
            dropout_p=dropout.p if drops else 0.0,
            is_causal=True,
        )
    # torch's fast way on a CPU knows no dropout, and its other way is slower than this.
    length = query_BHLK.shape[2]
    future_LL = torch.full((length, length), -math.inf, dtype=query_BHLK.dtype).triu_(1)
    query_RLK, key_RLK, value_RLK = (x.flatten(0, 1) for x in (query_BHLK, key_BHLK, value_BHLK))
    scale = 1 / math.sqrt(query_RLK.shape[2])
    weight_RLL = torch.baddbmm(future_LL, query_RLK, key_RLK.mT, alpha=scale).softmax(dim=-1)
    return (dropout(weight_RLL) @ value_RLK).unflatten(0, query_BHLK.shape[:2])


def attend_once(
    query_BHK: Tensor, key_BHLK: Tensor, value_BHLK: Tensor, position_B: Tensor
) -> Tensor:
    """Attention of one position of each row, without dropout.

    Parameters
    ----------
    query_BHK
        float ``[rows, heads, size of a head]``: of the position that asks.
    key_BHLK, value_BHLK
        float ``[rows, heads, positions, size of a head]``.
    position_B
        int64 ``[rows]``: which position asks; what comes after it is not seen.

    Returns
    -------
    float ``[rows, heads, size of a head]``
    """
    column_L = torch.arange(key_BHLK.shape[2], device=position_B.device)
    is_future_BL = column_L > position_B[:, None]
    score_BHL = (key_BHLK @ query_BHK[..., None]).squeeze(3) / math.sqrt(query_BHK.shape[2])
    weight_BHL = score_BHL.masked_fill(is_future_BL[:, None], -math.inf).softmax(dim=-1)
    return (weight_BHL[:, :, None] @ value_BHLK).squeeze(2)
