"""Own ids to numbers. Numbers follow the sorted ids, so the order of rows does not matter."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from peercollab.data.sequences import IdArray, Int64Array


def number(values: pa.Array | pa.ChunkedArray) -> tuple[Int64Array, IdArray]:
    """Numbers of ids, and the ids.

    Parameters
    ----------
    values
        Text ``[rows]``, without nulls; plain or dictionary-encoded.

    Returns
    -------
    tuple
        int64 ``[rows]`` numbers and object (str) ``[ids]``, sorted by code point, all used.
    """
    if isinstance(values, pa.ChunkedArray):
        if not pa.types.is_dictionary(values.type):
            values = values.dictionary_encode()
        values = values.unify_dictionaries().combine_chunks()
    if pa.types.is_dictionary(values.type):
        of_entry, ids = number(values.dictionary)
        return renumber(of_entry[values.indices.to_numpy()], ids)
    encoded = values.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order.to_numpy()] = np.arange(len(order))
    ids = encoded.dictionary.take(order).to_numpy(zero_copy_only=False)
    return numbers[encoded.indices.to_numpy()], ids.astype(object)


def renumber(numbers: Int64Array, ids: IdArray) -> tuple[Int64Array, IdArray]:
    """The same rows with the ids that they use, numbered densely in the same order."""
    used = np.bincount(numbers, minlength=len(ids)) > 0
    if used.all():
        return numbers, ids
    return (np.cumsum(used) - 1)[numbers], ids[used]
