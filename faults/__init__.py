"""Faults between a client and Supabase, and what may not happen in spite of them."""
