from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from distill_cli.data import heartbeat_source, wfdb_source
from distill_cli.data.beats import CLASS_NAMES, Cut, beat_lengths, cut_beats
from distill_cli.data.checks import check_dataset
from distill_cli.data.heartbeat import DS1, DS2, VALIDATION, heartbeat
from distill_cli.errors import UserError

from .conftest import SECONDS

STANDARD = Cut(125, 187, 1.2, 10, "minmax_beat")
