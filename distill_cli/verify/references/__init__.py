"""Each loss once more, as for-loops over Python floats written from its paper's formula: what `distill verify` compares with."""

from __future__ import annotations

from distill_cli.verify.references import features, labels, logits, relations
from distill_cli.verify.references.plain import Reference

# By class name of the shipped loss.
REFERENCES: dict[str, Reference] = {**logits.REFERENCES, **labels.REFERENCES, **features.REFERENCES, **relations.REFERENCES}
