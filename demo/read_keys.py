"""Reads what the import has stored, as a program of yours would."""

import asyncio

from supabase_auth_state import use_supabase_auth_state


async def main() -> None:
    """Open the company, and look at some of it."""
    async with use_supabase_auth_state("demo", lease=True) as auth:
        found = await auth.keys.get("session", ["200000000000100_1.0", "nobody.0"])
        identity = await auth.keys.get("identity-key", ["200000000008019_1.0"])
    print("registration id:", auth.creds["registrationId"])
    print("public key:", auth.creds["signedIdentityKey"]["public"].hex())
    print("sessions found:", list(found))
    print("identity key:", {name: type(key).__name__ for name, key in identity.items()})


asyncio.run(main())
