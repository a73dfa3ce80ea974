-- One owner per company: leases with fencing tokens, checked by the database for every writer.
-- Works with supabase-auth-state 0.1; a client that knows nothing of leases writes as before until a company
-- is owned, and is refused with HTTP 409 (PT409) while it is.

-- A row stays for good, so that tokens only grow. writer and commit_no are the last commit of the client that
-- wrote last: a request that was delayed on its way can never land over a newer one of the same writer.
create table public.whatsapp_leases (
  company_id text collate "C" primary key check (char_length(company_id) between 1 and 255),
  token bigint not null default 0 check (token >= 0),
  owner text check (owner <> ''),
  acquired_at timestamptz,
  renewed_at timestamptz,
  expires_at timestamptz not null default '-infinity',
  writer text,
  commit_no bigint not null default 0
) with (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0.05);

comment on table public.whatsapp_leases is 'Who may write a company''s rows, by the database''s clock. Changed by the lease functions only.';
comment on column public.whatsapp_leases.token is 'Grows with every acquire; a write that carries any other token is refused.';

alter table public.whatsapp_leases enable row level security;
create policy whatsapp_leases_service_role on public.whatsapp_leases
  for select to service_role using (true);
revoke all on public.whatsapp_leases from public, anon, authenticated, service_role;
grant select on public.whatsapp_leases to service_role;

-- Takes the company for p_owner, or says who has it: {"token": 7, "expires_at": …} or
-- {"token": null, "owner": …, "expires_at": …}. The row lock waits for writes under way, so whoever gets the
-- token sees all of them. The same owner may ask again: its answer was lost on the way, and gets a new token.
create function public.acquire_whatsapp_lease(p_company_id text, p_owner text, p_ttl_seconds int)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_lease public.whatsapp_leases;
begin
  if coalesce(p_owner, '') = '' or p_ttl_seconds is null or p_ttl_seconds not between 1 and 86400 then
    raise exception 'a lease needs an owner and a time of 1 to 86400 seconds' using errcode = '22023';
  end if;
  insert into public.whatsapp_leases (company_id) values (p_company_id) on conflict do nothing;
  select l.* into v_lease from public.whatsapp_leases l where l.company_id = p_company_id for update;
  if v_lease.owner <> p_owner and v_lease.expires_at > clock_timestamp() then
    return jsonb_build_object('token', null, 'owner', v_lease.owner, 'expires_at', v_lease.expires_at);
  end if;
  update public.whatsapp_leases l
  set token = l.token + 1, owner = p_owner, acquired_at = clock_timestamp(), renewed_at = clock_timestamp(),
    expires_at = clock_timestamp() + make_interval(secs => p_ttl_seconds)
  where l.company_id = p_company_id
  returning l.* into v_lease;
  return jsonb_build_object('token', v_lease.token, 'expires_at', v_lease.expires_at);
end
$$;

-- {"status": "renewed" | "lost" | "missing", "expires_at": …, "lapsed": …}. An owner whose time ran out while
-- nobody else took over is renewed; lapsed then says that clients without a lease could write meanwhile.
create function public.renew_whatsapp_lease(p_company_id text, p_token bigint, p_ttl_seconds int)
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
  if not found or v_lease.token = p_token and v_lease.owner is null then
    return jsonb_build_object('status', 'missing', 'expires_at', null);
  elsif v_lease.token is distinct from p_token then
    return jsonb_build_object('status', 'lost', 'expires_at', null);
  end if;
  v_lapsed := v_lease.expires_at <= clock_timestamp();
  update public.whatsapp_leases l
  set renewed_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => p_ttl_seconds)
  where l.company_id = p_company_id
  returning l.* into v_lease;
  return jsonb_build_object('status', 'renewed', 'expires_at', v_lease.expires_at, 'lapsed', v_lapsed);
end
$$;

-- Renews many leases at once: [["962302", 7], …] gives an answer for each, in that order, as renew_whatsapp_lease
-- gives it. A company that is being written at this moment gets {"status": "busy"}: no company waits for another.
create function public.renew_whatsapp_leases(p_leases jsonb, p_ttl_seconds int)
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
      v_answer := '{"status": "busy"}';
    end if;
    v_answers := v_answers || jsonb_build_array(v_answer);
  end loop;
  return v_answers;
end
$$;

-- True when p_token was the owner's. The token stays refused for ever after.
create function public.release_whatsapp_lease(p_company_id text, p_token bigint)
returns boolean
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  update public.whatsapp_leases l
  set owner = null, expires_at = '-infinity'
  where l.company_id = p_company_id and l.token = p_token and l.owner is not null;
  return found;
end
$$;

-- {"token": …, "owner": …, "acquired_at": …, "expires_at": …, "live": …}, or null when nobody ever owned the
-- company.
create function public.whatsapp_lease_status(p_company_id text)
returns jsonb
language sql
stable security definer
set search_path = ''
as $$
  select jsonb_build_object('token', l.token, 'owner', l.owner, 'acquired_at', l.acquired_at,
    'expires_at', case when l.owner is not null then l.expires_at end,
    'live', l.owner is not null and l.expires_at > clock_timestamp())
  from public.whatsapp_leases l
  where l.company_id = p_company_id and l.token > 0
$$;

-- May this request write the company's rows? The lease row stays locked until the write is committed, so a
-- new owner's acquire waits for it and then sees it.
create function public.guard_whatsapp_company(p_company_id text)
returns void
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_headers json := nullif(current_setting('request.headers', true), '')::json;
  v_token text := v_headers ->> 'x-whatsapp-lease';
  v_commit text[] := regexp_match(v_headers ->> 'x-whatsapp-commit', '^([0-9a-f-]{1,64}):([0-9]{1,18})$');
  v_lease public.whatsapp_leases;
begin
  loop
    if v_commit is null then
      select l.* into v_lease from public.whatsapp_leases l where l.company_id = p_company_id for share;
    else
      select l.* into v_lease from public.whatsapp_leases l where l.company_id = p_company_id for no key update;
    end if;
    exit when found;
    insert into public.whatsapp_leases (company_id) values (p_company_id) on conflict do nothing;
  end loop;

  if v_token is not null and (v_lease.owner is null or v_lease.token::text <> v_token) then
    raise exception 'whatsapp lease: token % of company % is not its last one', v_token, p_company_id
      using errcode = 'PT409',
      hint = case when v_lease.owner is null then 'The lease was released.' else 'Another process owns the company now.' end
        || ' Close this connection and acquire the lease again.';
  elsif v_token is null and v_lease.expires_at > clock_timestamp() then
    raise exception 'whatsapp lease: company % is owned by % until %', p_company_id, v_lease.owner, v_lease.expires_at
      using errcode = 'PT409',
      hint = 'Stop that process first. A client that owns the company sends its token in the header x-whatsapp-lease.';
  end if;

  if v_commit is not null then
    if v_lease.writer = v_commit[1] and v_lease.commit_no > v_commit[2]::bigint then
      raise exception 'whatsapp commit: a newer commit of the same writer is already stored for company %', p_company_id
        using errcode = 'PT409', hint = 'This request was delayed on its way; its data is out of date.';
    end if;
    update public.whatsapp_leases l set writer = v_commit[1], commit_no = v_commit[2]::bigint
    where l.company_id = p_company_id and (l.writer, l.commit_no) is distinct from (v_commit[1], v_commit[2]::bigint);
  end if;

  -- Local to the transaction: the rows that follow need no second look.
  perform set_config('whatsapp_auth.guarded', p_company_id, true);
end
$$;

create function public.whatsapp_guard_row()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if tg_op <> 'INSERT' then
    perform public.guard_whatsapp_company(old.company_id);
  end if;
  if tg_op = 'INSERT' or tg_op = 'UPDATE' and new.company_id <> old.company_id then
    perform public.guard_whatsapp_company(new.company_id);
  end if;
  return case tg_op when 'DELETE' then old else new end;
end
$$;

-- Clean-up, and reads that move expires_at, set whatsapp_auth.maintenance and pass. PostgREST lets no client
-- set it, nor whatsapp_auth.guarded.
do $triggers$
declare
  v_table text;
  v_row text;
  v_op text;
begin
  foreach v_table in array array['whatsapp_auth', 'whatsapp_keys'] loop
    foreach v_op in array array['insert', 'update', 'delete'] loop
      v_row := case v_op when 'delete' then 'old' else 'new' end;
      execute format(
        'create trigger %1$s_00_guard_%2$s before %2$s on public.%1$s for each row '
        'when ((current_setting(''whatsapp_auth.guarded'', true) is distinct from %3$s.company_id '
        '%4$s) and current_setting(''whatsapp_auth.maintenance'', true) is distinct from ''on'') '
        'execute function public.whatsapp_guard_row()',
        v_table, v_op, v_row,
        case v_op when 'update' then 'or new.company_id <> old.company_id' else '' end);
    end loop;
  end loop;
end
$triggers$;

do $access$
declare
  item record;
begin
  for item in
    select p.oid::regprocedure as signature
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname in (
      'acquire_whatsapp_lease', 'renew_whatsapp_lease', 'renew_whatsapp_leases', 'release_whatsapp_lease', 'whatsapp_lease_status',
      'guard_whatsapp_company', 'whatsapp_guard_row')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', item.signature);
    execute format('grant execute on function %s to service_role', item.signature);
  end loop;
end
$access$;

notify pgrst, 'reload schema';
