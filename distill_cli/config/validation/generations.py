"""The links of `generations`, between teacher and student: each is the run's config with some of the student's keys changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from distill_cli.config.options import conf_dir, options
from distill_cli.config.validation.rules import at_least, check_keys, check_rules, format_value
from distill_cli.config.validation.values import STUDENT_ONLY
from distill_cli.errors import UserError, did_you_mean
from distill_cli.utils.files import safe_name

NOT_OF_A_LINK = ("student", "generations", "tuned_from")
# Keys that a link gives whole: an empty one takes the run's away.
WHOLE_KEYS = ("terms", "stages")
# Keys that a link may give; those of an option's group may name the option.
LINK_KEYS = ("name", "seed", "model", "preprocessing", *(key for key in STUDENT_ONLY if key not in NOT_OF_A_LINK))
MISSING = "???"  # how an option's file says that a value has to be given
OPTION_KEYS = ("model", "loss", "optimizer", "lr_scheduler", "augment", "mixup", "sampling")
RESERVED_NAMES = ("teacher", "student")
SEED_STEP = 1000


@dataclass(frozen=True)
class Generation:
    """One generation between teacher and student.

    Attributes:
        name: what reports call it.
        config: of its own run, plain and resolved; its teacher is put in by whoever runs it.
    """

    name: str
    config: dict[str, Any]

    def prefixed(self, error: UserError) -> UserError:
        """Return an error of its config with its name before it."""
        return UserError(f"generations.{self.name}: {error}")


def generations(config: Mapping[str, Any]) -> list[Generation]:
    """Return the links of a plain, resolved config, from the teacher's end to the student's.

    Raises:
        UserError: no list of mappings, a name that is taken or no file name, an unknown key or option.
    """
    chain = config.get("generations") or []
    if not isinstance(chain, list):
        raise UserError(
            f"generations={format_value(chain)}: expected a list such as [{{name: assistant, model: mlp_small}}], or [] for none"
        )
    found: list[Generation] = []
    for n, node in enumerate(chain):
        name = node.get("name") if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping) or not isinstance(name, str) or safe_name(name) != name or name in RESERVED_NAMES:
            raise UserError(
                f"generations.{n}={format_value(node)}: expected keys, "
                "with a name of letters, digits, '.', '_' and '-' that is not "
                f"{' or '.join(RESERVED_NAMES)}, such as {{name: assistant, model: mlp_small}}"
            )
        if name in {link.name for link in found}:
            raise UserError(f"generations.{n}.name={name}: there is such a link already; each needs a name of its own")
        check_keys(node, LINK_KEYS, f"generations.{name}.")
        found.append(Generation(name, _config(config, n, name, node)))
    return found


def _config(config: Mapping[str, Any], n: int, name: str, node: Mapping[str, Any]) -> dict[str, Any]:
    changes = {key: _option(f"generations.{name}.{key}", key, value) for key, value in node.items()}
    base = {**config, "model": config["student"].get("model"), "preprocessing": config["student"].get("preprocessing")}
    own = {
        **config,
        "generations": [],
        "controls": [],
        "tuned_from": None,
        "trial": None,
        "seed": config["teacher"]["seed"] + SEED_STEP * (n + 1),
    }
    own |= {key: _merged(base.get(key), value, key) for key, value in changes.items() if key != "name"}
    if own["seed"] is None:
        raise UserError(f"generations.{name}.seed=null: expected int")
    check_rules(own, {"seed": at_least(0)}, f"generations.{name}.")
    model, preprocessing = own.pop("model", base["model"]), own.pop("preprocessing", base["preprocessing"])
    own["student"] = {**config["student"], "model": model, "preprocessing": preprocessing}
    return own


def _merged(base: Any, value: Any, key: str) -> Any:
    """Return `value`, with what it leaves out taken from `base` where both are of the same kind."""
    if not isinstance(base, Mapping) or not isinstance(value, Mapping) or key in WHOLE_KEYS:
        return value
    if value.get("_target_", base.get("_target_")) != base.get("_target_"):
        return value
    return OmegaConf.to_container(OmegaConf.merge(OmegaConf.create(dict(base)), OmegaConf.create(dict(value))))


def _option(path: str, key: str, value: Any) -> Any:
    """Return the content of the option that a word names, or any other value as it is."""
    if key not in OPTION_KEYS or not isinstance(value, str):
        return value
    known = options(_folders())[key]
    if value not in known:
        raise UserError(f"{path}={value}: no such option{did_you_mean(value, known)} (available: {', '.join(known)})")
    content: Any = OmegaConf.to_container(OmegaConf.load(known[value]), resolve=True)
    if "defaults" in content:
        raise UserError(f"{path}={value}: this option is made of others; write its keys out in generations")
    if lacking := [name for name, part in content.items() if part == MISSING]:
        raise UserError(
            f"{path}={value}: {lacking[0]} is required; write its keys out in generations: "
            f"{key}: {{_target_: {content.get('_target_')}, {lacking[0]}: ...}}"
        )
    return content


def _folders() -> list[Path]:
    """Return the folders of the configs: the tool's, and those of ``--config-dir``."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else []
    return [conf_dir(), *(Path(source.path) for source in sources if source.schema == "file" and source.path)]
