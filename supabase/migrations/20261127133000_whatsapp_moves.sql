-- Closes a company for good while it moves to another project and after it has moved there.
-- Works with supabase-auth-state 0.4; clients of 0.1 to 0.3 are refused by a closed company like by one that is owned.

-- A company is closed by a lease that does not end and whose owner is a mark:
--   'arriving from <URL>'  this project does not hold all of the company yet
--   'moved to <URL>'       the company lives in another project now
-- So every client that knows leases, and every write without one, is refused by what refuses it anyway. Only a
-- process that asks for a lease under the very mark gets one, and the company stays closed meanwhile. A mark is put
-- there by close_whatsapp_company() alone.
create function public.whatsapp_keep_closed()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if (tg_op = 'INSERT' or old.owner is distinct from new.owner)
    and current_setting('whatsapp_auth.closing', true) is distinct from new.company_id then
    raise exception 'whatsapp move: company % is not closed as % (any more)', new.company_id, new.owner
      using errcode = 'PT409', hint = 'Another process has finished the transfer, or a mark was used as the name of an owner.';
  end if;
  -- A date that every client can read, other than 'infinity'.
  new.expires_at := timestamptz '9999-12-31 00:00:00+00';
  return new;
end
$$;

create trigger whatsapp_leases_10_closed
  before insert or update of owner, expires_at on public.whatsapp_leases for each row
  when (starts_with(new.owner, 'arriving from ') or starts_with(new.owner, 'moved to '))
  execute function public.whatsapp_keep_closed();

-- Puts a mark in the place of the owner, whose lease this request comes under. The token stays, so that the same
-- process may go on. Returns the receipt.
create function public.close_whatsapp_company(p_company_id text, p_mark text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  if not (starts_with(p_mark, 'arriving from ') or starts_with(p_mark, 'moved to ')) then
    raise exception 'whatsapp move: a mark is "arriving from" or "moved to", and a URL' using errcode = '22023';
  elsif nullif(current_setting('request.headers', true), '')::json ->> 'x-whatsapp-lease' is null then
    raise exception 'whatsapp lease: company % is closed only by its owner', p_company_id using errcode = 'PT409';
  end if;
  if public.whatsapp_enter(p_company_id) then
    perform set_config('whatsapp_auth.closing', p_company_id, true);
    update public.whatsapp_leases l set owner = p_mark, epoch = l.epoch + 1 where l.company_id = p_company_id;
  end if;
  return public.whatsapp_receipt(p_company_id);
end
$$;

-- What fetch_whatsapp_creds() answered before, and the mark of a closed company as "closed", else null: it may be read,
-- and not be opened.
alter function public.fetch_whatsapp_creds(text, text) rename to whatsapp_read_creds;
create function public.fetch_whatsapp_creds(p_company_id text, p_request text)
returns jsonb
language sql
volatile
set search_path = ''
as $$
  select public.whatsapp_read_creds(p_company_id, p_request) || jsonb_build_object('closed', (
    select l.owner from public.whatsapp_leases l
    where l.company_id = p_company_id and (starts_with(l.owner, 'arriving from ') or starts_with(l.owner, 'moved to '))))
$$;

-- A hash of every value of a company, by which two projects are compared without a client reading the values:
-- {"company_id": …, "creds": hash or null, "keys": [[key_type, key_id, hash], …]}, in the order of type and id.
create function public.whatsapp_company_hashes(p_company_id text)
returns json
language sql
stable
set search_path = ''
as $$
  select json_build_object('company_id', p_company_id,
    'creds', (
      select encode(sha256(convert_to(a.client_family || ' ' || a.creds::text, 'UTF8')), 'hex')
      from public.whatsapp_auth a where a.company_id = p_company_id),
    'keys', coalesce((
      select json_agg(json_build_array(k.key_type, k.key_id, encode(sha256(convert_to(k.value::text, 'UTF8')), 'hex'))
        order by k.key_type, k.key_id)
      from public.whatsapp_keys k where k.company_id = p_company_id), '[]'))
$$;

-- What of supabase-auth-state the database has: {"history": [[version, name], …] or null, "functions": [name, …]}. The
-- history is that of the Supabase CLI, which the API does not expose; null where no CLI has applied anything.
create function public.whatsapp_installation()
returns jsonb
language plpgsql
stable security definer
set search_path = ''
as $$
declare
  v_history jsonb;
begin
  if to_regclass('supabase_migrations.schema_migrations') is not null then
    execute 'select jsonb_agg(jsonb_build_array(m.version, m.name) order by m.version) from supabase_migrations.schema_migrations m'
    into v_history;
  end if;
  return jsonb_build_object('history', v_history, 'functions', (
    select jsonb_agg(distinct p.proname order by p.proname)
    from pg_catalog.pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname like '%whatsapp%'));
end
$$;

revoke all on function public.whatsapp_keep_closed() from public, anon, authenticated, service_role;
revoke all on function public.close_whatsapp_company(text, text), public.whatsapp_company_hashes(text),
  public.fetch_whatsapp_creds(text, text), public.whatsapp_installation()
  from public, anon, authenticated;
grant execute on function public.close_whatsapp_company(text, text), public.whatsapp_company_hashes(text),
  public.fetch_whatsapp_creds(text, text), public.whatsapp_installation()
  to service_role;

notify pgrst, 'reload schema';
