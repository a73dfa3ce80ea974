"""Keys of tests, which seal values."""

from __future__ import annotations

import base64

K1 = f"k1:{base64.b64encode(bytes(range(32))).decode()}"
K2 = f"k2:{base64.b64encode(bytes(range(32, 64))).decode()}"
OTHER_K1 = f"k1:{base64.b64encode(bytes(range(64, 96))).decode()}"
"""Another key of the id k1."""
