"""PostgREST: send what the Supabase client builds, retry, and read the answers."""
