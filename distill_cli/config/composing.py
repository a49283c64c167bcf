"""Hydra's config loader, extended for models and presets.

Models serve both roles, and values of presets follow their option.

An experiment sets `loss.alpha` for the loss that it chooses. Where the command line, or another preset, chooses another loss,
that value would stay with another meaning or none: docs/decisions/0008-experiment-values-follow-their-option.md. Several
options for a place that takes one, which Hydra would merge, are an error.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import hydra
import hydra._internal.hydra as hydra_main
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import GroupDefault, ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from distill_cli.config.options import GROUP_HELP, TAKE_SEVERAL, conf_dir, one_option
from distill_cli.config.roles import RoleRepository
from distill_cli.errors import UserError, nearest

# Groups of presets. An experiment is a whole recipe; hparams override the values of any recipe.
RECIPES, OVERLAYS = "experiment", "hparams"
# Keys of an option about its use next to others, not about the option itself.
PLACE_KEYS = {"loss": ("weight",)}
Options = Mapping[str, frozenset[str]]  # a place in the config, such as teacher.optimizer: the files that fill it


class OptionLoader(ConfigLoaderImpl):
    """Hydra's config loader without a preset's values for options not chosen."""

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self.repository = RoleRepository(config_search_path)

    def _parse_overrides_and_create_caching_repo(self, config_name: str | None, overrides: list[str]) -> Any:
        parsed, repo = super()._parse_overrides_and_create_caching_repo(config_name, overrides)
        typed = [override.key_or_group for override in parsed]
        self._parsed = parsed
        self._typed_choice = any(repo.group_exists(key) for key in typed if key not in (RECIPES, OVERLAYS))
        return parsed, repo

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        refuse_several(defaults)
        chosen, presets = filled(defaults), [d for d in defaults if group_of(d.config_path) in (RECIPES, OVERLAYS)]
        compared = presets if self._typed_choice or len(presets) > 1 else []  # one preset alone chose everything
        self._meant = {
            str(default.config_path): dropped for default in compared if (dropped := meant(default, defaults, chosen, repo))
        }
        cfg = super()._compose_config_from_defaults_list(defaults, repo)
        for override in self._parsed:
            if override.type is OverrideType.CHANGE and "." in override.key_or_group and override.package is None:
                add_parameter(override, cfg, self._parsed)
        return cfg

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> Any:
        loaded = super()._load_single_config(default, repo)
        if places := self._meant.get(str(default.config_path)):
            loaded = copy.copy(loaded)
            loaded.config = copy.deepcopy(loaded.config)  # the repository caches the files it has read
            for place, shared_keys in places.items():
                take_out(loaded.config, place, shared_keys)
        return loaded


def install() -> None:
    """Make Hydra compose with this loader, also in the jobs of a sweep."""
    hydra_main.ConfigLoaderImpl = OptionLoader  # type: ignore[misc]


def compose_option(group: str, name: str, folders: Iterable[Path]) -> dict[str, Any]:
    """Return an option of a group as `distill` composes it, resolved.

    Args:
        group: such as ``loss``.
        name: of the option.
        folders: that are searched beside the tool's own.
    """
    from distill_cli.config import schema  # noqa: F401  (importing the schema registers it)
    from distill_cli.config.error_messages import HYDRA14

    install()
    search = f"hydra.searchpath=[{','.join(f'file://{folder.resolve()}' for folder in folders)}]"
    with hydra.initialize_config_dir(str(conf_dir()), **({} if HYDRA14 else {"version_base": "1.3"})):
        composed: Any = OmegaConf.to_container(hydra.compose("distill", [search, f"{group}={name}"])[group], resolve=True)
    return composed


def add_parameter(override: Override, cfg: DictConfig, parsed: Iterable[Override]) -> None:
    """Allow an override of a component's parameter that its yaml does not list.

    Without this rule the override would need a plus.

    Args:
        override: override of the command line; its type is changed in place.
        cfg: composed config.
        parsed: all overrides of the command line.

    Raises:
        UserError: the component's target has no such parameter, or cannot be imported.
    """
    place, key, target = component_of(override.key_or_group, cfg, parsed)
    if not target:
        return
    # Imported here, because it imports torch where a target does, which most command lines do not need.
    from distill_cli.config.validation.components import find_target, parameter_names

    names = parameter_names(find_target(place, target))
    if names is not None and key not in names:
        listed = [str(name) for name in OmegaConf.select(cfg, place) if not str(name).startswith("_")]
        known = list(dict.fromkeys([*listed, *names]))
        match, name = nearest(key, known), target.rpartition(".")[2]
        hint = f"did you mean '{place}.{match}'?" if match else f"{name} takes {', '.join(known)}"
        raise UserError(f"unknown key '{override.key_or_group}'; {hint}")
    override.type = OverrideType.FORCE_ADD


def component_of(path: str, cfg: DictConfig, parsed: Iterable[Override]) -> tuple[str, str, str]:
    """Return place, parameter and target of the component that a key belongs to.

    Three empty strings are returned where the component's yaml lists the key, or there is no component.
    """
    typed = {o.key_or_group: str(o.value()) for o in parsed if o.key_or_group.endswith("._target_") and not o.is_sweep_override()}
    parts = path.split(".")
    node: Any = cfg
    for n, part in enumerate(parts):
        place = ".".join(parts[:n])
        if not isinstance(node, DictConfig) or node._is_none() or node._is_missing() or node._is_interpolation():
            return "", "", ""
        if node._get_node(part) is None:
            stage = len(parts) == 4 and parts[0] == "stages" and n == 3
            own = typed.get(f"{place}._target_") or node._get_node("_target_")
            whole = cfg._get_node(parts[2]) if stage and own is None else None
            target = whole._get_node("_target_") if isinstance(whole, DictConfig) else own
            return (place, part, str(target)) if target is not None and str(target) != "???" else ("", "", "")
        node = node._get_node(part)
    return "", "", ""


def refuse_several(defaults: Iterable[ResultDefault]) -> None:
    """Raise an error for several options at one place of the config.

    Raises:
        UserError: names the options, and how to choose each.
    """
    entries: dict[tuple[Any, ...], list[str]] = {}
    for default in defaults:
        group, _, option = str(default.config_path).partition("/")
        if group in GROUP_HELP and group not in TAKE_SEVERAL and group != group_of(default.parent):
            entries.setdefault((default.parent, group, default.package), []).append(option)
    for (_, group, place), names in entries.items():
        if len(names) > 1:
            raise UserError(one_option(group, place or group, names))


def group_of(config_path: str | None) -> str:
    """Return the group of an option's path, such as `loss` of ``loss/dkd``."""
    return str(config_path).partition("/")[0]


def filled(defaults: Iterable[ResultDefault]) -> Options:
    """Return the files that fill each place of the config, except the root."""
    places: dict[str, frozenset[str]] = {}
    for default in defaults:
        if default.package and default.config_path:
            places[default.package] = places.get(default.package, frozenset()) | {default.config_path}
    return places


def meant(
    default: ResultDefault, defaults: list[ResultDefault], chosen: Options, repo: IConfigRepository
) -> dict[str, frozenset[str]]:
    """Return the places that a preset fills with another option than was chosen.

    Each place comes with the keys that hold for any option there.
    """
    owner = owner_of(default, defaults)
    options = options_of(owner, defaults, repo)
    if group_of(owner) == OVERLAYS:
        own = chosen_by(owner, repo)
        options = {place: files for place, files in options.items() if place in own}
    places = {}
    for place, files in options.items():
        if place in chosen and files != chosen[place]:
            shared = [key for file in files & chosen[place] for key in keys_of(file, repo)]
            inner = [p.removeprefix(f"{place}.").partition(".")[0] for p in chosen if p.startswith(f"{place}.")]
            usage = [key for file in files for key in PLACE_KEYS.get(group_of(file), ())]
            places[place] = frozenset((*shared, *inner, *usage))
    return places


def owner_of(default: ResultDefault, defaults: list[ResultDefault]) -> str:
    """Return the preset that a file's choices belong to.

    The preset is the file itself, or for a part named ``_part`` the preset that names the part.
    """
    path = str(default.config_path)
    if not path.rpartition("/")[2].startswith("_"):
        return path
    above = next((d for d in defaults if d.config_path == default.parent), None)
    return owner_of(above, defaults) if above is not None and group_of(above.config_path) in (RECIPES, OVERLAYS) else path


def options_of(preset: str, defaults: list[ResultDefault], repo: IConfigRepository) -> Options:
    """Return the files that fill each place if only this preset is chosen."""
    command = next(default.config_path for default in defaults if default.primary)
    group, _, name = preset.partition("/")
    line: list[Override] = OverridesParser.create().parse_overrides([f"{group}={name}"])
    try:
        return filled(create_defaults_list(repo, command, line, prepend_hydra=False, skip_missing=True).defaults)
    except HydraException:
        return {}  # a preset that is not whole without another


def chosen_by(preset: str, repo: IConfigRepository) -> set[str]:
    """Return the places for which a preset's own file chooses an option."""
    loaded = repo.load_config(config_path=preset)
    entries = [entry for entry in (loaded.defaults_list or [] if loaded else []) if isinstance(entry, GroupDefault)]
    return {entry.package or str(entry.group).lstrip("/") for entry in entries}


def keys_of(file: str, repo: IConfigRepository) -> list[str]:
    """Return the keys that an option's file sets."""
    loaded = repo.load_config(config_path=file)
    return [str(key) for key in loaded.config] if loaded is not None and isinstance(loaded.config, DictConfig) else []


def take_out(config: Any, place: str, except_keys: frozenset[str]) -> None:
    """Remove the values of a config at a place, except some keys."""
    above, _, key = place.rpartition(".")
    node: Any = config
    for part in above.split(".") if above else ():
        node = node._get_node(part) if isinstance(node, DictConfig) else None
    if not isinstance(node, DictConfig) or key not in node:
        return
    inner = node._get_node(key)
    if isinstance(inner, DictConfig) and not OmegaConf.is_interpolation(node, key) and not inner._is_none():
        for name in [name for name in inner if name not in except_keys]:
            del inner[name]
    else:
        del node[key]
