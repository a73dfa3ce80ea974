-- Orders every request of every writer, so that a request that was given up changes nothing when it lands late.
-- Works with supabase-auth-state 0.3; clients of 0.1 and 0.2 go on as before beside it.

-- 1. What is remembered of writers and leases ---------------------------------------------------------------

-- The last number of every writer that may still have a request on its way. A writer is one opening of a company
-- by one process; it numbers its requests 1, 2, 3 …
create table public.whatsapp_writers (
  company_id text collate "C" not null check (char_length(company_id) between 1 and 255),
  writer text collate "C" not null check (char_length(writer) between 1 and 64),
  commit_no bigint not null check (commit_no > 0),
  token bigint,
  lands_until timestamptz not null,
  constraint whatsapp_writers_pkey primary key (company_id, writer)
) with (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0.05);

comment on table public.whatsapp_writers is 'The last request of every recent writer of a company. Changed by the guard only.';
comment on column public.whatsapp_writers.commit_no is 'The number of the last request that was executed; a lower one is refused, an equal one changes nothing.';
comment on column public.whatsapp_writers.token is 'The lease under which the last request came, or null.';
comment on column public.whatsapp_writers.lands_until is 'No request of this writer up to commit_no is executed after this moment.';

alter table public.whatsapp_writers enable row level security;
create policy whatsapp_writers_service_role on public.whatsapp_writers
  for select to service_role using (true);
revoke all on public.whatsapp_writers from public, anon, authenticated, service_role;
grant select on public.whatsapp_writers to service_role;

alter table public.whatsapp_leases
  add column acquired_by text,
  add column lapses bigint not null default 0,
  add column epoch bigint not null default 0;

comment on column public.whatsapp_leases.acquired_by is 'The writer whose request got the token, or null when a client of 0.2 did.';
comment on column public.whatsapp_leases.lapses is 'How often a lease ran out before its owner renewed it: clients without a lease could write in between.';
comment on column public.whatsapp_leases.epoch is 'Grows whenever an owner begins, ends or comes back: what a client without a lease has read before is out of date.';

-- 2. The order of requests ----------------------------------------------------------------------------------

-- The deadline of the request that is under way, or null when it is not of a 0.3 client.
create function public.whatsapp_check_deadline(p_deadline text)
returns timestamptz
language plpgsql
volatile
set search_path = ''
as $$
begin
  if p_deadline is null then
    return null;
  elsif p_deadline !~ '^[0-9]{1,11}(\.[0-9]{1,9})?$' then
    raise exception 'whatsapp deadline: the header x-whatsapp-deadline is a time in seconds since 1970' using errcode = '22023';
  elsif clock_timestamp() > to_timestamp(p_deadline::float8) then
    raise exception 'whatsapp deadline: the request came too late and was not executed; the time is %',
        extract(epoch from clock_timestamp())
      using errcode = 'PT408', hint = 'The request was delayed on its way, or the clock it was timed by is wrong.';
  end if;
  return to_timestamp(p_deadline::float8);
end
$$;

-- Takes the number of the request that is under way: state is 'new', or 'stored' when a request of this number was
-- executed before, so that this one may change nothing; null when the request is not of a 0.3 client. The caller
-- has locked the company's lease row, so the requests of a company are judged one after the other.
create function public.whatsapp_take_number(
  p_company_id text, p_token bigint, p_headers json, out state text, out writer text, out number bigint)
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_until timestamptz := public.whatsapp_check_deadline(p_headers ->> 'x-whatsapp-deadline');
  v_commit text[];
  v_known bigint := coalesce(substring(p_headers ->> 'x-whatsapp-stored' from '^[0-9]{1,18}$')::bigint, 0);
  v_stored bigint;
begin
  if v_until is null then
    return;
  end if;
  v_commit := regexp_match(p_headers ->> 'x-whatsapp-commit', '^([0-9a-f-]{1,64}):([1-9][0-9]{0,17})$');
  if v_commit is null then
    raise exception 'whatsapp commit: the header x-whatsapp-commit is a writer and a number' using errcode = '22023';
  end if;
  writer := v_commit[1];
  number := v_commit[2]::bigint;

  -- What almost every request does: one statement.
  update public.whatsapp_writers w
  set commit_no = v_commit[2]::bigint, token = p_token, lands_until = greatest(w.lands_until, v_until)
  where w.company_id = p_company_id and w.writer = v_commit[1]
    and w.commit_no < v_commit[2]::bigint and w.commit_no >= v_known;
  if found then
    state := 'new';
  else
    select w.commit_no into v_stored
    from public.whatsapp_writers w where w.company_id = p_company_id and w.writer = v_commit[1];
    -- A restored backup forgets what was acknowledged after it was taken.
    if coalesce(v_stored, 0) < v_known then
      raise exception 'whatsapp restore: commit % of company % was acknowledged, and the database has only %',
          v_known, p_company_id, coalesce(v_stored, 0)
        using errcode = 'PT409', hint = 'The database was set back to an earlier moment, and with it every ratchet.';
    elsif v_stored > number then
      raise exception 'whatsapp commit: a later request of the same writer was executed for company %', p_company_id
        using errcode = 'PT409', hint = 'This request was delayed on its way; its data is out of date.';
    elsif v_stored = number then
      state := 'stored';
    else
      state := 'new';
      insert into public.whatsapp_writers (company_id, writer, commit_no, token, lands_until)
      values (p_company_id, v_commit[1], v_commit[2]::bigint, p_token, v_until)
      on conflict on constraint whatsapp_writers_pkey do nothing;
      if not found then
        -- Only where the lease row did not exist yet, so that there was nothing to lock: the client tries again.
        raise exception 'whatsapp commit: two first requests of one writer came at once' using errcode = '40001';
      end if;
      -- No request of these can land any more. An hour is for clocks that are set; the owner's is never forgotten.
      delete from public.whatsapp_writers w
      where w.company_id = p_company_id and w.lands_until < clock_timestamp() - interval '1 hour'
        and (w.token is null or w.token is distinct from (
          select l.token from public.whatsapp_leases l where l.company_id = p_company_id and l.owner is not null));
    end if;
  end if;

  -- The receipt: PostgREST sends it with the answer to this very request.
  perform set_config('response.headers', '[{"x-whatsapp-receipt":"' || v_commit[1] || ':' || v_commit[2] || ':'
    || extract(epoch from clock_timestamp()) || '"}]', true);
end
$$;

-- May this request write the company's rows? True: yes. False: it did so before, and now changes nothing. The lease
-- row stays locked until the request is committed, so a new owner's acquire waits for it and then sees it.
create function public.whatsapp_enter(p_company_id text)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_headers json := nullif(current_setting('request.headers', true), '')::json;
  v_token text := v_headers ->> 'x-whatsapp-lease';
  v_epoch text := v_headers ->> 'x-whatsapp-epoch';
  v_ordered boolean := v_headers ->> 'x-whatsapp-deadline' is not null;
  v_commit text[];
  v_lease record;
  v_state text;
begin
  if not v_ordered then
    v_commit := regexp_match(v_headers ->> 'x-whatsapp-commit', '^([0-9a-f-]{1,64}):([0-9]{1,18})$');
  end if;
  loop
    if v_commit is null and not v_ordered then
      select l.* into v_lease from public.whatsapp_leases l where l.company_id = p_company_id for share;
    else
      select l.* into v_lease from public.whatsapp_leases l where l.company_id = p_company_id for no key update;
    end if;
    exit when found;
    insert into public.whatsapp_leases (company_id) values (p_company_id) on conflict do nothing;
  end loop;

  if v_token is not null then
    if v_token !~ '^[0-9]{1,18}$' then
      raise exception 'whatsapp lease: the header x-whatsapp-lease is exactly the token' using errcode = 'PT409';
    elsif v_ordered and v_token::bigint > v_lease.token then
      raise exception 'whatsapp restore: token % of company % was given, and the database knows only %',
          v_token, p_company_id, v_lease.token
        using errcode = 'PT409', hint = 'The database was set back to an earlier moment, and with it every ratchet.';
    elsif v_lease.owner is null or v_lease.token::text <> v_token then
      raise exception 'whatsapp lease: token % of company % is not its last one', v_token, p_company_id
        using errcode = 'PT409',
        hint = case when v_lease.owner is null then 'The lease was released.' else 'Another process owns the company now.' end
          || ' Close this connection and acquire the lease again.';
    end if;
  elsif v_lease.expires_at > clock_timestamp() then
    raise exception 'whatsapp lease: company % is owned by % until %', p_company_id, v_lease.owner, v_lease.expires_at
      using errcode = 'PT409',
      hint = 'Stop that process first. A client that owns the company sends its token in the header x-whatsapp-lease.';
  elsif v_epoch ~ '^[0-9]{1,18}$' and v_epoch::bigint <> v_lease.epoch then
    raise exception 'whatsapp lease: another process has owned company % since this one opened it', p_company_id
      using errcode = 'PT409', hint = 'What this process remembers is out of date: open the company again.';
  end if;

  if v_token is not null and v_lease.expires_at <= clock_timestamp() then
    -- The owner is late, and no other process has taken over: it writes, and those without a lease begin anew.
    update public.whatsapp_leases l set epoch = l.epoch + 1 where l.company_id = p_company_id;
  end if;
  if v_ordered then
    -- Looked at once more after each statement, which may have waited for locks until then.
    perform set_config('whatsapp_auth.deadline', v_headers ->> 'x-whatsapp-deadline', true);
    select t.state into v_state from public.whatsapp_take_number(p_company_id, v_token::bigint, v_headers) t;
    if v_state = 'stored' then
      return false;
    end if;
  elsif v_commit is not null then
    if v_lease.writer = v_commit[1] and v_lease.commit_no > v_commit[2]::bigint then
      raise exception 'whatsapp commit: a newer commit of the same writer is already stored for company %', p_company_id
        using errcode = 'PT409', hint = 'This request was delayed on its way; its data is out of date.';
    end if;
    update public.whatsapp_leases l set writer = v_commit[1], commit_no = v_commit[2]::bigint
    where l.company_id = p_company_id and (l.writer, l.commit_no) is distinct from (v_commit[1], v_commit[2]::bigint);
  end if;

  -- Local to the transaction: the rows that follow need no second look.
  perform set_config('whatsapp_auth.guarded', p_company_id, true);
  return true;
end
$$;

-- Runs as its owner, so that nobody else needs a grant on what it calls. A row of a request that was executed
-- before is left as it is.
create or replace function public.whatsapp_guard_row()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if tg_op <> 'INSERT' and not public.whatsapp_enter(old.company_id) then
    return null;
  end if;
  if (tg_op = 'INSERT' or tg_op = 'UPDATE' and new.company_id <> old.company_id)
    and not public.whatsapp_enter(new.company_id) then
    return null;
  end if;
  return case tg_op when 'DELETE' then old else new end;
end
$$;

drop function public.guard_whatsapp_company(text);

create function public.whatsapp_refuse_late()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception 'whatsapp deadline: the request waited for too long and is undone; the time is %',
      extract(epoch from clock_timestamp())
    using errcode = 'PT408', hint = 'Another transaction has held rows of the company.';
end
$$;

create trigger whatsapp_auth_90_deadline
  after insert or update or delete on public.whatsapp_auth for each statement
  when (clock_timestamp() > to_timestamp(nullif(current_setting('whatsapp_auth.deadline', true), '')::float8))
  execute function public.whatsapp_refuse_late();
create trigger whatsapp_keys_90_deadline
  after insert or update or delete on public.whatsapp_keys for each statement
  when (clock_timestamp() > to_timestamp(nullif(current_setting('whatsapp_auth.deadline', true), '')::float8))
  execute function public.whatsapp_refuse_late();

-- 3. Writes that are no upserts -----------------------------------------------------------------------------

create function public.whatsapp_receipt(p_company_id text)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object('company_id', p_company_id, 'commit', nullif(current_setting('request.headers', true), '')::jsonb ->> 'x-whatsapp-commit',
    'time', extract(epoch from clock_timestamp()))
$$;

-- Deletes every key of a company. The guard comes first and the deletion is a later statement, which therefore sees
-- every row of the requests that the guard waited for; a DELETE by itself would miss them.
create function public.clear_whatsapp_keys(p_company_id text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  if public.whatsapp_enter(p_company_id) then
    delete from public.whatsapp_keys k where k.company_id = p_company_id;
  end if;
  return public.whatsapp_receipt(p_company_id);
end
$$;

-- Takes a number and changes nothing else: after it no earlier request of the same writer is executed any more.
create function public.fence_whatsapp_writer(p_company_id text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  perform public.whatsapp_enter(p_company_id);
  return public.whatsapp_receipt(p_company_id);
end
$$;

-- The last number of a writer that was executed, 0 for none: how a write is acknowledged where a server does not
-- pass the receipt on.
create function public.whatsapp_last_commit(p_company_id text, p_writer text)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select jsonb_build_object('company_id', p_company_id, 'writer', p_writer, 'number', coalesce(
    (select w.commit_no from public.whatsapp_writers w where w.company_id = p_company_id and w.writer = p_writer), 0))
$$;

-- 4. Reads, which name what they answer ---------------------------------------------------------------------

-- {"company_id": …, "request": …, "time": …, "creds": {…} or null, "client_family": …, "has_keys": …, "epoch": …}.
-- epoch is what a writer without a lease sends as x-whatsapp-epoch; what was read while the company is owned is out of
-- date as soon as it is read, so its epoch is one that is over.
create function public.fetch_whatsapp_creds(p_company_id text, p_request text)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select jsonb_build_object('company_id', p_company_id, 'request', p_request,
    'time', extract(epoch from clock_timestamp()), 'creds', a.creds, 'client_family', a.client_family,
    'has_keys', exists (select from public.whatsapp_keys k where k.company_id = p_company_id),
    'epoch', coalesce((
      select l.epoch - (l.expires_at > clock_timestamp())::int from public.whatsapp_leases l
      where l.company_id = p_company_id), 0))
  from (select) one left join public.whatsapp_auth a on a.company_id = p_company_id
$$;

-- Stores fresh creds if the company certainly has neither creds nor keys, and answers as fetch_whatsapp_creds does.
create function public.create_whatsapp_company(
  p_company_id text, p_creds jsonb, p_client_family text, p_request text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  if public.whatsapp_enter(p_company_id) then
    insert into public.whatsapp_auth (company_id, creds, client_family)
    select p_company_id, p_creds, p_client_family
    where not exists (select from public.whatsapp_keys k where k.company_id = p_company_id)
    on conflict (company_id) do nothing;
  end if;
  return public.fetch_whatsapp_creds(p_company_id, p_request);
end
$$;

-- Moves expires_at of what is read. Which policy applies is looked up here: none can be made up.
create function public.whatsapp_touch_keys(p_company_id text, p_key_type text, p_ids jsonb)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_ttl interval := (select p.ttl from public.whatsapp_key_policies p where p.key_type = p_key_type);
  v_due text[];
begin
  select array_agg(k.key_id) into v_due
  from jsonb_array_elements_text(p_ids) as i (key_id)
  join public.whatsapp_keys k
    on k.company_id = p_company_id and k.key_type = p_key_type and k.key_id = i.key_id
  -- Not for the index on expires_at: each is found by its key.
  where coalesce(k.expires_at, 'infinity') < now() + v_ttl / 2;
  if v_due is null then
    return;
  end if;

  perform set_config('whatsapp_auth.maintenance', 'on', true);
  -- Locking in one order keeps two readers from waiting for each other; a clean-up that holds a row has
  -- either deleted it by the time we get it, or left it.
  with wanted as (
    select unnest(v_due) as key_id
    union
    select m.partner_id
    from public.whatsapp_lid_mappings m
    where p_key_type = 'lid-mapping' and m.company_id = p_company_id and m.key_id = any (v_due)
  ), locked as (
    select k.company_id, k.key_type, k.key_id
    from public.whatsapp_keys k
    join wanted w on w.key_id = k.key_id
    where k.company_id = p_company_id and k.key_type = p_key_type
      and coalesce(k.expires_at, 'infinity') < 'infinity'
    order by k.key_id
    for update of k
  )
  update public.whatsapp_keys k
  set expires_at = now() + v_ttl
  from locked l
  where k.company_id = l.company_id and k.key_type = l.key_type and k.key_id = l.key_id;
  perform set_config('whatsapp_auth.maintenance', '', true);
end
$$;

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
  return coalesce(v_found, '{}'::json);
end
$$;

drop function public.touch_whatsapp_keys(text, public.whatsapp_key_policies, jsonb);

-- {"company_id": …, "request": …, "time": …, "keys": {type: {id: value}}}: values by type and id as read_whatsapp_keys
-- gives them, or, when p_keys is null, the rows changed last as warm_whatsapp_keys gives them.
create function public.fetch_whatsapp_keys(p_company_id text, p_keys jsonb, p_request text)
returns public."application/vnd.whatsapp-keys+json"
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_found json;
begin
  if p_keys is null then
    v_found := public.warm_whatsapp_keys(p_company_id);
  else
    v_found := public.read_whatsapp_keys(p_company_id, p_keys);
  end if;
  return json_build_object('company_id', p_company_id, 'request', p_request,
    'time', extract(epoch from clock_timestamp()), 'keys', v_found);
end
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
      select json_build_array(a.creds, a.client_family, extract(epoch from a.created_at), extract(epoch from a.updated_at))
      from public.whatsapp_auth a where a.company_id = p_company_id))
$$;

-- 5. Leases, whose requests are ordered like all others ------------------------------------------------------

-- Takes the company for p_owner, or says who has it: {"company_id": …, "request": …, "time": …, "token": 7,
-- "expires_at": …, "lapses": …} or {…, "token": null, "owner": …, "expires_at": …}. The row lock waits for writes under way, so whoever
-- gets the token sees all of them. A request of a 0.3 client that is executed twice gives the same token; one that
-- comes after the lease was given back gives none. Without a number the same owner gets a new token each time.
drop function public.acquire_whatsapp_lease(text, text, int);
create function public.acquire_whatsapp_lease(
  p_company_id text, p_owner text, p_ttl_seconds int, p_request text default null)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_lease public.whatsapp_leases;
  v_request record;
  v_answer jsonb;
begin
  if coalesce(p_owner, '') = '' or p_ttl_seconds is null or p_ttl_seconds not between 1 and 86400 then
    raise exception 'a lease needs an owner and a time of 1 to 86400 seconds' using errcode = '22023';
  end if;
  insert into public.whatsapp_leases (company_id) values (p_company_id) on conflict do nothing;
  select l.* into v_lease from public.whatsapp_leases l where l.company_id = p_company_id for update;
  select t.* into v_request from public.whatsapp_take_number(p_company_id, v_lease.token + 1,
    nullif(current_setting('request.headers', true), '')::json) t;
  v_answer := jsonb_build_object('company_id', p_company_id, 'request', p_request, 'time', extract(epoch from clock_timestamp()));
  if (case when v_request.state = 'stored'
      then v_lease.owner is distinct from p_owner or v_lease.acquired_by is distinct from v_request.writer
      else v_lease.owner <> p_owner and v_lease.expires_at > clock_timestamp() end) then
    return v_answer || jsonb_build_object('token', null, 'owner', v_lease.owner, 'expires_at', v_lease.expires_at);
  end if;
  if v_request.state is distinct from 'stored' then
    update public.whatsapp_leases l
    set token = l.token + 1, owner = p_owner, acquired_by = v_request.writer, acquired_at = clock_timestamp(),
      renewed_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => p_ttl_seconds),
      epoch = l.epoch + 1
    where l.company_id = p_company_id
    returning l.* into v_lease;
  end if;
  return v_answer || jsonb_build_object('token', v_lease.token, 'expires_at', v_lease.expires_at, 'lapses', v_lease.lapses);
end
$$;

-- {"company_id": …, "token": …, "status": "renewed" | "lost" | "missing", "expires_at": …, "lapsed": …, "lapses": …}.
-- An owner whose time ran out while nobody else took over is renewed; lapsed then says that clients without a lease
-- could write meanwhile. lapses counts these times, so that none is missed when an answer is lost.
create or replace function public.renew_whatsapp_lease(p_company_id text, p_token bigint, p_ttl_seconds int)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_lease public.whatsapp_leases;
  v_lapsed boolean;
begin
  if p_ttl_seconds is null or p_ttl_seconds not between 1 and 86400 then
    raise exception 'a lease takes a time of 1 to 86400 seconds' using errcode = '22023';
  end if;
  select l.* into v_lease from public.whatsapp_leases l where l.company_id = p_company_id for update;
  perform public.whatsapp_check_deadline(nullif(current_setting('request.headers', true), '')::json ->> 'x-whatsapp-deadline');
  if v_lease.company_id is null or v_lease.token = p_token and v_lease.owner is null then
    return jsonb_build_object('company_id', p_company_id, 'token', p_token, 'status', 'missing', 'expires_at', null);
  elsif v_lease.token is distinct from p_token then
    return jsonb_build_object('company_id', p_company_id, 'token', p_token, 'status', 'lost', 'expires_at', null);
  end if;
  v_lapsed := v_lease.expires_at <= clock_timestamp();
  update public.whatsapp_leases l
  set renewed_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => p_ttl_seconds),
    lapses = l.lapses + v_lapsed::int, epoch = l.epoch + v_lapsed::int
  where l.company_id = p_company_id
  returning l.* into v_lease;
  return jsonb_build_object('company_id', p_company_id, 'token', p_token, 'status', 'renewed',
    'expires_at', v_lease.expires_at, 'lapsed', v_lapsed, 'lapses', v_lease.lapses);
end
$$;

create or replace function public.renew_whatsapp_leases(p_leases jsonb, p_ttl_seconds int)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_answers jsonb := '[]';
  v_answer jsonb;
  v_item jsonb;
begin
  for v_item in select e.value from jsonb_array_elements(p_leases) with ordinality as e order by e.ordinality loop
    perform from public.whatsapp_leases l where l.company_id = v_item ->> 0 for update skip locked;
    if found or not exists (select from public.whatsapp_leases l where l.company_id = v_item ->> 0) then
      v_answer := public.renew_whatsapp_lease(v_item ->> 0, (v_item ->> 1)::bigint, p_ttl_seconds);
    else
      v_answer := jsonb_build_object('company_id', v_item -> 0, 'token', v_item -> 1, 'status', 'busy');
    end if;
    v_answers := v_answers || jsonb_build_array(v_answer);
  end loop;
  return v_answers;
end
$$;

-- True when the lease was the caller's: that of p_token, or, when p_token is null, the one that this writer's request
-- for a lease has got or may still get: after this no such request is executed. The token stays refused for ever after.
create or replace function public.release_whatsapp_lease(p_company_id text, p_token bigint)
returns boolean
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_request record;
begin
  perform from public.whatsapp_leases l where l.company_id = p_company_id for update;
  select t.* into v_request from public.whatsapp_take_number(p_company_id, p_token,
    nullif(current_setting('request.headers', true), '')::json) t;
  update public.whatsapp_leases l
  set owner = null, expires_at = '-infinity', epoch = l.epoch + 1
  where l.company_id = p_company_id and l.owner is not null
    and (l.token = p_token or p_token is null and l.acquired_by = v_request.writer);
  return found;
end
$$;

-- {"company_id": …, "token": …, "owner": …, "acquired_at": …, "expires_at": …, "live": …}; token 0 when nobody ever
-- owned the company.
create or replace function public.whatsapp_lease_status(p_company_id text)
returns jsonb
language sql
stable security definer
set search_path = ''
as $$
  select jsonb_build_object('company_id', p_company_id, 'token', coalesce(l.token, 0), 'owner', l.owner,
    'acquired_at', l.acquired_at, 'expires_at', case when l.owner is not null then l.expires_at end,
    'live', l.owner is not null and l.expires_at > clock_timestamp())
  from (select) one left join public.whatsapp_leases l on l.company_id = p_company_id
$$;

-- 6. For clients before 0.3 -----------------------------------------------------------------------------------

comment on function public.commit_whatsapp_state(text) is 'Deprecated: for clients of 0.1 and 0.2. Since 0.3 writes are upserts.';

-- 7. Access ---------------------------------------------------------------------------------------------------

-- The guard and what it calls are granted to nobody: triggers and functions run them as their owner.
revoke all on function public.whatsapp_check_deadline(text), public.whatsapp_take_number(text, bigint, json),
  public.whatsapp_enter(text), public.whatsapp_guard_row(), public.whatsapp_refuse_late(), public.whatsapp_receipt(text)
  from public, anon, authenticated, service_role;
revoke all on function public.acquire_whatsapp_lease(text, text, int, text), public.clear_whatsapp_keys(text), public.fence_whatsapp_writer(text),
  public.whatsapp_last_commit(text, text), public.fetch_whatsapp_creds(text, text),
  public.create_whatsapp_company(text, jsonb, text, text), public.whatsapp_touch_keys(text, text, jsonb),
  public.fetch_whatsapp_keys(text, jsonb, text)
  from public, anon, authenticated;
grant execute on function public.acquire_whatsapp_lease(text, text, int, text), public.clear_whatsapp_keys(text), public.fence_whatsapp_writer(text),
  public.whatsapp_last_commit(text, text), public.fetch_whatsapp_creds(text, text),
  public.create_whatsapp_company(text, jsonb, text, text), public.whatsapp_touch_keys(text, text, jsonb),
  public.fetch_whatsapp_keys(text, jsonb, text)
  to service_role;

notify pgrst, 'reload schema';
