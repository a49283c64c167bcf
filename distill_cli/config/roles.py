"""Models in their roles as student and teacher.

`student=NAME` and `teacher=NAME` are answered from ``model/NAME.yaml`` of any config folder.

A file ``student/NAME.yaml`` or ``teacher/NAME.yaml`` goes before it: docs/decisions/0001-one-yaml-per-model.md.
"""

from __future__ import annotations

from hydra._internal.config_repository import ConfigRepository
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from distill_cli.config.options import ROLES


class RoleRepository(ConfigRepository):
    """Config repository with the models among the options of each role.

    Configs are located as Hydra does it; the models are those of the group `model`.
    """

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Return a config with its defaults list, None if it does not exist."""
        model = self._model_of(config_path)
        source = None if model is None else self._find_object_source(f"model/{model}", ObjectType.CONFIG)
        if source is None:
            return super().load_config(config_path)
        defaults = OmegaConf.create(["_common", {"/model@model": model}, "_self_"])
        place = f"{source.scheme()}://{source.path}"
        result = ConfigResult(source.provider, place, OmegaConf.create({}), {"package": None})
        result.defaults_list = self._create_defaults_list(config_path, defaults)
        return result

    def config_exists(self, config_path: str) -> bool:
        """Return whether a config has a file, or a role a model of this name."""
        return super().config_exists(config_path) or self._model_of(config_path) is not None

    def get_group_options(self, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG) -> list[str]:
        """Return the options of a group, sorted."""
        options = super().get_group_options(group_name, results_filter)
        models = super().get_group_options("model", results_filter) if group_name.strip("/") in ROLES else []
        return sorted({*options, *(name for name in models if not name.startswith("_"))})

    def _model_of(self, config_path: str) -> str | None:
        """Return the model that a role's option stands for.

        None where the option has a file of its own, or belongs to no role.
        """
        role, _, name = config_path.strip("/").removesuffix(".yaml").partition("/")
        if role not in ROLES or not name or name.startswith("_") or super().config_exists(config_path):
            return None
        return name if super().config_exists(f"model/{name}") else None
