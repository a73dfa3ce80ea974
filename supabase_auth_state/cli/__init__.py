"""The commands of ``supabase-auth-state``: each has a parser and a coroutine that does it.

What takes time to import is imported inside the coroutines: ``--help`` needs none of it.
"""
