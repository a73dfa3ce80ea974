-- Counts companies, keys and bytes, keeps their growth, and holds the state of alerts that several processes share.
-- Works with supabase-auth-state 0.4; older clients go on as before beside it, and nothing is added to a write.

-- 1. What is counted ----------------------------------------------------------------------------------------

-- No trigger on whatsapp_keys counts: that costs a set more than 3 % (docs/operations.md). A company is counted
-- again after it was written, as whatsapp_writers tells, once a minute by whoever asks; a clean-up run counts all.
create table public.whatsapp_company_statistics (
  company_id text collate "C" primary key,
  counted_at timestamptz not null,
  has_creds boolean not null,
  client_family text,
  created_at timestamptz,
  last_write timestamptz not null,
  rows bigint not null,
  bytes bigint not null,
  creds_bytes bigint not null,
  expired bigint not null,
  pre_keys bigint not null,
  by_type jsonb not null
);

create index whatsapp_company_statistics_bytes_idx on public.whatsapp_company_statistics (bytes, company_id);
create index whatsapp_company_statistics_rows_idx on public.whatsapp_company_statistics (rows, company_id);
create index whatsapp_company_statistics_last_write_idx on public.whatsapp_company_statistics (last_write, company_id);
create index whatsapp_company_statistics_pre_keys_idx on public.whatsapp_company_statistics (pre_keys, company_id);

comment on table public.whatsapp_company_statistics is 'What a company held when it was counted last. Changed by the functions of this file only.';
comment on column public.whatsapp_company_statistics.bytes is 'Of its keys as they are stored, without indexes, dead rows and unused space.';
comment on column public.whatsapp_company_statistics.by_type is '{key type: {"rows": …, "bytes": …, "expired": …}}';

-- The sums over whatsapp_company_statistics, kept by the difference that each count makes.
create table public.whatsapp_type_statistics (
  key_type text collate "C" primary key,
  rows bigint not null,
  bytes bigint not null,
  expired bigint not null
);

create table public.whatsapp_statistics (
  id boolean primary key default true check (id),
  refreshed_at timestamptz not null default '-infinity',
  recounted_at timestamptz,
  recount_began timestamptz,
  recount_after text collate "C" not null default '',
  companies bigint not null default 0,
  creds_bytes bigint not null default 0,
  owned bigint not null default 0,
  commits bigint,
  key_rows bigint,
  commits_per_minute float8,
  key_rows_per_minute float8,
  workers jsonb not null default '[]'
);

comment on column public.whatsapp_statistics.recounted_at is 'When the last count of every company began; null before the first.';
comment on column public.whatsapp_statistics.commits is 'Requests that write, since the database counts them; its difference gives commits_per_minute.';

insert into public.whatsapp_statistics default values;

create table public.whatsapp_statistics_days (
  day date primary key,
  taken_at timestamptz not null,
  companies bigint not null,
  rows bigint not null,
  bytes bigint not null,
  creds_bytes bigint not null,
  by_type jsonb not null,
  storage jsonb not null
);

comment on table public.whatsapp_statistics_days is 'The last statistics of each day, for 90 days.';

-- 2. What happens -------------------------------------------------------------------------------------------

create table public.whatsapp_lease_history (
  company_id text collate "C" not null,
  token bigint not null,
  owner text not null,
  acquired_at timestamptz not null,
  released_at timestamptz,
  taken_from text,
  constraint whatsapp_lease_history_pkey primary key (company_id, token)
);

create index whatsapp_lease_history_acquired_at_idx on public.whatsapp_lease_history (acquired_at);

comment on table public.whatsapp_lease_history is 'Who owned a company from when to when, for 90 days.';
comment on column public.whatsapp_lease_history.taken_from is 'The owner before, when its lease had run out and was not given back: its process has died.';

create table public.whatsapp_cleanup_runs (
  id bigint generated always as identity primary key,
  finished_at timestamptz not null default clock_timestamp(),
  owner text not null,
  deleted bigint not null,
  complete boolean not null,
  seconds float8 not null
);

create index whatsapp_cleanup_runs_finished_at_idx on public.whatsapp_cleanup_runs (finished_at);

-- What the processes count of their own requests and add up once a minute: an estimate.
create table public.whatsapp_traffic (
  day date not null,
  kind text collate "C" not null check (char_length(kind) between 1 and 64),
  requests bigint not null,
  sent bigint not null,
  received bigint not null,
  constraint whatsapp_traffic_pkey primary key (day, kind)
);

create table public.whatsapp_events (
  minute timestamptz not null,
  event text collate "C" not null check (char_length(event) between 1 and 64),
  count bigint not null,
  constraint whatsapp_events_pkey primary key (minute, event)
);

comment on table public.whatsapp_traffic is 'Requests and their bytes by kind and day, as the processes have counted them, for 90 days.';
comment on table public.whatsapp_events is 'What the processes have met, e.g. refused requests, by the minute it was told, for two days.';

-- 3. Alerts that several processes share --------------------------------------------------------------------

create table public.whatsapp_alerts (
  rule text collate "C" not null check (char_length(rule) between 1 and 64),
  version bigint not null,
  state jsonb not null,
  changed_at timestamptz not null default clock_timestamp(),
  constraint whatsapp_alerts_pkey primary key (rule)
);

create table public.whatsapp_alert_messages (
  id bigint generated always as identity primary key,
  receiver text collate "C" not null check (char_length(receiver) between 1 and 64),
  message jsonb not null,
  created_at timestamptz not null,
  due_at timestamptz not null,
  attempts int not null default 0,
  delivered_at timestamptz,
  failure text
);

create index whatsapp_alert_messages_due_at_idx on public.whatsapp_alert_messages (due_at) where delivered_at is null;

comment on table public.whatsapp_alerts is 'The state of each rule. version keeps two processes from taking the same step.';
comment on table public.whatsapp_alert_messages is 'What is to be sent, until 7 days after it was, or for 30 days; kept by the transaction that changed the rule''s state.';

-- 4. Counting -----------------------------------------------------------------------------------------------

-- Counts these companies and brings the sums up to date; one without creds and keys is forgotten. The caller has locked
-- the row of whatsapp_statistics, so that one process counts at a time. Returns how many differed.
create function public.whatsapp_count_companies(p_companies text[])
returns bigint
language plpgsql
volatile
set search_path = ''
-- Each company is found by key, whatever outdated statistics suggest.
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_changed bigint;
begin
  with wanted as materialized (
    select distinct c.company_id collate "C" as company_id from unnest(p_companies) as c (company_id)
  ), old as materialized (
    select s.* from wanted w join public.whatsapp_company_statistics s on s.company_id = w.company_id
  ), new as materialized (
    select w.company_id, a.company_id is not null as has_creds, a.client_family, a.created_at,
      coalesce(greatest(a.updated_at, k.last_write), v_now) as last_write, k.rows, k.bytes,
      coalesce(pg_column_size(a.creds) + octet_length(a.company_id) + 64, 0)::bigint as creds_bytes,
      k.expired, k.pre_keys, k.by_type
    from wanted w
    left join public.whatsapp_auth a on a.company_id = w.company_id
    cross join lateral (
      select coalesce(sum(t.rows), 0)::bigint as rows, coalesce(sum(t.bytes), 0)::bigint as bytes,
        coalesce(sum(t.expired), 0)::bigint as expired, max(t.last_write) as last_write,
        coalesce(sum(t.rows) filter (where t.key_type = 'pre-key'), 0)::bigint as pre_keys,
        coalesce(jsonb_object_agg(t.key_type, jsonb_build_object('rows', t.rows, 'bytes', t.bytes, 'expired', t.expired)), '{}') as by_type
      from (
        -- The sizes of columns: that of the whole row would read values that are stored apart.
        select k.key_type, count(*) as rows, max(k.updated_at) as last_write,
          sum(pg_column_size(k.value) + octet_length(k.company_id) + octet_length(k.key_type) + octet_length(k.key_id) + 48) as bytes,
          count(*) filter (where k.expires_at <= v_now) as expired
        from public.whatsapp_keys k
        where k.company_id = w.company_id
        group by k.key_type
      ) t
    ) k
  ), kept as (
    insert into public.whatsapp_company_statistics as s (company_id, counted_at, has_creds, client_family, created_at, last_write,
      rows, bytes, creds_bytes, expired, pre_keys, by_type)
    select n.company_id, v_now, n.has_creds, n.client_family, n.created_at, n.last_write,
      n.rows, n.bytes, n.creds_bytes, n.expired, n.pre_keys, n.by_type
    from new n where n.has_creds or n.rows > 0
    order by n.company_id
    on conflict (company_id) do update set counted_at = excluded.counted_at, has_creds = excluded.has_creds,
      client_family = excluded.client_family, created_at = excluded.created_at, last_write = excluded.last_write,
      rows = excluded.rows, bytes = excluded.bytes, creds_bytes = excluded.creds_bytes, expired = excluded.expired,
      pre_keys = excluded.pre_keys, by_type = excluded.by_type
  ), forgotten as (
    delete from public.whatsapp_company_statistics s using new n
    where s.company_id = n.company_id and not n.has_creds and n.rows = 0
  ), by_type as (
    insert into public.whatsapp_type_statistics as s (key_type, rows, bytes, expired)
    select d.key_type, sum(d.rows), sum(d.bytes), sum(d.expired)
    from (
      select t.key_type, (t.found ->> 'rows')::bigint as rows, (t.found ->> 'bytes')::bigint as bytes, (t.found ->> 'expired')::bigint as expired
      from new n cross join lateral jsonb_each(n.by_type) as t (key_type, found)
      union all
      select t.key_type, -(t.found ->> 'rows')::bigint, -(t.found ->> 'bytes')::bigint, -(t.found ->> 'expired')::bigint
      from old o cross join lateral jsonb_each(o.by_type) as t (key_type, found)
    ) d
    group by d.key_type
    on conflict (key_type) do update set rows = s.rows + excluded.rows, bytes = s.bytes + excluded.bytes,
      expired = s.expired + excluded.expired
  ), sums as (
    update public.whatsapp_statistics s
    set companies = s.companies + (select count(*) from new n where n.has_creds or n.rows > 0) - (select count(*) from old),
      creds_bytes = s.creds_bytes + (select coalesce(sum(n.creds_bytes), 0) from new n) - (select coalesce(sum(o.creds_bytes), 0) from old o)
  )
  select count(*) into v_changed
  from new n left join old o on o.company_id = n.company_id
  where coalesce((o.rows, o.bytes, o.creds_bytes, o.expired), (0, 0, 0, 0)) <> (n.rows, n.bytes, n.creds_bytes, n.expired);
  return v_changed;
end
$$;

-- {"keys": {"heap": …, "toast": …, "indexes": …, "live_rows": …, "dead_rows": …}, "auth": {…}, "statistics": …,
-- "database": …}: bytes as they are on the disk now, rows as the database estimates them.
create function public.whatsapp_storage()
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select jsonb_object_agg(t.name, jsonb_build_object(
      'heap', pg_table_size(t.id) - coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0),
      'toast', coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0), 'indexes', pg_indexes_size(t.id),
      'live_rows', pg_stat_get_live_tuples(t.id), 'dead_rows', pg_stat_get_dead_tuples(t.id)))
    || jsonb_build_object('database', pg_database_size(current_database()), 'other_tables', (
      select coalesce(sum(pg_total_relation_size(o.oid)), 0) from pg_catalog.pg_class o
      where o.relnamespace = 'public'::regnamespace and o.relkind = 'r' and o.relname like 'whatsapp\_%'
        and o.relname not in ('whatsapp_keys', 'whatsapp_auth')))
  from (values ('keys', 'public.whatsapp_keys'::regclass), ('auth', 'public.whatsapp_auth'::regclass)) as t (name, id)
  join pg_catalog.pg_class c on c.oid = t.id
$$;

-- Takes the day's statistics, and forgets what is older than it is kept for.
create function public.whatsapp_take_statistics()
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
      where l.expires_at > v_now and l.company_id not like 'supabase-auth-state/%'),
    workers = (
      select coalesce(jsonb_agg(jsonb_build_object('owner', w.owner, 'companies', w.companies, 'since', extract(epoch from w.since),
        'until', extract(epoch from w.until)) order by w.companies desc, w.owner), '[]')
      from (
        select l.owner, count(*) as companies, min(l.acquired_at) as since, min(l.expires_at) as until
        from public.whatsapp_leases l
        where l.owner is not null and l.expires_at > v_now and l.company_id not like 'supabase-auth-state/%'
        group by l.owner order by count(*) desc, l.owner limit 1000
      ) w),
    commits = v_commits, key_rows = v_key_rows,
    -- The database forgets its counts when it recovers from a crash.
    commits_per_minute = case when v_commits >= s.commits then (v_commits - s.commits) / r.minutes end,
    key_rows_per_minute = case when v_key_rows >= s.key_rows then (v_key_rows - s.key_rows) / r.minutes end
  from (
    select nullif(extract(epoch from v_now - nullif(o.refreshed_at, '-infinity')) / 60, 0) as minutes from public.whatsapp_statistics o
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

-- The companies after p_after that have creds, keys or statistics, in order.
create function public.whatsapp_next_companies(p_after text, p_limit int)
returns text[]
language sql
stable
set search_path = ''
as $$
  with recursive company (company_id, n) as (
    select p_after collate "C", 0
    union all
    select x.company_id, c.n + 1
    from company c
    cross join lateral (
      select least(
        (select a.company_id from public.whatsapp_auth a where a.company_id > c.company_id order by a.company_id limit 1),
        (select k.company_id from public.whatsapp_keys k where k.company_id > c.company_id order by k.company_id limit 1),
        (select s.company_id from public.whatsapp_company_statistics s where s.company_id > c.company_id order by s.company_id limit 1)
      ) as company_id
    ) x
    where c.n < p_limit and x.company_id is not null
  )
  select coalesce(array_agg(c.company_id order by c.company_id), '{}') from company c where c.n > 0
$$;

-- Counts a page of companies in the order of their ids: {"counted": …, "corrected": …, "after": …}. Begin with '' and go
-- on with "after" until it is null: then every company was counted.
create function public.recount_whatsapp_statistics(p_after text default '', p_companies int default 500)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_companies text[];
  v_corrected bigint;
  v_after text;
begin
  perform from public.whatsapp_statistics s where s.id for update;
  if p_after = '' then
    update public.whatsapp_statistics s set recount_began = clock_timestamp();
  end if;
  v_companies := public.whatsapp_next_companies(p_after, least(greatest(p_companies, 1), 5000));
  v_corrected := public.whatsapp_count_companies(v_companies);
  if cardinality(v_companies) = least(greatest(p_companies, 1), 5000) then
    v_after := v_companies[cardinality(v_companies)];
    update public.whatsapp_statistics s set recount_after = v_after;
  else
    update public.whatsapp_statistics s set recount_after = '', recounted_at = s.recount_began;
    perform public.whatsapp_take_statistics();
  end if;
  return jsonb_build_object('counted', cardinality(v_companies), 'corrected', v_corrected, 'after', v_after);
end
$$;

-- Counts the companies that were written since they were counted, those first whose count is oldest, at most
-- p_companies. Does nothing when that was done less than p_every seconds ago or is being done now, so any number of
-- processes may ask: {"refreshed": …, "counted": …, "left": …}, where left says that there are more.
create function public.refresh_whatsapp_statistics(p_companies int default 500, p_every float8 default 60)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_totals public.whatsapp_statistics;
  v_companies text[];
begin
  select s.* into v_totals from public.whatsapp_statistics s where s.id for update skip locked;
  if not found or v_totals.refreshed_at > clock_timestamp() - make_interval(secs => p_every) then
    return jsonb_build_object('refreshed', false, 'counted', 0, 'left', false);
  end if;
  -- The first count of all, a part at a time.
  if v_totals.recounted_at is null then
    perform public.recount_whatsapp_statistics(v_totals.recount_after, p_companies);
  end if;
  select coalesce(array_agg(c.company_id), '{}') into v_companies
  from (
    select w.company_id
    from (select w.company_id, max(w.lands_until) as last from public.whatsapp_writers w group by w.company_id) w
    left join public.whatsapp_company_statistics s on s.company_id = w.company_id
    -- A write may be committed a moment after the time by which it had to be there.
    where w.last > coalesce(s.counted_at, clock_timestamp() - interval '1 hour') - interval '10 seconds'
      -- Of a company that holds nothing there is nothing to count, and many of them would be in the way.
      and (s.company_id is not null
        or exists (select from public.whatsapp_auth a where a.company_id = w.company_id)
        or exists (select from public.whatsapp_keys k where k.company_id = w.company_id))
    order by s.counted_at nulls first
    limit p_companies + 1
  ) c;
  perform public.whatsapp_count_companies(v_companies[1:p_companies]);
  perform public.whatsapp_take_statistics();
  return jsonb_build_object('refreshed', true, 'counted', least(cardinality(v_companies), p_companies),
    'left', cardinality(v_companies) > p_companies or (select s.recounted_at is null from public.whatsapp_statistics s));
end
$$;

-- 5. What happens is kept -----------------------------------------------------------------------------------

create function public.whatsapp_keep_lease_history()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if new.token > old.token and new.owner is not null then
    insert into public.whatsapp_lease_history (company_id, token, owner, acquired_at, taken_from)
    values (new.company_id, new.token, new.owner, new.acquired_at, case when old.owner <> new.owner then old.owner end)
    on conflict (company_id, token) do nothing;
  elsif new.owner is null and old.owner is not null then
    update public.whatsapp_lease_history h set released_at = clock_timestamp()
    where h.company_id = new.company_id and h.token = new.token;
  end if;
  return null;
end
$$;

-- Not when a lease is renewed or a company is written: those name neither column.
create trigger whatsapp_leases_50_history
  after update of token, owner on public.whatsapp_leases
  for each row execute function public.whatsapp_keep_lease_history();

create function public.record_whatsapp_cleanup(p_owner text, p_deleted bigint, p_complete boolean, p_seconds float8)
returns bigint
language sql
volatile security definer
set search_path = ''
as $$
  insert into public.whatsapp_cleanup_runs (owner, deleted, complete, seconds)
  values (p_owner, p_deleted, p_complete, p_seconds)
  returning id
$$;

-- What pg_cron calls: one batch of the clean-up and a part of the count.
create function public.run_whatsapp_cleanup()
returns bigint
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_started timestamptz := clock_timestamp();
  v_deleted bigint := public.cleanup_expired_whatsapp_keys();
begin
  perform public.record_whatsapp_cleanup('pg_cron', v_deleted, v_deleted < 5000, extract(epoch from clock_timestamp() - v_started));
  perform public.refresh_whatsapp_statistics();
  return v_deleted;
end
$$;

create or replace function public.schedule_whatsapp_cleanup(p_schedule text default '*/10 * * * *')
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_job constant text := 'supabase-auth-state cleanup';
begin
  if to_regprocedure('cron.schedule(text, text, text)') is null then
    return jsonb_build_object('scheduled', false, 'reason',
      'pg_cron is not installed in this database: enable it under Integrations in the Supabase dashboard, '
      'or run `supabase-auth-state cleanup --every 6h` as a process');
  end if;
  if p_schedule = '' then
    execute 'select cron.unschedule(jobname) from cron.job where jobname = $1' using v_job;
    return jsonb_build_object('scheduled', false, 'reason', 'the schedule was removed');
  end if;
  execute 'select cron.schedule($1, $2, $3)' using v_job, p_schedule, 'select public.run_whatsapp_cleanup()';
  return jsonb_build_object('scheduled', true, 'job', v_job, 'schedule', p_schedule);
end
$$;

-- A job that an earlier version has scheduled records its runs from now on.
do $cron$
declare
  v_schedule text;
begin
  if to_regprocedure('cron.schedule(text, text, text)') is not null then
    execute 'select schedule from cron.job where jobname = $1' into v_schedule using 'supabase-auth-state cleanup';
    if v_schedule is not null then
      perform public.schedule_whatsapp_cleanup(v_schedule);
    end if;
  end if;
end
$cron$;

-- Adds what a process has counted since it told last: p_traffic is {kind: [requests, sent, received]}, p_events is
-- {event: count}. Best effort: a request that is repeated counts twice, one that is lost not at all.
create function public.add_whatsapp_activity(p_traffic jsonb, p_events jsonb)
returns void
language sql
volatile security definer
set search_path = ''
as $$
  insert into public.whatsapp_traffic as t (day, kind, requests, sent, received)
  select (clock_timestamp() at time zone 'UTC')::date, e.key, (e.value ->> 0)::bigint, (e.value ->> 1)::bigint, (e.value ->> 2)::bigint
  from jsonb_each(p_traffic) e
  order by e.key collate "C"
  limit 100
  on conflict (day, kind) do update set requests = t.requests + excluded.requests, sent = t.sent + excluded.sent,
    received = t.received + excluded.received;
  insert into public.whatsapp_events as v (minute, event, count)
  select date_trunc('minute', clock_timestamp()), e.key, (e.value)::bigint
  from jsonb_each(p_events) e
  order by e.key collate "C"
  limit 100
  on conflict (minute, event) do update set count = v.count + excluded.count;
$$;

-- 6. Looking: no function here reads whatsapp_keys but by key -----------------------------------------------

-- The whole at a glance; docs/operations.md has the shape. Times in seconds since 1970.
create function public.whatsapp_overview()
returns jsonb
language sql
volatile security definer
set search_path = ''
as $$
  select jsonb_build_object(
    'time', extract(epoch from clock_timestamp()),
    'refreshed_at', extract(epoch from nullif(s.refreshed_at, '-infinity')),
    'recounted_at', extract(epoch from s.recounted_at),
    'companies', s.companies,
    'owned', s.owned,
    'keys', jsonb_build_object('rows', t.rows, 'bytes', t.bytes, 'by_type', t.by_type),
    'creds_bytes', s.creds_bytes,
    'expired', x.expired,
    'oldest_expired', extract(epoch from x.oldest),
    'storage', public.whatsapp_storage(),
    'commits_per_minute', s.commits_per_minute,
    'key_rows_per_minute', s.key_rows_per_minute,
    'leases', (
      select jsonb_build_object('acquired_last_hour', count(*), 'taken_over_last_hour', count(h.taken_from))
      from public.whatsapp_lease_history h
      where h.acquired_at > clock_timestamp() - interval '1 hour' and h.company_id not like 'supabase-auth-state/%'),
    'cleanup', (
      select jsonb_build_object('finished_at', extract(epoch from r.finished_at), 'owner', r.owner, 'deleted', r.deleted,
        'complete', r.complete, 'seconds', r.seconds)
      from public.whatsapp_cleanup_runs r order by r.finished_at desc limit 1),
    'traffic', (
      select coalesce(jsonb_object_agg(f.kind, jsonb_build_object('requests', f.requests, 'sent', f.sent, 'received', f.received)), '{}')
      from (select f.kind, sum(f.requests) as requests, sum(f.sent) as sent, sum(f.received) as received
        from public.whatsapp_traffic f where f.day > (clock_timestamp() at time zone 'UTC')::date - 30 group by f.kind) f),
    'events', (
      select coalesce(jsonb_object_agg(e.event, e.count), '{}')
      from (select e.event, sum(e.count) as count from public.whatsapp_events e
        where e.minute > clock_timestamp() - interval '15 minutes' group by e.event) e),
    'alerts', (
      select coalesce(jsonb_object_agg(a.rule, a.state || jsonb_build_object('changed_at', extract(epoch from a.changed_at))), '{}')
      from public.whatsapp_alerts a))
  from public.whatsapp_statistics s
  cross join (
    select coalesce(sum(t.rows), 0) as rows, coalesce(sum(t.bytes), 0) as bytes,
      coalesce(jsonb_object_agg(t.key_type, jsonb_build_object('rows', t.rows, 'bytes', t.bytes, 'expired', t.expired)) filter (where t.rows > 0), '{}') as by_type
    from public.whatsapp_type_statistics t
  ) t
  cross join (
    -- More than this many are as bad as this many.
    select count(*) as expired, min(e.expires_at) as oldest
    from (select k.expires_at from public.whatsapp_keys k where k.expires_at <= clock_timestamp()
      order by k.expires_at limit 10000) e
  ) x
$$;

create function public.whatsapp_company_as_json(p_statistics public.whatsapp_company_statistics)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object('company_id', p_statistics.company_id, 'counted_at', extract(epoch from p_statistics.counted_at),
    'has_creds', p_statistics.has_creds, 'client_family', p_statistics.client_family,
    'created_at', extract(epoch from p_statistics.created_at), 'last_write', extract(epoch from p_statistics.last_write),
    'rows', p_statistics.rows, 'bytes', p_statistics.bytes, 'creds_bytes', p_statistics.creds_bytes,
    'expired', p_statistics.expired, 'pre_keys', p_statistics.pre_keys, 'by_type', p_statistics.by_type)
    || coalesce((
      select jsonb_build_object('owner', l.owner, 'lease_until', extract(epoch from nullif(l.expires_at, '-infinity')),
        'live', l.owner is not null and l.expires_at > clock_timestamp(), 'token', l.token, 'lapses', l.lapses)
      from public.whatsapp_leases l where l.company_id = p_statistics.company_id),
      '{"owner": null, "lease_until": null, "live": false, "token": 0, "lapses": 0}')
$$;

-- A page of companies: {"time": …, "companies": [{…}, …], "after": …}. p_sort is company_id, bytes, rows, last_write or
-- pre_keys; p_search is how the company_id begins. Go on with "after", which is null on the last page.
create function public.whatsapp_companies_page(
  p_search text default '', p_sort text default 'company_id', p_descending boolean default false, p_after jsonb default null,
  p_limit int default 50)
returns jsonb
language plpgsql
stable security definer
set search_path = ''
as $$
declare
  v_limit int := least(greatest(p_limit, 1), 500);
  v_value text := case p_sort when 'company_id' then '$2' when 'last_write' then 'to_timestamp($2::float8)'
    when 'bytes' then '$2::bigint' when 'rows' then '$2::bigint' when 'pre_keys' then '$2::bigint' end;
  v_found jsonb;
begin
  if v_value is null then
    raise exception 'p_sort is company_id, bytes, rows, last_write or pre_keys' using errcode = '22023';
  end if;
  execute format(
    'select coalesce(jsonb_agg(public.whatsapp_company_as_json(s)), ''[]'') from ('
    'select s.* from public.whatsapp_company_statistics s where %s and %s order by s.%3$I %4$s, s.company_id %4$s limit $4) s',
    case when coalesce(p_search, '') = '' then 'true' else 's.company_id >= $1 and s.company_id < $1 || chr(1114111)' end,
    case when p_after is null then 'true'
      else format('(s.%I, s.company_id) %s (%s, $3)', p_sort, case when p_descending then '<' else '>' end, v_value) end,
    p_sort, case when p_descending then 'desc' else 'asc' end)
  into v_found
  using p_search, p_after ->> 0, p_after ->> 1, v_limit + 1;
  return jsonb_build_object(
    'time', extract(epoch from clock_timestamp()),
    'companies', case when jsonb_array_length(v_found) > v_limit then v_found - v_limit else v_found end,
    'after', case when jsonb_array_length(v_found) > v_limit then
      jsonb_build_array(v_found -> (v_limit - 1) -> p_sort, v_found -> (v_limit - 1) -> 'company_id') end);
end
$$;

-- One company, counted now: what the page of companies has of it, its last leases, latest first, and its writers. Null
-- for a company that has neither creds nor keys.
create function public.whatsapp_company_overview(p_company_id text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  -- While a clean-up run counts, what was counted before is good enough.
  perform from public.whatsapp_statistics s where s.id for update skip locked;
  if found then
    perform public.whatsapp_count_companies(array[p_company_id]);
  end if;
  return (
    select public.whatsapp_company_as_json(s) || jsonb_build_object(
      'time', extract(epoch from clock_timestamp()),
      'leases', (
        select coalesce(jsonb_agg(jsonb_build_object('token', h.token, 'owner', h.owner, 'acquired_at', extract(epoch from h.acquired_at),
          'released_at', extract(epoch from h.released_at), 'taken_from', h.taken_from) order by h.token desc), '[]')
        from (select h.* from public.whatsapp_lease_history h where h.company_id = p_company_id order by h.token desc limit 200) h))
    from public.whatsapp_company_statistics s
    where s.company_id = p_company_id);
end
$$;

-- The days, oldest first: [{"day": "2026-11-27", "taken_at": …, "companies": …, "rows": …, "bytes": …, "creds_bytes": …,
-- "by_type": {…}, "storage": {…}}, …].
create function public.whatsapp_growth(p_days int default 90)
returns jsonb
language sql
stable security definer
set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('day', d.day, 'taken_at', extract(epoch from d.taken_at), 'companies', d.companies,
    'rows', d.rows, 'bytes', d.bytes, 'creds_bytes', d.creds_bytes, 'by_type', d.by_type, 'storage', d.storage) order by d.day), '[]')
  from public.whatsapp_statistics_days d
  where d.day > (clock_timestamp() at time zone 'UTC')::date - p_days
$$;

-- The processes that own companies, as of the last refresh, those with the most first:
-- [{"owner": …, "companies": …, "since": …, "until": …}, …].
create function public.whatsapp_workers(p_limit int default 200)
returns jsonb
language sql
stable security definer
set search_path = ''
as $$
  select coalesce(jsonb_agg(w.worker order by w.n), '[]')
  from public.whatsapp_statistics s
  cross join jsonb_array_elements(s.workers) with ordinality as w (worker, n)
  where w.n <= p_limit
$$;

-- Companies whose pre-keys are fewer than p_low or more than p_high, at most p_limit of each kind:
-- {"low": {"count": …, "companies": […]}, "high": {…}}.
create function public.whatsapp_pre_key_extremes(p_low bigint, p_high bigint, p_limit int default 20)
returns jsonb
language sql
stable security definer
set search_path = ''
as $$
  select jsonb_build_object(
    'low', (select jsonb_build_object('count', count(*), 'companies', coalesce(jsonb_agg(s.company_id order by s.n) filter (where s.n <= p_limit), '[]'))
      from (select s.company_id, row_number() over (order by s.pre_keys, s.company_id) as n
        from public.whatsapp_company_statistics s where s.pre_keys < p_low and s.has_creds order by s.pre_keys, s.company_id limit 1000) s),
    'high', (select jsonb_build_object('count', count(*), 'companies', coalesce(jsonb_agg(s.company_id order by s.n) filter (where s.n <= p_limit), '[]'))
      from (select s.company_id, row_number() over (order by s.pre_keys desc, s.company_id desc) as n
        from public.whatsapp_company_statistics s where s.pre_keys > p_high order by s.pre_keys desc, s.company_id desc limit 1000) s))
$$;

-- 7. Alerts -------------------------------------------------------------------------------------------------

-- Takes one step of a rule's state and keeps the messages that go with it, in one transaction: true, or false when
-- another process has taken a step since p_version. Version 0 is a rule without a state. p_messages is
-- [[receiver, message], …].
create function public.step_whatsapp_alert(p_rule text, p_version bigint, p_state jsonb, p_messages jsonb, p_now float8)
returns boolean
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  if p_version = 0 then
    insert into public.whatsapp_alerts (rule, version, state) values (p_rule, 1, p_state) on conflict (rule) do nothing;
  else
    update public.whatsapp_alerts a set version = a.version + 1, state = p_state, changed_at = clock_timestamp()
    where a.rule = p_rule and a.version = p_version;
  end if;
  if not found then
    return false;
  end if;
  insert into public.whatsapp_alert_messages (receiver, message, created_at, due_at)
  select m.value ->> 0, m.value -> 1, to_timestamp(p_now), '-infinity'
  from jsonb_array_elements(p_messages) m;
  return true;
end
$$;

-- {rule: {"version": …, "state": {…}}}.
create function public.whatsapp_alert_states()
returns jsonb
language sql
stable security definer
set search_path = ''
as $$
  select coalesce(jsonb_object_agg(a.rule, jsonb_build_object('version', a.version, 'state', a.state)), '{}') from public.whatsapp_alerts a
$$;

-- Takes messages that are due, so that no other process sends them for p_seconds:
-- [{"id": …, "receiver": …, "message": {…}, "attempts": …}, …].
create function public.take_whatsapp_alert_messages(p_receivers text[], p_now float8, p_seconds float8 default 60, p_limit int default 50)
returns jsonb
language sql
volatile security definer
set search_path = ''
as $$
  with due as (
    select m.id from public.whatsapp_alert_messages m
    where m.delivered_at is null and m.due_at <= to_timestamp(p_now) and m.receiver = any (p_receivers)
    order by m.due_at, m.id
    limit p_limit
    for update skip locked
  ), taken as (
    update public.whatsapp_alert_messages m set due_at = to_timestamp(p_now + p_seconds), attempts = m.attempts + 1
    from due d where m.id = d.id
    returning m.id, m.receiver, m.message, m.attempts, m.created_at
  )
  select coalesce(jsonb_agg(jsonb_build_object('id', t.id, 'receiver', t.receiver, 'message', t.message, 'attempts', t.attempts)
    order by t.id), '[]')
  from taken t
$$;

-- Says what became of a message: delivered, or to be tried again at p_due because of p_failure. Returns 0 when another
-- process has taken it meanwhile.
create function public.settle_whatsapp_alert_message(p_id bigint, p_attempts int, p_delivered boolean, p_due float8, p_failure text default null)
returns bigint
language sql
volatile security definer
set search_path = ''
as $$
  with settled as (
    update public.whatsapp_alert_messages m
    set delivered_at = case when p_delivered then clock_timestamp() end, failure = left(p_failure, 200),
      due_at = to_timestamp(p_due)
    where m.id = p_id and m.attempts = p_attempts and m.delivered_at is null
    returning 1
  )
  select count(*) from settled
$$;

-- 8. Access -------------------------------------------------------------------------------------------------

do $access$
declare
  v_table text;
  item record;
begin
  foreach v_table in array array['whatsapp_company_statistics', 'whatsapp_type_statistics', 'whatsapp_statistics',
    'whatsapp_statistics_days', 'whatsapp_lease_history', 'whatsapp_cleanup_runs', 'whatsapp_traffic', 'whatsapp_events',
    'whatsapp_alerts', 'whatsapp_alert_messages'] loop
    execute format('alter table public.%I enable row level security', v_table);
    execute format('create policy %I on public.%I for select to service_role using (true)', v_table || '_service_role', v_table);
    execute format('revoke all on public.%I from public, anon, authenticated, service_role', v_table);
    execute format('grant select on public.%I to service_role', v_table);
  end loop;

  revoke all on sequence public.whatsapp_cleanup_runs_id_seq, public.whatsapp_alert_messages_id_seq
    from public, anon, authenticated, service_role;

  for item in
    select p.oid::regprocedure as signature, p.proname in ('whatsapp_count_companies', 'whatsapp_storage',
      'whatsapp_take_statistics', 'whatsapp_next_companies', 'whatsapp_keep_lease_history', 'whatsapp_company_as_json') as inside
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname in (
      'whatsapp_count_companies', 'whatsapp_storage', 'whatsapp_take_statistics', 'whatsapp_next_companies',
      'whatsapp_keep_lease_history', 'whatsapp_company_as_json', 'recount_whatsapp_statistics', 'refresh_whatsapp_statistics',
      'record_whatsapp_cleanup', 'run_whatsapp_cleanup', 'schedule_whatsapp_cleanup', 'add_whatsapp_activity', 'whatsapp_overview', 'whatsapp_companies_page',
      'whatsapp_company_overview', 'whatsapp_growth', 'whatsapp_workers', 'whatsapp_pre_key_extremes', 'step_whatsapp_alert', 'whatsapp_alert_states',
      'take_whatsapp_alert_messages', 'settle_whatsapp_alert_message')
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', item.signature);
    if not item.inside then
      execute format('grant execute on function %s to service_role', item.signature);
    end if;
  end loop;
end
$access$;

notify pgrst, 'reload schema';
