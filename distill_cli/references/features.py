"""Losses on features."""

from __future__ import annotations

from distill_cli.references.plain import Reference

REFERENCES: dict[str, Reference] = {}
