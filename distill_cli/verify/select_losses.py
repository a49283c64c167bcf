"""Selection and verification of the losses of `distill verify`.

Each loss is read, built in each variant, and checked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_cli.config.options import conf_dir, options
from distill_cli.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from distill_cli.verify.probe import CheckResult

PLACES = [["first", "first"], ["second", "second"]]  # placeholder module paths for losses on features


@dataclass(frozen=True)
class Row:
    """Results of one loss in one variant."""

    loss: str
    variant: str
    source: str
    outcomes: Mapping[str, CheckResult]

    @property
    def problems(self) -> list[str]:
        """One line for each failed check."""
        name = f"{self.loss} ({self.variant})" if self.variant != "-" else self.loss
        return [f"{name}: {check}: {result.problem}" for check, result in self.outcomes.items() if result.problem]


def select_losses(names: Sequence[str], settings: Mapping[str, Any], folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Return the config of each selected loss by name.

    Raises:
        UserError: no such option.
    """
    known = options([conf_dir(), *folders])["loss"]
    if "_target_" in settings and not names:
        return {str(settings["_target_"]): {}}
    for name in names:
        if name not in known:
            hint = f"; a class without a yaml: loss._target_={name}" if "." in name else did_you_mean(name, known)
            raise UserError(f"loss={name}: no such option{hint} (available: {', '.join(known)})")
    return {name: read_option(name, known[name], folders) for name in names or known}


def read_option(name: str, file: Path, folders: Sequence[Path]) -> dict[str, Any]:
    """Return an option's keys.

    As in its file, or composed by Hydra where the option has a defaults list.

    Raises:
        UserError: the file cannot be read or composed.
    """
    import yaml

    from distill_cli.config.error_messages import one_line

    text = file.read_text(encoding="utf-8")
    try:
        node = yaml.safe_load(text)
        if isinstance(node, dict) and "defaults" not in node and "${" not in text:
            return node
        from distill_cli.config.composing import compose_option

        return compose_option("loss", name, folders)
    except Exception as e:
        raise UserError(f"loss={name}: {one_line(e, 'distill')}") from None


def verify_loss(name: str, node: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Row]:
    """Return a row for each variant of a loss.

    Raises:
        UserError: the loss cannot be built, or is no loss.
    """
    from distill_cli.config.instantiate import instantiate_component
    from distill_cli.verify.run import verify

    node = {key: value for key, value in {**node, **settings}.items() if key != "weight"}
    if "_target_" not in node:
        raise UserError(f"loss={name}: has no _target_; see docs/extend.md")
    target, parameters = signature(node["_target_"])
    if "features" in parameters and node.get("features") in (None, "???"):
        node["features"] = PLACES
    for key, value in node.items():
        if value == "???":
            raise UserError(f"loss={name}: needs loss.{key}=VALUE")
    fixed = "variant" in settings or "variant" not in parameters
    rows = []
    for variant in [node.get("variant", "-")] if fixed else variants(target, node):
        make = partial(instantiate_component, node if variant == "-" else {**node, "variant": variant}, "loss")
        try:
            rows.append(Row(name, str(variant), source(target), verify(make)))
        except ValueError as e:
            raise UserError(f"loss={name}: {e}") from None
    return rows


def signature(name: Any) -> tuple[Callable[..., Any], Mapping[str, Any]]:
    """Return the target of a `_target_` path, and its parameters."""
    from distill_cli.config.instantiate import parameters_of
    from distill_cli.config.validation.components import find_target

    target = find_target("loss", name)
    return target, parameters_of(target)


def variants(target: Callable[..., Any], node: Mapping[str, Any]) -> list[str]:
    """Return the variants of a loss.

    The values of a parameter ``variant: Literal[...]``, else the one that is set.
    """
    import inspect
    from typing import Literal, get_args, get_origin, get_type_hints

    hint = get_type_hints(target.__init__ if inspect.isclass(target) else target).get("variant")
    return list(get_args(hint)) if get_origin(hint) is Literal else [node.get("variant", "-")]


def source(target: Callable[..., Any]) -> str:
    """Return the first paper or repository in the docstring of a loss or its module."""
    import inspect
    import re

    texts = [inspect.getdoc(target) or "", sys.modules[target.__module__].__doc__ or ""]
    match = re.search(r"(?:arXiv|doi):[\w./-]*\w|github\.com/[\w.-]+/[\w.-]*\w", " ".join(texts))
    return match[0] if match else "-"
