"""``python -m supabase_auth_state`` is the command ``supabase-auth-state``."""

from __future__ import annotations

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
