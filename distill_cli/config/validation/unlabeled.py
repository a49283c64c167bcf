"""What `dataset.unlabeled` may be: null, a file, or a data set of its own. Works on a plain, resolved config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_cli.config.validation.rules import format_value
from distill_cli.errors import UserError

OPTION = "dataset.unlabeled"


def check_unlabeled(dataset: Mapping[str, Any]) -> None:
    """Check the source of rows without labels.

    Raises:
        UserError: neither a file nor a data set, or a data set with keys that its rows do not follow.
    """
    node = dataset.get("unlabeled")
    if node is None or (isinstance(node, str) and node.strip()):
        return
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{OPTION}={format_value(node)}: expected a .npy or .csv file, or a data set by +dataset@{OPTION}=OPTION")
    for key, neutral in (("label_fraction", (None, 1)), ("exclude_classes", (None, [])), ("unlabeled", (None,))):
        if node.get(key) not in neutral:
            raise UserError(
                f"{OPTION}.{key}={format_value(node[key])}: all training rows of this source are used; leave this key out"
            )
