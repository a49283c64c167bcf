"""Writes docs/reference/ from help texts, config files and docstrings: ``python docs/generate_reference.py [--check]``.

With ``--check`` nothing is written, and the exit code is 1 where a file is not what it would be.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
REFERENCE = ROOT / "docs" / "reference"
COMMANDS = ("train-teacher", "distill", "eval", "export", "bench", "predict", "layers", "report", "ls", "verify")
TYPES = ("Pool", "Dataset", "Batch", "ModelOutput", "DataFacts", "Loss", "Stage", "EpochRecord")


def said(*words: str) -> str:
    """Return what a command line prints."""
    done = subprocess.run([sys.executable, "-m", "distill_cli", *words], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.rstrip()


def commands() -> Iterator[str]:
    """Yield the page of help texts."""
    yield "# Commands\n\nWhat `distill --help` and `distill COMMAND --help` print.\n"
    yield f"```text\n{said('--help')}\n```\n"
    for command in COMMANDS:
        yield f"## {command}\n\n```text\n{said(command, '--help')}\n```\n"


def options() -> Iterator[str]:
    """Yield the page of config files, group by group."""
    yield "# Options\n\nAs `distill ls GROUP/OPTION` prints them. `teacher` and `student` choose among `model`.\n"
    for group in ("teacher", "student", "dataset"):
        shared = said("ls", group).partition(f"with every option of {group}:\n")[2]
        yield f"## Keys of every {group}\n\n```yaml\n{shared}\n```\n"
    for group in sorted(p for p in CONF.iterdir() if p.is_dir() and p.name not in ("teacher", "student")):
        yield f"## {group.name}\n"
        for file in sorted(group.glob("*.yaml")):
            if not file.stem.startswith("_"):
                yield f"### {group.name}={file.stem}\n\n```yaml\n{file.read_text().rstrip()}\n```\n"


EXAMPLE_OUTPUTS = """\
import torch

from distill_cli.types import Batch, DataFacts, ModelOutput


def output(channels):
    maps = {"conv1": torch.randn(8, channels, 6, 6), "conv2": torch.randn(8, channels, 3, 3)}
    return ModelOutput(torch.randn(8, 3), {**maps, "pool": torch.randn(8, channels)})


student, teacher = output(4), output(16)
target = torch.eye(3)[torch.arange(8) % 3]
batch = Batch(torch.randn(8, 1, 12, 12), target, index=torch.arange(8), labeled=torch.ones(8))
facts = DataFacts(input_shape=(1, 12, 12), class_counts=(40, 40, 20), rows=100)
"""


def losses() -> Iterator[str]:
    """Yield the page of losses: what their docstrings say."""
    yield "# Losses\n\nFormulas, reductions and sources, from the docstrings. How to choose one: [losses](../losses.md).\n"
    yield f"The examples take outputs such as these, of eight rows:\n```python\n{EXAMPLE_OUTPUTS}```\n"
    yield "".join(f"::: distill_cli.losses.base.{name}\n\n" for name in ("DistillationLoss", "FeatureLoss", "RelationLoss"))
    targets = {}
    for file in sorted((CONF / "loss").glob("*.yaml")):
        target = next(line.split(":")[1].strip() for line in file.read_text().splitlines() if line.startswith("_target_:"))
        targets.setdefault(target, file.stem)
    for target, name in targets.items():
        yield f"## {name}\n\n::: {target}\n"


def types() -> Iterator[str]:
    """Yield the page of types."""
    yield "# Types\n\nWhat losses, models and data sets of your own meet.\n"
    for name in TYPES:
        yield f"::: distill_cli.types.{name}\n"


def main() -> int:
    """Write the pages, or compare them with what is there."""
    stale = []
    for make in (commands, options, losses, types):
        path, text = REFERENCE / f"{make.__name__}.md", "\n".join(make())
        if "--check" not in sys.argv:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif not path.is_file() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        print(f"docs/reference: {', '.join(stale)} is not up to date; run python docs/generate_reference.py", file=sys.stderr)
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
