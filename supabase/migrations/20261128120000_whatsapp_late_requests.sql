-- Closes gaps between requests that cross: a row that goes while a request waits for it, a wait that outlasts the deadline,
-- one request for two companies, a copy that comes late. Works with supabase-auth-state 0.4; earlier clients go on as before.

-- 1. One request, one company; and too late after all -------------------------------------------------------

-- As before, and further: a request that carries a number or a token writes one company. In a second one the token would be that
-- of another lease; and back in the first one, its number would be taken for one that was executed before, and the rows
-- left out.
create or replace function public.whatsapp_enter(p_company_id text)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_headers json := nullif(current_setting('request.headers', true), '')::json;
  v_new boolean;
begin
  if coalesce(v_headers ->> 'x-whatsapp-deadline', v_headers ->> 'x-whatsapp-lease') is not null then
    if nullif(current_setting('whatsapp_auth.guarded', true), '') <> p_company_id then
      raise exception 'whatsapp commit: a request with a lease or a number writes one company, and this one writes two'
        using errcode = '22023', hint = 'Send a request for each company.';
    elsif v_headers ->> 'x-whatsapp-deadline' is null then
      -- The lock that an owner without numbers needs when its time ran out. Two of its requests that have shared the row until
      -- then would wait for each other.
      perform from public.whatsapp_leases l where l.company_id = p_company_id for no key update;
    end if;
  end if;
  v_new := public.whatsapp_enter_in_turn(p_company_id);
  if exists (select from public.whatsapp_pauses p where p.company_id = p_company_id and p.logged_out) then
    perform set_config('whatsapp_auth.logged_out', p_company_id, true);
  end if;
  return v_new;
end
$$;

-- As before, and further: the deadline is looked at once more. A function may have waited for rows of other tables than those
-- whose triggers look, e.g. for a pause or for the quarantine; then all that it did is undone.
create or replace function public.whatsapp_receipt(p_company_id text)
returns jsonb
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_headers jsonb := nullif(current_setting('request.headers', true), '')::jsonb;
begin
  perform public.whatsapp_check_deadline(v_headers ->> 'x-whatsapp-deadline');
  return jsonb_build_object('company_id', p_company_id, 'commit', v_headers ->> 'x-whatsapp-commit',
    'time', extract(epoch from clock_timestamp()));
end
$$;

-- 2. A company that is erased while it is asked for ---------------------------------------------------------

-- Afterwards and not before: an insert may wait until the erasing of the same company is committed, and only then is the last
-- token known above which the company begins anew.
create or replace function public.whatsapp_above_erased()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  update public.whatsapp_leases l
  set token = greatest(l.token, e.token), epoch = greatest(l.epoch, e.epoch)
  from public.whatsapp_leases e
  where l.company_id = new.company_id and e.company_id = 'supabase-auth-state/erased'
    and (e.token > l.token or e.epoch > l.epoch);
  return null;
end
$$;

drop trigger whatsapp_leases_above_erased on public.whatsapp_leases;
create trigger whatsapp_leases_above_erased
  after insert on public.whatsapp_leases
  for each row when (new.company_id <> 'supabase-auth-state/erased')
  execute function public.whatsapp_above_erased();

-- As before, and further: a row that was erased while this waited for it is made anew.
create or replace function public.acquire_whatsapp_lease(
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
  loop
    insert into public.whatsapp_leases (company_id) values (p_company_id) on conflict do nothing;
    select l.* into v_lease from public.whatsapp_leases l where l.company_id = p_company_id for update;
    exit when found;
  end loop;
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

-- As before, and further: the sums are locked, like by all who count, and first, because these wait for no company.
alter function public.forget_whatsapp_company(text) rename to whatsapp_forget_in_turn;

create function public.forget_whatsapp_company(p_company_id text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  perform from public.whatsapp_statistics s where s.id for update;
  return public.whatsapp_forget_in_turn(p_company_id);
end
$$;

-- 3. A company that is closed while its lease is ended ------------------------------------------------------

-- As before, and further: a request without a number, by which a person ends the lease of a process that died, opens no company
-- that this process has closed meanwhile.
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
    and (v_request.state is not null or not public.whatsapp_is_mark(l.owner))
    and (l.token = p_token or p_token is null and l.acquired_by = v_request.writer);
  return found;
end
$$;

-- 4. What comes out of quarantine, and what goes for good ---------------------------------------------------

-- As before, and further: a removed company is locked, and its time is looked at when it is, so that a clean-up has either not
-- begun with it or leaves it. What is there of an earlier history makes room for that which comes back.
create or replace function public.whatsapp_put_back(p_company_id text, p_version bigint)
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
      where q.company_id = p_company_id and q.version = p_version for update;
      if found and v_kept.until > clock_timestamp() then
        -- All at once: what is there now goes into quarantine, what was there comes back.
        perform public.whatsapp_into_quarantine(p_company_id, 'restore', false, p_version);
        -- A device that plain requests have deleted has left its earlier creds, and these are put aside like a company.
        insert into public.whatsapp_quarantine (company_id, version, reason, history, keys, removed_at, until)
        select p_company_id, public.whatsapp_next_version(p_company_id), 'restore', jsonb_agg(to_jsonb(h) - 'company_id' order by h.slot),
          0, clock_timestamp(), clock_timestamp() + interval '14 days'
        from public.whatsapp_creds_history h where h.company_id = p_company_id
        having count(*) > 0;
        delete from public.whatsapp_creds_history h where h.company_id = p_company_id;
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

-- As before, and further: where nothing is restored, e.g. by the copy of a request that was executed before, the company stays
-- logged out.
create or replace function public.restore_whatsapp_version(p_company_id text, p_version bigint)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_logged_out boolean;
  v_receipt jsonb;
begin
  -- The company's row first, as everywhere. Where the request is refused, all of this is taken back.
  perform from public.whatsapp_leases l where l.company_id = p_company_id for no key update;
  update public.whatsapp_pauses p set logged_out = false
  where p.company_id = p_company_id and p.logged_out and exists (
    select from public.whatsapp_quarantine q
    where q.company_id = p_company_id and q.version = p_version and q.until > now());
  v_logged_out := found;
  v_receipt := public.whatsapp_put_back(p_company_id, p_version);
  if v_logged_out and not (v_receipt -> 'restored')::boolean then
    update public.whatsapp_pauses p set logged_out = true where p.company_id = p_company_id;
  end if;
  return v_receipt;
end
$$;

-- As before, and further: what another transaction holds is left for the next run, so that a clean-up and a request never
-- wait for each other. A removed company is held while its keys go.
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
  with over as materialized (
    select q.company_id, q.version from public.whatsapp_quarantine q
    where q.until <= now()
    for update skip locked
  )
  delete from public.whatsapp_quarantine_keys k
  where k.ctid = any (array(
    select o.ctid from over v
    join public.whatsapp_quarantine_keys o on o.company_id = v.company_id and o.version = v.version
    limit p_batch_size
    for update of o skip locked));
  get diagnostics v_deleted = row_count;
  if v_deleted < p_batch_size then
    delete from public.whatsapp_quarantine q
    where q.ctid = any (array(
      select o.ctid from public.whatsapp_quarantine o
      where o.until <= now() and not exists (
        select from public.whatsapp_quarantine_keys k where k.company_id = o.company_id and k.version = o.version)
      for update skip locked));
    get diagnostics v_gone = row_count;
    delete from public.whatsapp_creds_history h
    where h.ctid = any (array(
      select o.ctid from public.whatsapp_creds_history o
      where o.slot >= 10 and o.replaced_at <= now() - interval '7 days'
        or o.replaced_at <= now() - interval '14 days'
          and not exists (select from public.whatsapp_auth a where a.company_id = o.company_id)
      for update skip locked));
    get diagnostics v_deleted = row_count;
    v_gone := v_gone + v_deleted;
    delete from public.whatsapp_pauses p
    where p.ctid = any (array(
      select o.ctid from public.whatsapp_pauses o where o.until <= now() - interval '1 day' for update skip locked));
    get diagnostics v_deleted = row_count;
    v_gone := v_gone + v_deleted;
    delete from public.whatsapp_writers w
    where w.ctid = any (array(
      select o.ctid from public.whatsapp_writers o
      where o.lands_until < now() - interval '1 hour'
        and not exists (select from public.whatsapp_leases l where l.company_id = o.company_id)
      for update skip locked));
    get diagnostics v_deleted = row_count;
    v_deleted := v_gone + v_deleted;
  end if;
  return v_deleted;
end
$$;

-- A client without a lease that has opened the company before it was logged out writes nothing to the device that comes after.
create function public.whatsapp_end_epoch()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  update public.whatsapp_leases l set epoch = l.epoch + 1 where l.company_id = old.company_id;
  return null;
end
$$;

create trigger whatsapp_pauses_50_reinstated
  after delete on public.whatsapp_pauses for each row when (old.logged_out)
  execute function public.whatsapp_end_epoch();
create trigger whatsapp_pauses_50_restored
  after update on public.whatsapp_pauses for each row when (old.logged_out and not new.logged_out)
  execute function public.whatsapp_end_epoch();

-- As before, and further: the company's row first, as everywhere.
create or replace function public.reinstate_whatsapp_company(p_company_id text, p_request text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_answer jsonb;
begin
  perform from public.whatsapp_leases l where l.company_id = p_company_id for no key update;
  v_answer := public.whatsapp_pauses_of(p_company_id, jsonb_build_array(p_company_id), p_request);
  delete from public.whatsapp_pauses p where p.company_id = p_company_id;
  return v_answer;
end
$$;

-- 5. Writes without a number ---------------------------------------------------------------------------------

-- Pauses, what was told of a restored database, and sealing anew take no number: these write beside an owner. A client that says
-- until when its request counts is told when that was too late, and nothing has changed.
create function public.whatsapp_refuse_given_up()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  perform public.whatsapp_check_deadline(nullif(current_setting('request.headers', true), '')::json ->> 'x-whatsapp-deadline');
  return null;
end
$$;

create trigger whatsapp_pauses_90_deadline
  after insert or update or delete on public.whatsapp_pauses for each statement
  execute function public.whatsapp_refuse_given_up();
create trigger whatsapp_leases_90_deadline
  after update of restored_at on public.whatsapp_leases for each statement
  execute function public.whatsapp_refuse_given_up();
create trigger whatsapp_auth_91_deadline
  after update on public.whatsapp_auth for each statement
  when (current_setting('whatsapp_auth.reseal', true) = 'on')
  execute function public.whatsapp_refuse_given_up();
create trigger whatsapp_keys_91_deadline
  after update on public.whatsapp_keys for each statement
  when (current_setting('whatsapp_auth.reseal', true) = 'on')
  execute function public.whatsapp_refuse_given_up();
-- What is kept is changed by sealing, and else under a number.
create trigger whatsapp_creds_history_90_deadline
  after update on public.whatsapp_creds_history for each statement
  when (coalesce(current_setting('whatsapp_auth.guarded', true), '') = '')
  execute function public.whatsapp_refuse_given_up();
create trigger whatsapp_quarantine_90_deadline
  after update on public.whatsapp_quarantine for each statement
  when (coalesce(current_setting('whatsapp_auth.guarded', true), '') = '')
  execute function public.whatsapp_refuse_given_up();
create trigger whatsapp_quarantine_keys_90_deadline
  after update on public.whatsapp_quarantine_keys for each statement
  when (coalesce(current_setting('whatsapp_auth.guarded', true), '') = '')
  execute function public.whatsapp_refuse_given_up();

-- 6. Access -------------------------------------------------------------------------------------------------

revoke all on function public.whatsapp_forget_in_turn(text), public.whatsapp_refuse_given_up(),
  public.whatsapp_end_epoch()
  from public, anon, authenticated, service_role;
revoke all on function public.forget_whatsapp_company(text) from public, anon, authenticated;
grant execute on function public.forget_whatsapp_company(text) to service_role;

notify pgrst, 'reload schema';
