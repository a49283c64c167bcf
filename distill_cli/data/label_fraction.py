"""Label fractions and transfer sets without some classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from distill_cli.data.arrays import is_whole, named_class
from distill_cli.errors import UserError, did_you_mean
from distill_cli.rng import numpy_generator
from distill_cli.types import Pool


def label_mask(y: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return a mask ``[N]`` of the rows whose labels may be used.

    `fraction` of every class (or stratum), one row at least.

    Nested: with the same seed, the rows of a smaller fraction are among those of a larger one.

    Raises:
        UserError: `fraction` not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise UserError(f"label_fraction must be above 0 and at most 1, got {fraction}")
    order = numpy_generator(seed, "labels").permutation(len(y))
    mask = np.zeros(len(y), dtype=bool)
    for c in np.unique(y):
        members = order[y[order] == c]
        mask[members[: max(1, round(fraction * len(members)))]] = True
    return mask


def mask_labels(pool: Pool, fraction: float, seed: int, strata: np.ndarray) -> Pool:
    """Return the pool with labels for a stratified fraction of its rows.

    All rows stay.

    Call it before `drop_classes`, so that the labeled rows do not depend on the excluded classes.
    """
    return replace(pool, labeled=pool.labeled & label_mask(strata, fraction, seed))


def class_positions(class_names: Sequence[str], classes: Sequence[str | int]) -> list[int]:
    """Return the positions of classes given by name or by position.

    Positions count only where no class is named by a number.

    Raises:
        UserError: no such class.
    """
    positions = []
    numbered = any(is_whole(n) for n in class_names)
    for c in classes:
        if (name := named_class(str(c), class_names)) is not None:
            positions.append(list(class_names).index(name))
        elif isinstance(c, int) and not isinstance(c, bool) and not numbered and 0 <= c < len(class_names):
            positions.append(c)
        else:
            known = ", ".join(class_names)
            raise UserError(f"dataset.exclude_classes: no class '{c}'{did_you_mean(str(c), class_names)} (classes: {known})")
    return positions


def drop_classes(pool: Pool, class_names: Sequence[str], exclude: Sequence[str | int]) -> Pool:
    """Return the pool without the rows of some classes.

    Hinton et al. 2015, section 3: a transfer set without the digit 3.

    Raises:
        UserError: no such class, or no row left.
    """
    if not exclude:
        return pool
    keep = ~np.isin(pool.y, class_positions(class_names, exclude))
    if not keep.any():
        raise UserError("dataset.exclude_classes leaves no training row; leave out fewer classes")
    return pool.select(keep)
