-- A company that WhatsApp has logged out goes into quarantine, and nothing new is stored for it before a person says so;
-- pauses grow for all machines; erasing looks into every table; and sealed values are given only to who knows them.
-- Works with supabase-auth-state 0.4; what earlier clients write for a company that was logged out is refused.

-- 1. Logging out ---------------------------------------------------------------------------------------------

alter table public.whatsapp_pauses
  add column step int not null default 0 check (step >= 0),
  add column logged_out boolean not null default false;

comment on column public.whatsapp_pauses.step is 'How many pauses in a row this one is: the next one is longer, also on another machine.';
comment on column public.whatsapp_pauses.logged_out is 'Whether what the company had is in quarantine, and nothing new is stored for it.';

-- As before, and notes for the rows that follow whether the company was logged out.
alter function public.whatsapp_enter(text) rename to whatsapp_enter_in_turn;

create function public.whatsapp_enter(p_company_id text)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_new boolean := public.whatsapp_enter_in_turn(p_company_id);
begin
  if exists (select from public.whatsapp_pauses p where p.company_id = p_company_id and p.logged_out) then
    perform set_config('whatsapp_auth.logged_out', p_company_id, true);
  end if;
  return v_new;
end
$$;

create function public.whatsapp_refuse_logged_out()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception 'whatsapp logout: company % was logged out by WhatsApp; what it had is in quarantine', new.company_id
    using errcode = 'PT409',
    hint = 'To link a new device, reinstate the company (supabase-auth-state reinstate); to go on with the old one, restore it.';
end
$$;

-- After the guard, which has noted it, and after rows without a value, which delete.
create trigger whatsapp_auth_12_logged_out
  before insert on public.whatsapp_auth for each row
  when (current_setting('whatsapp_auth.logged_out', true) = new.company_id)
  execute function public.whatsapp_refuse_logged_out();
create trigger whatsapp_keys_12_logged_out
  before insert on public.whatsapp_keys for each row
  when (current_setting('whatsapp_auth.logged_out', true) = new.company_id)
  execute function public.whatsapp_refuse_logged_out();

-- Moves a company into quarantine, because WhatsApp has logged its device out, and notes that pools leave it alone, in
-- one transaction. Clients clear the keys when that happens: what was cleared within the hour before belongs to what is
-- restored. Returns the receipt with "removed", the version in quarantine, or null where there was nothing.
create function public.log_out_whatsapp_company(p_company_id text, p_code int, p_reason text, p_noted_by text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_version bigint;
  v_cleared bigint;
begin
  if public.whatsapp_enter(p_company_id) then
    v_version := public.whatsapp_into_quarantine(p_company_id, 'logged out', false);
    select c.version into v_cleared
    from public.whatsapp_quarantine q
    join public.whatsapp_quarantine c on c.company_id = q.company_id and c.version < q.version
    where q.company_id = p_company_id and q.version = v_version and q.keys = 0
      and c.reason = 'clear' and c.keys > 0 and c.removed_at > clock_timestamp() - interval '1 hour'
      and public.whatsapp_same_device(c.creds, q.creds)
    order by c.version desc limit 1;
    if found then
      update public.whatsapp_quarantine_keys k set version = v_version
      where k.company_id = p_company_id and k.version = v_cleared;
      update public.whatsapp_quarantine q
      set keys = (select c.keys from public.whatsapp_quarantine c where c.company_id = p_company_id and c.version = v_cleared)
      where q.company_id = p_company_id and q.version = v_version;
      delete from public.whatsapp_quarantine q where q.company_id = p_company_id and q.version = v_cleared;
    end if;
    insert into public.whatsapp_pauses as p (company_id, code, reason, until, noted_by, logged_out)
    values (p_company_id, p_code, p_reason, 'infinity', p_noted_by, true)
    on conflict (company_id) do update
    set code = excluded.code, reason = excluded.reason, until = excluded.until, noted_at = now(),
      noted_by = excluded.noted_by, logged_out = true;
  end if;
  return public.whatsapp_receipt(p_company_id) || jsonb_build_object('removed', v_version);
end
$$;

-- As before, and "logged_out": whether the company is in quarantine because WhatsApp has logged it out.
create or replace function public.fetch_whatsapp_creds(p_company_id text, p_request text)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select public.whatsapp_read_creds(p_company_id, p_request) || jsonb_build_object(
    'closed', (
      select l.owner from public.whatsapp_leases l
      where l.company_id = p_company_id and (starts_with(l.owner, 'arriving from ') or starts_with(l.owner, 'moved to '))),
    'logged_out', exists (select from public.whatsapp_pauses p where p.company_id = p_company_id and p.logged_out))
$$;

-- As before, and a company that was logged out may be written again. Pools leave it alone until it is reinstated.
alter function public.restore_whatsapp_version(text, bigint) rename to whatsapp_put_back;

create function public.restore_whatsapp_version(p_company_id text, p_version bigint)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  -- The company's row first, as everywhere. Where the request is refused, all of this is taken back.
  perform from public.whatsapp_leases l where l.company_id = p_company_id for no key update;
  update public.whatsapp_pauses p set logged_out = false
  where p.company_id = p_company_id and p.logged_out and exists (
    select from public.whatsapp_quarantine q
    where q.company_id = p_company_id and q.version = p_version and q.until > now());
  return public.whatsapp_put_back(p_company_id, p_version);
end
$$;

-- 2. Pauses that grow for all machines -----------------------------------------------------------------------

-- As before, and p_step: how many pauses in a row this one is.
drop function public.note_whatsapp_pause(text, int, text, float8, text, text);

create function public.note_whatsapp_pause(
  p_company_id text, p_code int, p_reason text, p_seconds float8, p_noted_by text, p_request text, p_step int default 0)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  insert into public.whatsapp_pauses as p (company_id, code, reason, until, noted_by, step)
  values (p_company_id, p_code, p_reason,
    case when p_seconds is null then 'infinity' else clock_timestamp() + make_interval(secs => least(p_seconds, 31536000)) end,
    p_noted_by, p_step)
  on conflict (company_id) do update
  set code = excluded.code, reason = excluded.reason, until = excluded.until, noted_at = now(), noted_by = excluded.noted_by,
    step = excluded.step
  where p.until < excluded.until;
  return public.whatsapp_pauses_of(p_company_id, jsonb_build_array(p_company_id), p_request);
end
$$;

-- As before, with "step" and "logged_out". A pause that ended within the last day is there too, with 0 seconds: the next
-- one goes on where it was.
create or replace function public.whatsapp_pauses_of(p_company_id text, p_companies jsonb, p_request text)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select jsonb_build_object('company_id', p_company_id, 'request', p_request,
    'time', extract(epoch from clock_timestamp()), 'pauses', coalesce((
    select jsonb_object_agg(p.company_id, jsonb_build_object('code', p.code, 'reason', p.reason,
      'seconds', case when p.until < 'infinity' then greatest(extract(epoch from p.until - clock_timestamp()), 0) end,
      'noted_at', extract(epoch from p.noted_at), 'noted_by', p.noted_by, 'step', p.step, 'logged_out', p.logged_out))
    from public.whatsapp_pauses p
    where p.until > clock_timestamp() - interval '1 day'
      and p.company_id = any (array(select jsonb_array_elements_text(p_companies)))), '{}'))
$$;

-- As before, and a pause is kept for a day after its end.
create or replace function public.whatsapp_empty_quarantine(p_batch_size int)
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
    delete from public.whatsapp_pauses p where p.until <= now() - interval '1 day';
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

-- 3. Removing every trace ------------------------------------------------------------------------------------

-- Takes the name of a company out of messages of alerts, and out of the place where the recount of the statistics is.
create function public.whatsapp_forget_name(p_company_id text)
returns void
language sql
volatile
set search_path = ''
as $$
  update public.whatsapp_alert_messages m
  set message = jsonb_set(jsonb_set(m.message, '{companies}', (m.message -> 'companies') - p_company_id), '{text}',
    to_jsonb(replace(m.message ->> 'text',
      '; companies: ' || (select string_agg(c.name, ', ' order by c.place)
        from jsonb_array_elements_text(m.message -> 'companies') with ordinality as c (name, place)),
      coalesce('; companies: ' || (select string_agg(c.name, ', ' order by c.place)
        from jsonb_array_elements_text(m.message -> 'companies') with ordinality as c (name, place)
        where c.name <> p_company_id), ''))))
  where m.message -> 'companies' ? p_company_id;
  update public.whatsapp_statistics s
  set recount_after = coalesce((
    select max(o.company_id) from public.whatsapp_company_statistics o where o.company_id < p_company_id), '')
  where s.recount_after = p_company_id
$$;

-- How many rows each table has of a company: {table: rows, …}. Every table that has a column company_id, as the catalog
-- says, so that no later one is forgotten; and the messages of alerts.
create function public.whatsapp_rows_of(p_company_id text)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  v_table record;
  v_rows bigint;
  v_left jsonb;
begin
  select jsonb_build_object('whatsapp_alert_messages', count(*)) into v_left
  from public.whatsapp_alert_messages m where m.message -> 'companies' ? p_company_id;
  for v_table in
    select c.relname as name from pg_catalog.pg_class c
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = 'company_id' and not a.attisdropped
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and starts_with(c.relname, 'whatsapp_')
  loop
    execute format('select count(*) from public.%I t where t.company_id = $1', v_table.name) into v_rows using p_company_id;
    v_left := v_left || jsonb_build_object(v_table.name, v_rows);
  end loop;
  return v_left;
end
$$;

-- As before, and further: the messages of alerts no longer name the company, and "left" counts every table there is.
create or replace function public.forget_whatsapp_company(p_company_id text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_lease record;
  v_until timestamptz;
begin
  select l.* into v_lease from public.whatsapp_leases l where l.company_id = p_company_id for update;
  select max(w.lands_until) into v_until from public.whatsapp_writers w where w.company_id = p_company_id;
  if v_lease.owner is null and coalesce(v_until, '-infinity') < clock_timestamp()
    and p_company_id <> 'supabase-auth-state/erased'
    and not exists (select from public.whatsapp_auth a where a.company_id = p_company_id)
    and not exists (select from public.whatsapp_keys k where k.company_id = p_company_id)
    and not exists (select from public.whatsapp_creds_history h where h.company_id = p_company_id)
    and not exists (select from public.whatsapp_quarantine q where q.company_id = p_company_id)
    and not exists (select from public.whatsapp_pauses p where p.company_id = p_company_id) then
    if v_lease.token > 0 or v_lease.epoch > 0 then
      insert into public.whatsapp_leases as l (company_id, token, epoch)
      values ('supabase-auth-state/erased', v_lease.token, v_lease.epoch + 1)
      on conflict (company_id) do update
      set token = greatest(l.token, excluded.token), epoch = greatest(l.epoch, excluded.epoch);
    end if;
    delete from public.whatsapp_writers w where w.company_id = p_company_id;
    delete from public.whatsapp_leases l where l.company_id = p_company_id;
    delete from public.whatsapp_lease_history h where h.company_id = p_company_id;
    -- It counts nothing any more, which takes the row away and what it added to the sums.
    perform public.whatsapp_count_companies(array[p_company_id]);
    perform public.whatsapp_forget_name(p_company_id);
    v_until := null;
  end if;
  return jsonb_build_object('company_id', p_company_id, 'lands_until', extract(epoch from v_until),
    'time', extract(epoch from clock_timestamp()), 'left', public.whatsapp_rows_of(p_company_id));
end
$$;

-- 4. Sealed values are given to who knows them --------------------------------------------------------------

-- Clients before 0.4 would take a sealed value for a session. Those that know sealed values say so in the header
-- x-whatsapp-knows, whether they have the key or not; others get an error. What is no request of the API's passes.
create function public.whatsapp_to_who_knows(p_company_id text, p_found json)
returns json
language plpgsql
stable
set search_path = ''
as $$
begin
  if nullif(current_setting('request.headers', true), '')::json ->> 'x-whatsapp-knows' is distinct from 'sealed'
    and nullif(current_setting('request.headers', true), '') is not null
    and position('"$sealed": "' in p_found::text) > 0 then
    raise exception 'whatsapp sealing: values of company % are sealed, and this client does not know such values', p_company_id
      using errcode = 'PT409', hint = 'Use version 0.4 or later, with the key.';
  end if;
  return p_found;
end
$$;

-- As before, by way of that function.
create or replace function public.read_whatsapp_keys(p_company_id text, p_keys jsonb)
returns public."application/vnd.whatsapp-keys+json"
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_type text;
  v_found json;
begin
  if current_setting('transaction_read_only') = 'off' then
    for v_type in select p.key_type from public.whatsapp_key_policies p where p_keys ? p.key_type loop
      perform public.whatsapp_touch_keys(p_company_id, v_type, p_keys -> v_type);
    end loop;
  end if;

  -- An array of ids is one descent into the index for all of them; a join plans worse (measured: 1.0 ms
  -- against 3.9 ms for 100 values).
  select json_object_agg(w.key_type, f.found) filter (where f.found is not null) into v_found
  from jsonb_each(p_keys) as w (key_type, ids)
  cross join lateral (
    select json_object_agg(k.key_id, k.value) as found
    from public.whatsapp_keys k
    where k.company_id = p_company_id and k.key_type = w.key_type
      and k.key_id = any (array(select jsonb_array_elements_text(w.ids)))
  ) as f;
  return public.whatsapp_to_who_knows(p_company_id, coalesce(v_found, '{}'::json));
end
$$;

create or replace function public.list_whatsapp_keys(p_company_id text, p_after jsonb default null, p_limit int default 1000)
returns json
language sql
stable
set search_path = ''
as $$
  select public.whatsapp_to_who_knows(p_company_id, coalesce(json_agg(json_build_array(w.key_type, w.key_id, w.value,
      extract(epoch from w.updated_at), extract(epoch from w.expires_at)) order by w.key_type, w.key_id), '[]'::json))
  from (
    select p.*, sum(pg_column_size(p.value)) over (order by p.key_type, p.key_id) - pg_column_size(p.value) as bytes_before
    from (
      select k.key_type, k.key_id, k.value, k.updated_at, k.expires_at
      from public.whatsapp_keys k
      where k.company_id = p_company_id
        and (k.key_type, k.key_id) > (coalesce(p_after ->> 0, ''), coalesce(p_after ->> 1, ''))
      order by k.key_type, k.key_id
      limit p_limit
    ) p
  ) w
  where w.bytes_before < 4194304
$$;

create or replace function public.warm_whatsapp_keys(p_company_id text, p_bytes int default 8388608)
returns public."application/vnd.whatsapp-keys+json"
language sql
stable
set search_path = ''
as $$
  select public.whatsapp_to_who_knows(p_company_id, coalesce(json_object_agg(t.key_type, t.found), '{}'::json))::public."application/vnd.whatsapp-keys+json"
  from (
    select h.key_type, json_object_agg(h.key_id, h.value) as found
    from (
      select k.key_type, k.key_id, k.value,
        sum(pg_column_size(k.value)) over (order by k.updated_at desc, k.key_type, k.key_id) as bytes
      from public.whatsapp_keys k
      where k.company_id = p_company_id and (k.expires_at is null or k.expires_at > now() + interval '1 day')
    ) h
    where h.bytes <= p_bytes
    group by h.key_type
  ) t
$$;

create or replace function public.list_whatsapp_company(p_company_id text, p_after jsonb default null, p_limit int default 1000)
returns json
language sql
stable
set search_path = ''
as $$
  select json_build_object(
    'company_id', p_company_id,
    'keys', public.list_whatsapp_keys(p_company_id, p_after, p_limit),
    'auth', (
      select public.whatsapp_to_who_knows(p_company_id,
        json_build_array(a.creds, a.client_family, extract(epoch from a.created_at), extract(epoch from a.updated_at)))
      from public.whatsapp_auth a where a.company_id = p_company_id))
$$;

-- 5. Access --------------------------------------------------------------------------------------------------

revoke all on function public.whatsapp_enter(text), public.whatsapp_refuse_logged_out(), public.whatsapp_put_back(text, bigint),
  public.whatsapp_forget_name(text), public.whatsapp_rows_of(text)
  from public, anon, authenticated, service_role;
revoke all on function public.log_out_whatsapp_company(text, int, text, text), public.restore_whatsapp_version(text, bigint),
  public.note_whatsapp_pause(text, int, text, float8, text, text, int)
  from public, anon, authenticated;
grant execute on function public.log_out_whatsapp_company(text, int, text, text), public.restore_whatsapp_version(text, bigint),
  public.note_whatsapp_pause(text, int, text, float8, text, text, int)
  to service_role;
revoke all on function public.whatsapp_to_who_knows(text, json) from public, anon, authenticated;
grant execute on function public.whatsapp_to_who_knows(text, json) to service_role;

notify pgrst, 'reload schema';
