-- Lists companies and counts owners without a look at every row, so that commands look as cheaply as the dashboard.
-- Works with supabase-auth-state 0.4; nothing that older versions call is changed.

-- 1. Which companies there are ------------------------------------------------------------------------------

-- The companies after p_after that have creds or keys, in order: {"companies": […], "after": …}. Begin with '' and go
-- on with "after" until it is null. Of a company one entry of an index is read, however many keys it has.
create function public.list_whatsapp_companies(p_after text default '', p_limit int default 5000)
returns jsonb
language sql
stable security definer
set search_path = ''
-- The next company is found by key, whatever outdated statistics suggest.
set enable_seqscan = off
set enable_bitmapscan = off
as $$
  with recursive company (company_id, n) as (
    select coalesce(p_after, '') collate "C", 0
    union all
    select x.company_id, c.n + 1
    from company c
    cross join lateral (
      select least(
        (select a.company_id from public.whatsapp_auth a where a.company_id > c.company_id order by a.company_id limit 1),
        (select k.company_id from public.whatsapp_keys k where k.company_id > c.company_id order by k.company_id limit 1)
      ) as company_id
    ) x
    where c.n < least(greatest(p_limit, 1), 5000) and x.company_id is not null
  )
  select jsonb_build_object(
    'companies', coalesce(jsonb_agg(c.company_id order by c.company_id) filter (where c.n > 0), '[]'),
    'after', case when max(c.n) = least(greatest(p_limit, 1), 5000) then max(c.company_id) end)
  from company c
$$;

revoke all on function public.list_whatsapp_companies(text, int) from public, anon, authenticated, service_role;
grant execute on function public.list_whatsapp_companies(text, int) to service_role;

-- 2. A company that has moved is owned by no process --------------------------------------------------------

-- Whether an owner is the mark of a company that has moved to another project, or is on its way from there.
create function public.whatsapp_is_mark(p_owner text)
returns boolean
language sql
immutable
set search_path = ''
as $$
  select coalesce(starts_with(p_owner, 'arriving from ') or starts_with(p_owner, 'moved to '), false)
$$;

revoke all on function public.whatsapp_is_mark(text) from public, anon, authenticated, service_role;

alter table public.whatsapp_statistics add column rated_at timestamptz;

comment on column public.whatsapp_statistics.rated_at is 'When commits and key_rows were taken, whose differences give the rates.';

create or replace function public.whatsapp_take_statistics()
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_commits bigint := pg_stat_get_tuples_inserted('public.whatsapp_writers'::regclass) + pg_stat_get_tuples_updated('public.whatsapp_writers'::regclass);
  v_key_rows bigint := pg_stat_get_tuples_inserted('public.whatsapp_keys'::regclass) + pg_stat_get_tuples_updated('public.whatsapp_keys'::regclass)
    + pg_stat_get_tuples_deleted('public.whatsapp_keys'::regclass);
  v_minutes float8;
begin
  update public.whatsapp_statistics s
  set refreshed_at = v_now,
    owned = (select count(*) from public.whatsapp_leases l
      where l.expires_at > v_now and l.company_id not like 'supabase-auth-state/%' and not public.whatsapp_is_mark(l.owner)),
    workers = (
      select coalesce(jsonb_agg(jsonb_build_object('owner', w.owner, 'companies', w.companies, 'since', extract(epoch from w.since),
        'until', extract(epoch from w.until)) order by w.companies desc, w.owner), '[]')
      from (
        select l.owner, count(*) as companies, min(l.acquired_at) as since, min(l.expires_at) as until
        from public.whatsapp_leases l
        where l.owner is not null and l.expires_at > v_now and l.company_id not like 'supabase-auth-state/%'
          and not public.whatsapp_is_mark(l.owner)
        group by l.owner order by count(*) desc, l.owner limit 1000
      ) w),
    commits = case when r.due then v_commits else s.commits end,
    key_rows = case when r.due then v_key_rows else s.key_rows end,
    rated_at = case when r.due then v_now else s.rated_at end,
    -- The database forgets its counts when it recovers from a crash.
    commits_per_minute = case when not r.due then s.commits_per_minute
      when v_commits >= s.commits then (v_commits - s.commits) / r.minutes end,
    key_rows_per_minute = case when not r.due then s.key_rows_per_minute
      when v_key_rows >= s.key_rows then (v_key_rows - s.key_rows) / r.minutes end
  from (
    -- A rate is that of half a minute or more, also when a person has looked a moment ago.
    select coalesce(v_now >= o.rated_at + interval '30 seconds', true) as due,
      nullif(extract(epoch from v_now - coalesce(o.rated_at, nullif(o.refreshed_at, '-infinity'))) / 60, 0) as minutes
    from public.whatsapp_statistics o
  ) r;

  insert into public.whatsapp_statistics_days (day, taken_at, companies, rows, bytes, creds_bytes, by_type, storage)
  select (v_now at time zone 'UTC')::date, v_now, s.companies, t.rows, t.bytes, s.creds_bytes, t.by_type, public.whatsapp_storage()
  from public.whatsapp_statistics s
  cross join (
    select coalesce(sum(t.rows), 0) as rows, coalesce(sum(t.bytes), 0) as bytes,
      coalesce(jsonb_object_agg(t.key_type, jsonb_build_object('rows', t.rows, 'bytes', t.bytes)), '{}') as by_type
    from public.whatsapp_type_statistics t
  ) t
  where s.recounted_at is not null
  on conflict (day) do update set taken_at = excluded.taken_at, companies = excluded.companies, rows = excluded.rows,
    bytes = excluded.bytes, creds_bytes = excluded.creds_bytes, by_type = excluded.by_type, storage = excluded.storage;

  delete from public.whatsapp_statistics_days d where d.day < (v_now at time zone 'UTC')::date - 90;
  delete from public.whatsapp_traffic t where t.day < (v_now at time zone 'UTC')::date - 90;
  delete from public.whatsapp_events e where e.minute < v_now - interval '2 days';
  delete from public.whatsapp_lease_history h where h.acquired_at < v_now - interval '90 days';
  delete from public.whatsapp_cleanup_runs r where r.finished_at < v_now - interval '90 days';
  delete from public.whatsapp_alert_messages m
  where m.delivered_at < v_now - interval '7 days' or m.created_at < v_now - interval '30 days';
end
$$;

create or replace function public.whatsapp_keep_lease_history()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if new.token > old.token and new.owner is not null and not public.whatsapp_is_mark(new.owner) then
    insert into public.whatsapp_lease_history (company_id, token, owner, acquired_at, taken_from)
    values (new.company_id, new.token, new.owner, new.acquired_at, case when old.owner <> new.owner then old.owner end)
    on conflict (company_id, token) do nothing;
  elsif old.owner is not null and new.owner is distinct from old.owner and (new.owner is null or public.whatsapp_is_mark(new.owner)) then
    update public.whatsapp_lease_history h set released_at = clock_timestamp()
    where h.company_id = new.company_id and h.token = new.token;
  end if;
  return null;
end
$$;

-- 3. Pages of companies -------------------------------------------------------------------------------------

-- Creds are found by key, however few companies there are.
alter function public.whatsapp_companies_page(text, text, boolean, jsonb, int) set enable_seqscan = off;
alter function public.whatsapp_company_overview(text) set enable_seqscan = off;

-- 4. What `doctor` is told ----------------------------------------------------------------------------------

-- Besides history and functions: what anon or authenticated may use, tables without row level security, and the
-- schedule of pg_cron: {"installed": …, "schedule": … or null}.
create or replace function public.whatsapp_installation()
returns jsonb
language plpgsql
stable security definer
set search_path = ''
as $$
declare
  v_history jsonb;
  v_schedule text;
begin
  if to_regclass('supabase_migrations.schema_migrations') is not null then
    execute 'select jsonb_agg(jsonb_build_array(m.version, m.name) order by m.version) from supabase_migrations.schema_migrations m'
    into v_history;
  end if;
  if to_regclass('cron.job') is not null then
    execute 'select schedule from cron.job where jobname = $1' into v_schedule using 'supabase-auth-state cleanup';
  end if;
  return jsonb_build_object('history', v_history, 'functions', (
    select jsonb_agg(distinct p.proname order by p.proname)
    from pg_catalog.pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname like '%whatsapp%'),
  'outside', (
    select coalesce(jsonb_agg(distinct f.name order by f.name), '[]')
    from pg_catalog.pg_roles r
    cross join lateral (
      select c.relname as name from pg_catalog.pg_class c
      where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and c.relname like 'whatsapp\_%'
        and has_table_privilege(r.oid, c.oid, 'select, insert, update, delete, truncate')
      union all
      select p.proname from pg_catalog.pg_proc p
      where p.pronamespace = 'public'::regnamespace and p.proname like '%whatsapp%'
        and has_function_privilege(r.oid, p.oid, 'execute')
    ) f
    where r.rolname in ('anon', 'authenticated')),
  'without_rls', (
    select coalesce(jsonb_agg(c.relname order by c.relname), '[]') from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and c.relname like 'whatsapp\_%'
      and not c.relrowsecurity),
  'cron', jsonb_build_object('installed', to_regprocedure('cron.schedule(text, text, text)') is not null,
    'schedule', v_schedule));
end
$$;

notify pgrst, 'reload schema';
