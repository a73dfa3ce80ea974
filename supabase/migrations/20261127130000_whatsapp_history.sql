-- Keeps what is replaced and what is removed, for a while and within bounds; and what a pool has found out about a
-- company, for the pools of all machines.
-- Works with supabase-auth-state 0.4; earlier clients go on as before beside it, and what they replace is kept too.

-- 1. Earlier versions of creds ------------------------------------------------------------------------------

-- Slots 0 to 9 are the last ten versions, 10 to 16 the last version of each of seven days: a slot is used again, so
-- a company never has more than 17 rows, and a save of creds costs one row more and no deletion.
create table public.whatsapp_creds_history (
  company_id text collate "C" not null,
  slot smallint not null check (slot between 0 and 16),
  version bigint not null check (version > 0),
  creds jsonb not null,
  client_family text not null,
  saved_at timestamptz not null,
  replaced_at timestamptz not null,
  constraint whatsapp_creds_history_pkey primary key (company_id, slot)
) with (fillfactor = 80, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0.02);

-- A company that was removed: its creds and what was known of them. Its keys are in the next table.
create table public.whatsapp_quarantine (
  company_id text collate "C" not null,
  version bigint not null check (version > 0),
  reason text not null check (reason <> ''),
  creds jsonb,
  client_family text,
  created_at timestamptz,
  saved_at timestamptz,
  history jsonb not null,
  keys bigint not null,
  removed_at timestamptz not null,
  until timestamptz not null,
  constraint whatsapp_quarantine_pkey primary key (company_id, version)
);

create table public.whatsapp_quarantine_keys (
  company_id text collate "C" not null,
  version bigint not null,
  key_type text collate "C" not null,
  key_id text collate "C" not null,
  value jsonb not null,
  updated_at timestamptz not null,
  constraint whatsapp_quarantine_keys_pkey primary key (company_id, version, key_type, key_id),
  constraint whatsapp_quarantine_keys_version_fkey foreign key (company_id, version)
    references public.whatsapp_quarantine on delete cascade
);

comment on table public.whatsapp_creds_history is 'Earlier creds of each company: the last ten versions and one a day for a week. Private keys: read by no role, restored by a function.';
comment on table public.whatsapp_quarantine is 'Companies that were cleared or deleted, for 14 days. Private keys: read by no role, restored by a function.';
comment on table public.whatsapp_quarantine_keys is 'The keys of companies in quarantine. Private keys: read by no role, restored by a function.';
comment on column public.whatsapp_quarantine.history is 'The earlier versions of the creds: rows of whatsapp_creds_history.';

-- 2. What pools have found out ------------------------------------------------------------------------------

create table public.whatsapp_pauses (
  company_id text collate "C" primary key check (char_length(company_id) between 1 and 255),
  code int not null,
  reason text not null check (char_length(reason) between 1 and 200),
  until timestamptz not null,
  noted_at timestamptz not null default now(),
  noted_by text not null check (char_length(noted_by) between 1 and 200)
);

comment on table public.whatsapp_pauses is 'Companies that pools leave alone, as WhatsApp has told one of them: until a time, or until they are reinstated (infinity).';

do $tables$
declare
  v_table text;
begin
  foreach v_table in array array['whatsapp_creds_history', 'whatsapp_quarantine', 'whatsapp_quarantine_keys', 'whatsapp_pauses'] loop
    execute format('alter table public.%I enable row level security', v_table);
    execute format('create policy %I on public.%I for select to service_role using (true)', v_table || '_service_role', v_table);
    execute format('revoke all on public.%I from public, anon, authenticated, service_role', v_table);
  end loop;
end
$tables$;
grant select on public.whatsapp_pauses to service_role;

-- 3. Keeping ------------------------------------------------------------------------------------------------

-- The number of the next version of a company; versions of creds and removed companies are numbered together.
create function public.whatsapp_next_version(p_company_id text)
returns bigint
language sql
stable
set search_path = ''
as $$
  select 1 + greatest(0,
    (select max(h.version) from public.whatsapp_creds_history h where h.company_id = p_company_id),
    (select max(q.version) from public.whatsapp_quarantine q where q.company_id = p_company_id))
$$;

-- Whether two creds are those of one linked device, sealed or not; null where one of them does not say.
create function public.whatsapp_same_device(p_one jsonb, p_other jsonb)
returns boolean
language sql
immutable
set search_path = ''
as $$
  select case
    when p_one ? '$sealed' or p_other ? '$sealed' then (
      select case when count(d.device) = 2 then count(distinct d.device) = 1 end
      from (
        select case when c.creds ? '$sealed' then c.creds ->> 'device' else encode(sha256(convert_to(
          (c.creds ->> 'registrationId') || ':' || (c.creds -> 'signedIdentityKey' -> 'public' ->> 'data'), 'UTF8')), 'base64') end as device
        from unnest(array[p_one, p_other]) as c (creds)
      ) d)
    else p_one -> 'registrationId' = p_other -> 'registrationId'
      and p_one -> 'signedIdentityKey' -> 'public' = p_other -> 'signedIdentityKey' -> 'public'
  end
$$;

-- Keeps the creds that are replaced or deleted, whoever does it. The row is locked, so versions are counted one
-- after the other. The last creds of a day are also kept in the slot of that day.
create function public.whatsapp_keep_creds()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  -- As whatsapp_next_version says; a function in SQL is planned at every call, which is half the price of a save.
  v_version bigint := 1 + greatest(0,
    (select max(h.version) from public.whatsapp_creds_history h where h.company_id = old.company_id),
    (select max(q.version) from public.whatsapp_quarantine q where q.company_id = old.company_id));
  v_day int := (old.updated_at at time zone 'UTC')::date - date '2000-01-01';
begin
  insert into public.whatsapp_creds_history (company_id, slot, version, creds, client_family, saved_at, replaced_at)
  values (old.company_id, v_version % 10, v_version, old.creds, old.client_family, old.updated_at, clock_timestamp())
  on conflict on constraint whatsapp_creds_history_pkey do update
  set version = excluded.version, creds = excluded.creds, client_family = excluded.client_family,
    saved_at = excluded.saved_at, replaced_at = excluded.replaced_at;
  if v_day <> (clock_timestamp() at time zone 'UTC')::date - date '2000-01-01' then
    insert into public.whatsapp_creds_history (company_id, slot, version, creds, client_family, saved_at, replaced_at)
    values (old.company_id, 10 + (v_day % 7 + 7) % 7, v_version, old.creds, old.client_family, old.updated_at, clock_timestamp())
    on conflict on constraint whatsapp_creds_history_pkey do update
    set version = excluded.version, creds = excluded.creds, client_family = excluded.client_family,
      saved_at = excluded.saved_at, replaced_at = excluded.replaced_at;
  end if;
  return null;
end
$$;

-- Creds that are only sealed otherwise (20261127131000) are no version.
create trigger whatsapp_auth_80_keep_replaced
  after update on public.whatsapp_auth
  for each row when (old.creds is distinct from new.creds
    and current_setting('whatsapp_auth.reseal', true) is distinct from 'on')
  execute function public.whatsapp_keep_creds();
create trigger whatsapp_auth_80_keep_deleted
  after delete on public.whatsapp_auth
  for each row execute function public.whatsapp_keep_creds();

-- Moves a company into quarantine for 14 days: keys, creds (a copy of them when p_keep_creds) and their history.
-- The caller has entered. Nothing happens where there is nothing. A company has ten entries at most; of more, the one
-- that holds least goes, but for the new one and p_spared: failed attempts to link a device never push out the device
-- that was in use.
create function public.whatsapp_into_quarantine(
  p_company_id text, p_reason text, p_keep_creds boolean, p_spared bigint default null)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_version bigint := public.whatsapp_next_version(p_company_id);
  v_keys bigint;
begin
  if not exists (select from public.whatsapp_keys k where k.company_id = p_company_id)
    and (p_keep_creds or not exists (select from public.whatsapp_auth a where a.company_id = p_company_id)) then
    return null;
  end if;
  insert into public.whatsapp_quarantine
    (company_id, version, reason, creds, client_family, created_at, saved_at, history, keys, removed_at, until)
  select p_company_id, v_version, p_reason, a.creds, a.client_family, a.created_at, a.updated_at,
    (select coalesce(jsonb_agg(to_jsonb(h) - 'company_id' order by h.slot), '[]')
      from public.whatsapp_creds_history h where h.company_id = p_company_id),
    0, clock_timestamp(), clock_timestamp() + interval '14 days'
  from (select) one left join public.whatsapp_auth a on a.company_id = p_company_id;
  with gone as (
    delete from public.whatsapp_keys k where k.company_id = p_company_id
    returning k.key_type, k.key_id, k.value, k.updated_at
  )
  insert into public.whatsapp_quarantine_keys (company_id, version, key_type, key_id, value, updated_at)
  select p_company_id, v_version, g.key_type, g.key_id, g.value, g.updated_at from gone g;
  get diagnostics v_keys = row_count;
  update public.whatsapp_quarantine q set keys = v_keys where q.company_id = p_company_id and q.version = v_version;
  if not p_keep_creds then
    delete from public.whatsapp_auth a where a.company_id = p_company_id;
    delete from public.whatsapp_creds_history h where h.company_id = p_company_id;
  end if;
  delete from public.whatsapp_quarantine q
  where q.company_id = p_company_id and q.version in (
    select o.version from public.whatsapp_quarantine o where o.company_id = p_company_id
    order by o.version in (v_version, p_spared) desc, o.creds is not null desc, o.keys desc, o.version desc offset 10);
  return v_version;
end
$$;

-- The keys of a company go into quarantine, with a copy of the creds, which stay. As before: the guard comes first,
-- and what it waits for is seen by the statements after it.
create or replace function public.clear_whatsapp_keys(p_company_id text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  if public.whatsapp_enter(p_company_id) then
    perform public.whatsapp_into_quarantine(p_company_id, 'clear', true);
  end if;
  return public.whatsapp_receipt(p_company_id);
end
$$;

create or replace function public.delete_whatsapp_company(p_company_id text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  if public.whatsapp_enter(p_company_id) then
    perform public.whatsapp_into_quarantine(p_company_id, 'delete', false);
  end if;
  return public.whatsapp_receipt(p_company_id);
end
$$;

-- 4. Looking and restoring ----------------------------------------------------------------------------------

-- What can be restored, without its content: {"company_id": …, "current": {"saved_at": …, "client_family": …} or null,
-- "versions": [{"version": …, "kind": "creds" | "company", "reason": …, "client_family": …, "creds": …, "keys": …,
-- "bytes": …, "saved_at": …, "kept_at": …, "until": …, "same_device": …}, …], "pause": …}, times in seconds since 1970,
-- the newest version first. until is null where only newer versions push a version out. same_device is null where
-- there are no creds to compare.
create function public.whatsapp_history(p_company_id text)
returns jsonb
language sql
stable security definer
set search_path = ''
as $$
  with now_stored as (
    select a.client_family, a.updated_at, a.creds
    from public.whatsapp_auth a where a.company_id = p_company_id
  ), kept as (
    select distinct on (h.version) h.version, 'creds' as kind, 'replaced' as reason, h.client_family, true as creds, 0::bigint as keys,
      pg_column_size(h.creds)::bigint as bytes, h.saved_at, h.replaced_at as kept_at,
      case when h.slot >= 10 then h.replaced_at + interval '7 days' end as until,
      public.whatsapp_same_device(h.creds, n.creds) as same_device
    from public.whatsapp_creds_history h
    left join now_stored n on true
    where h.company_id = p_company_id and (h.slot < 10 or h.replaced_at > now() - interval '7 days')
    order by h.version, h.slot
  ), removed as (
    select q.version, 'company' as kind, q.reason, q.client_family, q.creds is not null as creds, q.keys,
      coalesce(pg_column_size(q.creds), 0) + pg_column_size(q.history)
        + (select coalesce(sum(pg_column_size(k.value)), 0) from public.whatsapp_quarantine_keys k
          where k.company_id = q.company_id and k.version = q.version) as bytes,
      q.saved_at, q.removed_at as kept_at, q.until,
      public.whatsapp_same_device(q.creds, n.creds) as same_device
    from public.whatsapp_quarantine q
    left join now_stored n on true
    where q.company_id = p_company_id and q.until > now()
  )
  select jsonb_build_object('company_id', p_company_id,
    'current', (select jsonb_build_object('saved_at', extract(epoch from n.updated_at), 'client_family', n.client_family) from now_stored n),
    'versions', coalesce((
      select jsonb_agg(jsonb_build_object('version', v.version, 'kind', v.kind, 'reason', v.reason, 'client_family', v.client_family,
        'creds', v.creds, 'keys', v.keys, 'bytes', v.bytes, 'saved_at', extract(epoch from v.saved_at),
        'kept_at', extract(epoch from v.kept_at), 'until', extract(epoch from v.until), 'same_device', v.same_device)
        order by v.version desc)
      from (select * from kept union all select * from removed) v), '[]'))
$$;

-- Puts a version back: creds alone, or a whole company out of quarantine. What it replaces is kept as newer versions.
-- Returns the receipt with "restored", false where there is no such version or the request was executed before. Creds
-- of another linked device are not put beside keys that are not theirs.
create function public.restore_whatsapp_version(p_company_id text, p_version bigint)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_kept record;
  v_done boolean := false;
begin
  if public.whatsapp_enter(p_company_id) then
    select h.* into v_kept from public.whatsapp_creds_history h
    where h.company_id = p_company_id and h.version = p_version limit 1;
    if found then
      if exists (
          select from public.whatsapp_auth a where a.company_id = p_company_id
            and (a.client_family <> v_kept.client_family or not public.whatsapp_same_device(a.creds, v_kept.creds))) then
        raise exception 'whatsapp history: version % of company % is another linked device', p_version, p_company_id
          using errcode = 'PT409', hint = 'Its keys would not be there. Restore a whole company from the quarantine instead.';
      end if;
      insert into public.whatsapp_auth (company_id, creds, client_family)
      values (p_company_id, v_kept.creds, v_kept.client_family)
      on conflict (company_id) do update set creds = excluded.creds, updated_at = clock_timestamp();
      v_done := true;
    else
      select q.* into v_kept from public.whatsapp_quarantine q
      where q.company_id = p_company_id and q.version = p_version and q.until > now();
      if found then
        -- All at once: what is there now goes into quarantine, what was there comes back.
        perform public.whatsapp_into_quarantine(p_company_id, 'restore', false, p_version);
        insert into public.whatsapp_keys (company_id, key_type, key_id, value, updated_at)
        select p_company_id, k.key_type, k.key_id, k.value, k.updated_at
        from public.whatsapp_quarantine_keys k
        where k.company_id = p_company_id and k.version = p_version
        order by k.key_type, k.key_id;
        if v_kept.creds is not null then
          insert into public.whatsapp_auth (company_id, creds, client_family, created_at, updated_at)
          values (p_company_id, v_kept.creds, v_kept.client_family, v_kept.created_at, v_kept.saved_at);
        end if;
        insert into public.whatsapp_creds_history (company_id, slot, version, creds, client_family, saved_at, replaced_at)
        select p_company_id, h.slot, h.version, h.creds, h.client_family, h.saved_at, h.replaced_at
        from jsonb_to_recordset(v_kept.history)
          as h (slot smallint, version bigint, creds jsonb, client_family text, saved_at timestamptz, replaced_at timestamptz);
        delete from public.whatsapp_quarantine q where q.company_id = p_company_id and q.version = p_version;
        v_done := true;
      end if;
    end if;
  end if;
  return public.whatsapp_receipt(p_company_id) || jsonb_build_object('restored', v_done);
end
$$;

-- 5. Removing every trace -----------------------------------------------------------------------------------

-- Deletes all that is stored of a company: rows, history, quarantine, pause. Returns the receipt. What orders
-- requests stays until forget_whatsapp_company (20261127135000).
create function public.erase_whatsapp_company(p_company_id text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  if public.whatsapp_enter(p_company_id) then
    delete from public.whatsapp_keys k where k.company_id = p_company_id;
    delete from public.whatsapp_auth a where a.company_id = p_company_id;
    delete from public.whatsapp_creds_history h where h.company_id = p_company_id;
    delete from public.whatsapp_quarantine q where q.company_id = p_company_id;
    delete from public.whatsapp_pauses p where p.company_id = p_company_id;
  end if;
  return public.whatsapp_receipt(p_company_id);
end
$$;

create function public.whatsapp_above_erased()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_erased record;
begin
  select l.token, l.epoch into v_erased from public.whatsapp_leases l where l.company_id = 'supabase-auth-state/erased';
  if found then
    new.token := greatest(new.token, v_erased.token);
    new.epoch := greatest(new.epoch, v_erased.epoch);
  end if;
  return new;
end
$$;

create trigger whatsapp_leases_above_erased
  before insert on public.whatsapp_leases
  for each row when (new.company_id <> 'supabase-auth-state/erased')
  execute function public.whatsapp_above_erased();

-- As before; the epoch of a company without a lease row is the one that its row will begin with.
create or replace function public.fetch_whatsapp_creds(p_company_id text, p_request text)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select jsonb_build_object('company_id', p_company_id, 'request', p_request,
    'time', extract(epoch from clock_timestamp()), 'creds', a.creds, 'client_family', a.client_family,
    'has_keys', exists (select from public.whatsapp_keys k where k.company_id = p_company_id),
    'epoch', coalesce(
      (select l.epoch - (l.expires_at > clock_timestamp())::int from public.whatsapp_leases l
        where l.company_id = p_company_id),
      (select l.epoch from public.whatsapp_leases l where l.company_id = 'supabase-auth-state/erased'), 0))
  from (select) one left join public.whatsapp_auth a on a.company_id = p_company_id
$$;

-- 6. Pauses -------------------------------------------------------------------------------------------------

-- Notes that pools leave a company alone: for so many seconds, or until it is reinstated when p_seconds is null. What
-- lasts longer stays. Answers as whatsapp_pauses_of does.
create function public.note_whatsapp_pause(
  p_company_id text, p_code int, p_reason text, p_seconds float8, p_noted_by text, p_request text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  insert into public.whatsapp_pauses as p (company_id, code, reason, until, noted_by)
  values (p_company_id, p_code, p_reason,
    case when p_seconds is null then 'infinity' else clock_timestamp() + make_interval(secs => least(p_seconds, 31536000)) end,
    p_noted_by)
  on conflict (company_id) do update
  set code = excluded.code, reason = excluded.reason, until = excluded.until, noted_at = now(), noted_by = excluded.noted_by
  where p.until < excluded.until;
  return public.whatsapp_pauses_of(p_company_id, jsonb_build_array(p_company_id), p_request);
end
$$;

-- The pauses of companies that are not over: {"company_id": …, "request": …, "time": …, "pauses": {company_id: {"code": …, "reason": …,
-- "seconds": … or null, "noted_at": …, "noted_by": …}, …}}. company_id is repeated only.
create function public.whatsapp_pauses_of(p_company_id text, p_companies jsonb, p_request text)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select jsonb_build_object('company_id', p_company_id, 'request', p_request,
    'time', extract(epoch from clock_timestamp()), 'pauses', coalesce((
    select jsonb_object_agg(p.company_id, jsonb_build_object('code', p.code, 'reason', p.reason,
      'seconds', case when p.until < 'infinity' then extract(epoch from p.until - clock_timestamp()) end,
      'noted_at', extract(epoch from p.noted_at), 'noted_by', p.noted_by))
    from public.whatsapp_pauses p
    where p.until > clock_timestamp() and p.company_id = any (array(select jsonb_array_elements_text(p_companies)))), '{}'))
$$;

-- Ends a pause. Answers as whatsapp_pauses_of does, with what it has ended.
create function public.reinstate_whatsapp_company(p_company_id text, p_request text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_answer jsonb;
begin
  v_answer := public.whatsapp_pauses_of(p_company_id, jsonb_build_array(p_company_id), p_request);
  delete from public.whatsapp_pauses p where p.company_id = p_company_id;
  return v_answer;
end
$$;

-- 7. What is over -------------------------------------------------------------------------------------------

-- Deletes one batch of what is over: removed companies after 14 days, daily versions after a week, the last creds of a
-- company that has none now after 14 days, pauses, and numbers of writers of companies without a lease.
create function public.whatsapp_empty_quarantine(p_batch_size int)
returns bigint
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_deleted bigint;
  v_gone bigint;
begin
  -- Keys first, so that a company of ten thousand keys is several batches.
  delete from public.whatsapp_quarantine_keys k
  where k.ctid = any (array(
    select o.ctid from public.whatsapp_quarantine q
    join public.whatsapp_quarantine_keys o on o.company_id = q.company_id and o.version = q.version
    where q.until <= now() limit p_batch_size));
  get diagnostics v_deleted = row_count;
  if v_deleted < p_batch_size then
    delete from public.whatsapp_quarantine q where q.until <= now();
    get diagnostics v_gone = row_count;
    delete from public.whatsapp_creds_history h
    where h.slot >= 10 and h.replaced_at <= now() - interval '7 days'
      or h.replaced_at <= now() - interval '14 days'
        and not exists (select from public.whatsapp_auth a where a.company_id = h.company_id);
    get diagnostics v_deleted = row_count;
    v_gone := v_gone + v_deleted;
    delete from public.whatsapp_pauses p where p.until <= now();
    get diagnostics v_deleted = row_count;
    v_gone := v_gone + v_deleted;
    delete from public.whatsapp_writers w
    where w.lands_until < now() - interval '1 hour'
      and not exists (select from public.whatsapp_leases l where l.company_id = w.company_id);
    get diagnostics v_deleted = row_count;
    v_deleted := v_gone + v_deleted;
  end if;
  return v_deleted;
end
$$;

-- The clean-up that is called and scheduled: expired keys, then what is over.
alter function public.cleanup_expired_whatsapp_keys(int) rename to whatsapp_delete_expired_keys;

create function public.cleanup_expired_whatsapp_keys(p_batch_size int default 5000)
returns bigint
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_deleted bigint := public.whatsapp_delete_expired_keys(p_batch_size);
begin
  if v_deleted < p_batch_size then
    v_deleted := v_deleted + public.whatsapp_empty_quarantine((p_batch_size - v_deleted)::int);
  end if;
  return v_deleted;
end
$$;

-- 8. Access -------------------------------------------------------------------------------------------------

-- Granted to no role: triggers and functions run them as their owner.
revoke all on function public.whatsapp_next_version(text), public.whatsapp_same_device(jsonb, jsonb), public.whatsapp_keep_creds(), public.whatsapp_into_quarantine(text, text, boolean, bigint),
  public.whatsapp_above_erased()
  from public, anon, authenticated, service_role;
revoke all on function public.whatsapp_history(text), public.restore_whatsapp_version(text, bigint), public.erase_whatsapp_company(text),
  public.note_whatsapp_pause(text, int, text, float8, text, text),
  public.whatsapp_pauses_of(text, jsonb, text), public.reinstate_whatsapp_company(text, text),
  public.whatsapp_empty_quarantine(int), public.cleanup_expired_whatsapp_keys(int)
  from public, anon, authenticated;
grant execute on function public.whatsapp_history(text), public.restore_whatsapp_version(text, bigint), public.erase_whatsapp_company(text),
  public.note_whatsapp_pause(text, int, text, float8, text, text),
  public.whatsapp_pauses_of(text, jsonb, text), public.reinstate_whatsapp_company(text, text),
  public.whatsapp_empty_quarantine(int), public.cleanup_expired_whatsapp_keys(int)
  to service_role;

notify pgrst, 'reload schema';
