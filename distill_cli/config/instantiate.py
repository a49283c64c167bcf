"""Building of the components of a config: mappings with a `_target_`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from distill_cli.config.trust import iter_leaves
from distill_cli.config.validation.components import check_component, find_target
from distill_cli.errors import UserError


def hydra_whitelist(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the argument that lists the callables allowed in Hydra 1.4.

    Configs from run folders were checked by `check_trusted` before.
    """
    if "_execution_whitelist_" not in inspect.signature(instantiate).parameters:
        return {}
    return {"_execution_whitelist_": [str(value) for key, value in iter_leaves(settings, "", "") if key.endswith("_target_")]}


def instantiate_component(node: Mapping[str, Any], path: str, **context: Any) -> Any:
    """Return a component built from its config.

    Args:
        node: mapping with `_target_`.
        path: place in the config, for messages.
        context: arguments passed if the target's signature names them and the config does not set them.

    Raises:
        UserError: the target cannot be found, lacks an argument, or rejects one (ValueError, OSError).
    """
    settings: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else dict(node)
    check_component(path, settings)
    target = find_target(path, settings["_target_"])
    parameters = parameters_of(target)
    arguments = {k: v for k, v in context.items() if k in parameters and k not in settings}
    for name, p in parameters.items():
        needed = p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        if needed and not {name, "_args_", "_partial_"} & {*settings, *arguments}:
            raise UserError(f"{path}: {target.__qualname__} needs '{name}'; set it with {path}.{name}=VALUE")
    try:
        # A partial keeps these arguments out of OmegaConf, which would wrap and copy them.
        make = instantiate({**settings, "_convert_": "all", "_partial_": True}, **hydra_whitelist(settings))
        return partial(make, **arguments) if settings.get("_partial_") else make(**arguments)
    except Exception as e:
        cause: BaseException = e
        while isinstance(cause, HydraException) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, ValueError | OSError | HydraException):
            raise UserError(f"{path}: {' '.join(str(cause).split())}") from None
        raise cause from None


def parameters_of(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a class or function, none where they are unknown."""
    try:
        return inspect.signature(target).parameters
    except (ValueError, TypeError):
        return {}
