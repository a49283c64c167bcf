"""Reference implementations of the losses for `distill verify`.

For-loops over Python floats, written from the papers' formulas.
"""

from __future__ import annotations

from distill_cli.verify.references import features, labels, logits, relations
from distill_cli.verify.references.plain import Reference

# References by class name of the shipped loss.
REFERENCES: dict[str, Reference] = {**logits.REFERENCES, **labels.REFERENCES, **features.REFERENCES, **relations.REFERENCES}
