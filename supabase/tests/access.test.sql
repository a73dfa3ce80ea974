-- Who may do what with the tables and functions of supabase-auth-state: `supabase test db` shows it in your project.
begin;
create extension if not exists pgtap with schema extensions;
set local search_path = extensions, public, pg_catalog;
select no_plan();

-- anon and authenticated may do nothing, with any table, any of its columns, or any function.
select is_empty(
  $$ select r.role, c.relname, p.name
    from pg_class c
    cross join unnest(array['anon', 'authenticated']) as r (role)
    cross join unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) as p (name)
    where c.relnamespace = 'public'::regnamespace and c.relname like 'whatsapp%' and c.relkind in ('r', 'v')
      and (has_table_privilege(r.role, c.oid, p.name)
        or p.name in ('select', 'insert', 'update', 'references') and has_any_column_privilege(r.role, c.oid, p.name)) $$,
  'anon and authenticated have no privilege on any table, view or column');
select is_empty(
  $$ select r.role, p.proname
    from pg_proc p
    cross join unnest(array['anon', 'authenticated']) as r (role)
    where p.pronamespace = 'public'::regnamespace and p.proname like '%whatsapp%' and has_function_privilege(r.role, p.oid, 'execute') $$,
  'anon and authenticated may call no function');

-- Every table has row level security, and its policies are for the service role alone.
select is_empty(
  $$ select c.relname from pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relname like 'whatsapp%' and c.relkind = 'r' and not c.relrowsecurity $$,
  'every table has row level security');
select is_empty(
  $$ select p.tablename, p.roles from pg_policies p
    where p.schemaname = 'public' and p.tablename like 'whatsapp%' and p.roles <> array['service_role']::name[] $$,
  'every policy is for the service role alone');
select is_empty(
  $$ select c.relname from pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relname like 'whatsapp%' and c.relkind = 'v'
      and not coalesce('security_invoker=true' = any (c.reloptions), false) $$,
  'every view sees what its caller may see');

-- What was replaced and removed is read by no role at all.
select table_privs_are('public', t.name, 'service_role', array[]::text[], t.name || ' is read by no role')
from unnest(array['whatsapp_creds_history', 'whatsapp_quarantine', 'whatsapp_quarantine_keys']) as t (name);

-- Only the lease functions and the guard change leases, writers and pauses.
select table_privs_are('public', t.name, 'service_role', array['SELECT'], t.name || ' is changed by functions only')
from unnest(array['whatsapp_leases', 'whatsapp_writers', 'whatsapp_pauses']) as t (name);

-- Functions look up no name that a caller could have made.
select is_empty(
  $$ select p.proname from pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname like '%whatsapp%'
      and not coalesce('search_path=""' = any (p.proconfig), false) $$,
  'every function has an empty search_path');

-- Realtime sends changes of tables that are in a publication.
select is_empty(
  $$ select p.pubname, p.tablename from pg_publication_tables p where p.schemaname = 'public' and p.tablename like 'whatsapp%' $$,
  'no table is in a publication');

-- And by doing it.
set local role anon;
select throws_ok('select creds from public.whatsapp_auth', '42501', null, 'anon reads no creds');
select throws_ok('select value from public.whatsapp_keys', '42501', null, 'anon reads no keys');
select throws_ok($$ select public.whatsapp_history('962302') $$, '42501', null, 'anon sees no history');
set local role authenticated;
select throws_ok('select creds from public.whatsapp_auth', '42501', null, 'authenticated reads no creds');
select throws_ok($$ insert into public.whatsapp_auth (company_id, creds) values ('962302', '{}') $$, '42501', null, 'authenticated stores no creds');
set local role service_role;
select throws_ok('select creds from public.whatsapp_creds_history', '42501', null, 'the service role reads no earlier creds');
reset role;

select * from finish();
rollback;
