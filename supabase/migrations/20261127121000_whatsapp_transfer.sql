-- Moves companies in and out by upserts and named JSON, deletes them, and finds two companies of one linked device.
-- Works with supabase-auth-state 0.3; 0.1 and 0.2 go on working beside it.

-- Replaces values of a company in one transaction. p_keys is [[key_type, key_id, value, updated_at], …], where a null
-- value deletes; p_creds is [creds, updated_at], or null to leave the creds as they are. Times are timestamps as in an
-- upsert, and null is now. The client family of a company that has creds already stays as it is. Returns the receipt.
create function public.replace_whatsapp_state(
  p_company_id text, p_keys jsonb, p_creds jsonb default null, p_client_family text default 'baileys')
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  if public.whatsapp_enter(p_company_id) then
    insert into public.whatsapp_keys (company_id, key_type, key_id, value, updated_at)
    select p_company_id, r.entry ->> 0, r.entry ->> 1, r.entry -> 2, coalesce((r.entry ->> 3)::timestamptz, now())
    from jsonb_array_elements(p_keys) as r (entry)
    -- All writers take the rows in one order, so that two of them never wait for each other.
    order by (r.entry ->> 0) collate "C", (r.entry ->> 1) collate "C"
    on conflict (company_id, key_type, key_id) do update set value = excluded.value, updated_at = excluded.updated_at;
    if p_creds is not null then
      insert into public.whatsapp_auth (company_id, creds, client_family, updated_at)
      values (p_company_id, p_creds -> 0, p_client_family, coalesce((p_creds ->> 1)::timestamptz, now()))
      on conflict (company_id) do update set creds = excluded.creds, updated_at = excluded.updated_at;
    end if;
  end if;
  return public.whatsapp_receipt(p_company_id);
end
$$;

-- Deletes all rows of a company in one transaction. The guard comes first, and what it waits for is seen by the
-- statements after it. Returns the receipt.
create function public.delete_whatsapp_company(p_company_id text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
begin
  if public.whatsapp_enter(p_company_id) then
    delete from public.whatsapp_auth a where a.company_id = p_company_id;
    delete from public.whatsapp_keys k where k.company_id = p_company_id;
  end if;
  return public.whatsapp_receipt(p_company_id);
end
$$;

-- What decides whether a company is there, without its rows: {"company_id": …, "client_family": …, "created_at": …,
-- "keys": …, "changed_at": …}, times in seconds since 1970. client_family and created_at are null without creds,
-- changed_at without any row.
create function public.whatsapp_company_status(p_company_id text)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object('company_id', p_company_id, 'client_family', a.client_family,
    'created_at', extract(epoch from a.created_at), 'keys', k.keys,
    'changed_at', extract(epoch from greatest(a.updated_at, k.updated_at)))
  from (
    select count(*) as keys, max(k.updated_at) as updated_at
    from public.whatsapp_keys k where k.company_id = p_company_id
  ) k
  left join public.whatsapp_auth a on a.company_id = p_company_id
$$;

-- What tells linked devices apart, as a hash, whose length is fixed: an import asks for every company, and looking
-- through 1,000 creds takes 25 ms.
create index whatsapp_auth_device_idx on public.whatsapp_auth (
  hashtextextended((creds -> 'registrationId')::text || (creds -> 'signedIdentityKey' -> 'public')::text, 0));

-- Other companies that hold the same linked device: {"company_id": …, "companies": […]}. Compared are registrationId
-- and the public identity key, given in base64, in the forms in which JSON.stringify writes bytes with Baileys' replacer
-- and without it.
create function public.whatsapp_companies_of_device(p_registration_id int, p_identity_public text, p_company_id text)
returns jsonb
language sql
stable
set search_path = ''
as $$
  with byte as (
    select n.place, to_jsonb(get_byte(d.bytes, n.place)) as value
    from (select decode(p_identity_public, 'base64') as bytes) d
    cross join lateral generate_series(0, length(d.bytes) - 1) as n (place)
  ), form as (
    select jsonb_build_object('type', 'Buffer', 'data', p_identity_public) as identity
    union all select jsonb_build_object('type', 'Buffer', 'data', jsonb_agg(b.value order by b.place)) from byte b
    union all select jsonb_object_agg(b.place, b.value) from byte b
  )
  select jsonb_build_object('company_id', p_company_id,
    'companies', coalesce(jsonb_agg(a.company_id order by a.company_id), '[]'))
  from form f
  join public.whatsapp_auth a
    on hashtextextended((a.creds -> 'registrationId')::text || (a.creds -> 'signedIdentityKey' -> 'public')::text, 0)
      = hashtextextended(p_registration_id::text || f.identity::text, 0)
  where a.company_id <> p_company_id and a.creds -> 'registrationId' = to_jsonb(p_registration_id)
    and a.creds -> 'signedIdentityKey' -> 'public' = f.identity
$$;

comment on function public.import_whatsapp_state(text) is 'Deprecated: for clients of 0.2. Since 0.3 an import is upserts.';

do $access$
declare
  item record;
begin
  for item in
    select p.oid::regprocedure as signature
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname in (
      'replace_whatsapp_state', 'delete_whatsapp_company', 'whatsapp_company_status', 'whatsapp_companies_of_device')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', item.signature);
    execute format('grant execute on function %s to service_role', item.signature);
  end loop;
end
$access$;

notify pgrst, 'reload schema';
