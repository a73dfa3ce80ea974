-- A database that was set back to an earlier moment, as by restoring a backup: an owner that knows more than the
-- database says so, and it is kept until the company begins anew. Since 0.4; earlier clients go on as before.

alter table public.whatsapp_leases add column restored_at timestamptz;
comment on column public.whatsapp_leases.restored_at is 'When an owner found that the database had forgotten writes it had acknowledged; null: no owner has found that.';

-- As before, and further: "writer" is the opening that the lease was given to, and the status "restored" means that
-- the token was given and the database does not know it. The row of a company is never deleted, so a missing one
-- means that too.
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
  if v_lease.token is null or v_lease.token < p_token then
    return jsonb_build_object('company_id', p_company_id, 'token', p_token, 'status', 'restored', 'expires_at', null);
  elsif v_lease.token = p_token and v_lease.owner is null then
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
    'expires_at', v_lease.expires_at, 'lapsed', v_lapsed, 'lapses', v_lease.lapses, 'writer', v_lease.acquired_by);
end
$$;

-- As before, and further: each of p_leases may name the writer and the last number of its that is known to be stored,
-- [company, token, writer, number]. An owner that only reads notices so that the database was set back.
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
      if v_answer ->> 'status' = 'renewed' and (v_item ->> 3)::bigint > coalesce((
          select w.commit_no from public.whatsapp_writers w
          where w.company_id = v_item ->> 0 and w.writer = v_item ->> 2), 0) then
        v_answer := v_answer || '{"status": "restored"}';
      end if;
    else
      v_answer := jsonb_build_object('company_id', v_item -> 0, 'token', v_item -> 1, 'status', 'busy');
    end if;
    v_answers := v_answers || jsonb_build_array(v_answer);
  end loop;
  return v_answers;
end
$$;

-- An owner has found that the database was set back. A write that is refused leaves nothing behind, so this is a call
-- of its own.
create function public.report_whatsapp_restored(p_company_id text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  insert into public.whatsapp_leases (company_id) values (p_company_id) on conflict do nothing;
  update public.whatsapp_leases l set restored_at = clock_timestamp()
  where l.company_id = p_company_id and l.restored_at is null;
  return jsonb_build_object('company_id', p_company_id);
end
$$;

-- What was reported is settled: the device was linked anew, or what an owner remembered was imported.
create function public.settle_whatsapp_restored(p_company_id text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  update public.whatsapp_leases l set restored_at = null
  where l.company_id = p_company_id and l.restored_at is not null;
  return jsonb_build_object('company_id', p_company_id);
end
$$;

-- For an owner whose journal holds writes of an earlier process: whether a writer that is none of p_writers has written
-- the company, or may have, since p_since (seconds since 1970).
create function public.whatsapp_written_by_others(p_company_id text, p_writers jsonb, p_since float8)
returns jsonb
language sql
stable security definer
set search_path = ''
as $$
  select jsonb_build_object('company_id', p_company_id, 'time', extract(epoch from clock_timestamp()), 'others', exists (
    select from public.whatsapp_writers w
    where w.company_id = p_company_id and not p_writers ? w.writer and w.lands_until > to_timestamp(p_since)))
$$;

create or replace function public.whatsapp_lease_status(p_company_id text)
returns jsonb
language sql
stable security definer
set search_path = ''
as $$
  select jsonb_build_object('company_id', p_company_id, 'token', coalesce(l.token, 0), 'owner', l.owner,
    'acquired_at', l.acquired_at,
    'expires_at', case when l.owner is not null then l.expires_at end,
    'live', l.owner is not null and l.expires_at > clock_timestamp(), 'restored_at', l.restored_at)
  from (select) one left join public.whatsapp_leases l on l.company_id = p_company_id
$$;

do $access$
declare
  item record;
begin
  for item in
    select p.oid::regprocedure as signature from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname in ('report_whatsapp_restored', 'settle_whatsapp_restored', 'whatsapp_written_by_others')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', item.signature);
    execute format('grant execute on function %s to service_role', item.signature);
  end loop;
end
$access$;

notify pgrst, 'reload schema';
