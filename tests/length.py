"""How far the tests go that draw at random: `TEST_LENGTH=10 make test` goes ten times as far."""

from __future__ import annotations

import os

LENGTH = float(os.environ.get("TEST_LENGTH", "1"))
"""What the number of their conversations, turns and schedules is multiplied by."""
