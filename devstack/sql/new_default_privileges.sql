-- The default since 2026-10-30 (new projects since 2026-05-30), on top of the old one: what postgres
-- creates in public is reachable through the API by nobody, not even by service_role.
-- Truncate, references, trigger and maintain stay granted, as they do on Supabase.
-- Source: Supabase CLI 3.1.0, `api.auto_expose_new_tables = false`.
alter default privileges for role postgres in schema public
  revoke select, insert, update, delete on tables from anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  revoke usage, select on sequences from anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  revoke execute on functions from anon, authenticated, service_role;
-- Supabase's guide "Securing your API" goes on to take execute from public. Only the form without a
-- schema does so: a default in a schema can add to the built-in grants, not take from them.
alter default privileges for role postgres revoke execute on functions from public;
