"""Bad input by the million: bytes that a fuzzer makes, and what must hold for each of them."""
