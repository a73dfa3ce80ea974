-- What every Supabase project has before the first migration: roles, schemas, settings, grants.
-- Run once by the superuser supabase_admin in a new cluster. A blank line ends a statement: the file
-- is read by `postgres --single -j`.
-- Source: github.com/supabase/postgres, migrations/db, as of October 2026.

create role anon nologin;

create role authenticated nologin;

create role service_role nologin bypassrls;

create role authenticator login noinherit;

grant anon, authenticated, service_role to authenticator;

create role postgres login createdb createrole replication bypassrls password 'postgres';

grant anon, authenticated, service_role to postgres with admin option;

grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;

alter role postgres set search_path = "$user", public, extensions;

alter role supabase_admin set search_path = "$user", public, auth, extensions;

alter role anon set statement_timeout = '3s';

alter role authenticated set statement_timeout = '8s';

alter role authenticator set statement_timeout = '8s';

alter role authenticator set lock_timeout = '8s';

alter database postgres owner to postgres;

create schema extensions;

grant usage on schema extensions to anon, authenticated, service_role;

grant all on schema extensions to postgres;

create extension pgcrypto with schema extensions;

create extension "uuid-ossp" with schema extensions;

create extension pg_stat_statements with schema extensions;

create schema auth;

grant usage on schema auth to postgres, anon, authenticated, service_role;

create function auth.jwt() returns jsonb language sql stable as $$
  select nullif(current_setting('request.jwt.claims', true), '')::jsonb
$$;

create function auth.role() returns text language sql stable as $$
  select auth.jwt() ->> 'role'
$$;

create function auth.uid() returns uuid language sql stable as $$
  select (auth.jwt() ->> 'sub')::uuid
$$;

grant usage on schema public to postgres, anon, authenticated, service_role;

-- The old default, in force until 2026-10-30: whatever postgres creates in public is everybody's.
alter default privileges for role postgres in schema public
  grant all on tables to anon, authenticated, service_role;

alter default privileges for role postgres in schema public
  grant all on functions to anon, authenticated, service_role;

alter default privileges for role postgres in schema public
  grant all on sequences to anon, authenticated, service_role;

create database pristine template postgres owner postgres is_template true;
