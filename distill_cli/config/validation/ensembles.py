"""Checks of the keys of `teacher` for several teachers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from distill_cli.config.settings.teacher import SOURCES, EnsembleSettings
from distill_cli.config.validation.rules import check_complete, format_value
from distill_cli.errors import UserError

ENSEMBLE_KEYS = tuple(f.name for f in fields(EnsembleSettings))


def check_ensemble(teacher: Mapping[str, Any]) -> None:
    """Check the keys for several teachers against each other.

    Args:
        teacher: plain, resolved config of the teacher.

    Raises:
        UserError: the first fault.
    """
    if not isinstance(teacher["ensemble"], Mapping):
        raise UserError(
            f"teacher.ensemble={format_value(teacher['ensemble'])}: has keys of its own; set teacher.ensemble.KEY=VALUE"
        )
    check_complete(teacher["ensemble"], ENSEMBLE_KEYS, "teacher.ensemble.")
    members, folders, names = teacher["ensemble"]["size"], teacher["run"], teacher["run_model"]
    for key in ("weights", "logits_file"):
        if isinstance(teacher[key], list):
            raise UserError(
                f"teacher.{key}={format_value(teacher[key])}: expected one file; an ensemble is made of run folders "
                "(teacher.run=[RUN_A,RUN_B]) or trained here (teacher.ensemble.size=5)"
            )
        if members > 1 and teacher[key] is not None:
            raise UserError(
                f"teacher.ensemble.size={members}: members are trained here, and teacher.{key} is there already; choose one"
            )
    if members > 1 and folders is not None:
        raise UserError(f"teacher.ensemble.size={members}: members are trained here; teacher.run=[RUN_A,RUN_B] needs no number")
    if isinstance(folders, list):
        if not folders or not all(isinstance(folder, str) and folder.strip() for folder in folders):
            raise UserError(f"teacher.run={format_value(folders)}: expected a run folder, or a list of them")
        members = len(folders)
    elif not isinstance(folders, str | None):
        raise UserError(f"teacher.run={format_value(folders)}: expected a run folder, or a list of them")
    if isinstance(names, list):
        if not isinstance(folders, list) or len(names) != members or not all(isinstance(name, str) for name in names):
            expected = f"{members} names, one a folder of teacher.run" if isinstance(folders, list) else "one name"
            raise UserError(f"teacher.run_model={format_value(names)}: expected {expected}")
    elif not isinstance(names, str):
        raise UserError(f"teacher.run_model={format_value(names)}: expected teacher, student or a control's name")
    check_weights(teacher["ensemble"]["weights"], members)


def check_source(teacher: Mapping[str, Any], *, trained: bool) -> None:
    """Check that a teacher has at most one source.

    A teacher that is to be trained must have none.

    Raises:
        UserError: it is given twice, or is there already.
    """
    sources = [key for key in SOURCES if teacher[key] is not None]
    size = teacher["ensemble"]["size"]
    if trained and size > 1:
        raise UserError(
            f"teacher.ensemble.size={size}: train-teacher trains one teacher a run; sweep over its seeds with "
            f"-m seed={teacher['seed']},{teacher['seed'] + 1},..., and distill teacher.ensemble.size={size} finds them"
        )
    if sources and trained:
        raise UserError(f"teacher.{sources[0]} names a teacher that is there already, and train-teacher trains one; leave it out")
    if len(sources) > 1:
        raise UserError(f"teacher.{sources[0]} and teacher.{sources[1]} are both given; a teacher comes from one of them")


def check_weights(weights: Any, members: int) -> None:
    """Check the members' weights: one each, >= 0, not all 0.

    Raises:
        UserError: names the number of weights expected.
    """
    if weights is None:
        return
    if members == 1:
        raise UserError(
            f"teacher.ensemble.weights={format_value(weights)}: there is one teacher; "
            "set teacher.ensemble.size or a list of "
            "teacher.run"
        )
    numbers = isinstance(weights, list) and all(isinstance(w, int | float) and not isinstance(w, bool) for w in weights)
    if not numbers or len(weights) != members or not all(0 <= w < math.inf for w in weights) or not sum(weights):
        raise UserError(
            f"teacher.ensemble.weights={format_value(weights)}: expected {members} numbers >= 0, one a member, not all of them 0"
        )
