"""The command `distill verify`: losses against their references.

Each loss, also a user's own, is compared with its reference and with finite differences, and its declared properties are checked.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill_cli.commands.parser import Parser
from distill_cli.errors import UserError, did_you_mean
from distill_cli.verify.select_losses import Row, select_losses, verify_loss

HELP = """\
usage: distill verify [loss=NAME,...] [loss.KEY=VALUE ...] [flags]

Hold losses against their formulas, in both variants where paper and common code differ:
  value        largest relative difference from the reference, a for-loop in float64 written from the paper
  gradient     the same of slopes along random directions, from central differences; outputs and the loss's own parameters
  at teacher   0: loss and gradient vanish where the student equals its teacher; flat: the gradient does; -: not declared
  alone        ok: a sample has the same loss in any batch; relates: the loss relates samples, and is a scalar
  finite       loss and gradient stay finite with large outputs in fp16 and bf16, with zeros, constants and thousands
  own          how many parameters of its own the loss trains; every one gets a gradient, and the optimizer sees it
  intact       the outputs of teachers and student, and the batch, are bit-equal afterwards
  labels       rows without a label do not tell it; uses_labels = False and uses_teacher = False are true
Exit code 1 if a check fails. How a loss of your own offers a reference: docs/extend.md.

  distill verify                                  all options of the group loss
  distill verify loss=dkd,dist                    some
  distill verify loss=dkd loss.temperature=1      with other settings
  distill verify loss._target_=my_losses.Margin   a class or function without a yaml
flags:
  --config-dir DIR     a folder with losses of your own, which are verified with the others
  --json               print the table as JSON to stdout, and nothing else there
"""


WIDE = 140  # characters; a narrower terminal omits the sources


@dataclass
class Arguments:
    """Parsed arguments of the command."""

    losses: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)
    json: bool = False


def parse(argv: Sequence[str]) -> Arguments:
    """Return the parsed arguments.

    Raises:
        UserError: a flag or argument is unknown, or a folder does not exist.
    """
    import yaml

    typed = Parser("verify", "--json", "--config-dir").read(argv)
    arguments = Arguments(folders=typed.config_dir, json=typed.json)
    for text in typed.words:
        key, equals, value = text.partition("=")
        if key == "loss" and equals:
            arguments.losses += [name for name in value.split(",") if name]
        elif key.startswith("loss.") and equals:
            try:
                arguments.settings[key.removeprefix("loss.")] = yaml.safe_load(value)
            except yaml.YAMLError:
                raise UserError(f"{text}: cannot be read as a value") from None
        else:
            hint = did_you_mean(text, ["loss="]) or "; see distill verify --help"
            raise UserError(f"'{text}': expected loss=NAME or loss.KEY=VALUE{hint}")
    return arguments


def main(argv: Sequence[str]) -> int:
    """Run the command, and return the exit code, 1 if a check failed.

    Raises:
        UserError: a loss, key or folder does not exist, or a loss cannot be built.
    """
    typed = parse(argv)
    sys.path.append(os.getcwd())  # for `_target_: my_losses.Mine`; a console script lacks the working folder
    from distill_cli.reports.terminal import console

    losses = select_losses(typed.losses, typed.settings, typed.folders)

    on = console(sys.stderr if typed.json else None)
    rows: list[Row] = []
    with on.status("") as status:
        for name, node in losses.items():
            status.update(f"verifying {name}")
            rows += verify_loss(name, node, typed.settings)
    if typed.json:
        print(json.dumps([as_json(row) for row in rows], indent=2, ensure_ascii=False))
    show(rows, on)
    return 1 if any(row.problems for row in rows) else 0


def as_json(row: Row) -> dict[str, Any]:
    """Return a row as ``--json`` prints it."""
    cells = {check: {"found": o.cell, "problem": o.problem or None} for check, o in row.outcomes.items()}
    return {"loss": row.loss, "variant": row.variant, "source": row.source, "checks": cells}


def show(rows: Sequence[Row], on: Any) -> None:
    """Print the table, and a line for each problem."""
    from distill_cli.reports.terminal import print_line, table
    from distill_cli.verify.run import CHECKS

    narrow = on.is_terminal and on.width < WIDE
    first = ["loss", "variant"] if narrow else ["loss", "variant", "source"]
    cells = [[*(getattr(row, name) for name in first), *(row.outcomes[check].cell for check in CHECKS)] for row in rows]
    on.print(table(on, [*first, *CHECKS], cells, left=len(first)))
    problems = [line for row in rows for line in row.problems]
    for line in problems:
        print_line(on, line, style="red")
    losses = len({row.loss for row in rows})
    count = f"{losses} loss{'es' if losses > 1 else ''} in {len(rows)} variant{'s' if len(rows) > 1 else ''}"
    print_line(on, f"{count}: {f'{len(problems)} failed checks' if problems else 'every check holds'}", style="bold")
