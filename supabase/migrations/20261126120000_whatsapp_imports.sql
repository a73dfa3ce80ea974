-- Moves a company in and out with fewer and cheaper requests.
-- Works with supabase-auth-state 0.2; 0.1 goes on working beside it.

-- Stores a batch of rows with the times they had elsewhere, and perhaps the creds, in one transaction. Takes lines
-- of text. The first is {"company_id": …, "keys": [["session", "15550100001.0", 1760000000.5], …], "creds": {…},
-- "client_family": …, "creds_time": 1760000000.5} with type, id and time of change in seconds since 1970; creds may
-- be left out. Then comes the JSON of each value, a line each, in the order of "keys": lines are cut apart and read
-- in three quarters of the time of one document with all values in it (100 values: 1.3 ms against 1.7).
create function public.import_whatsapp_state(text)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_lines text[] := string_to_array($1, E'\n');
  v_head jsonb := v_lines[1]::jsonb;
  v_company_id text := v_head ->> 'company_id';
begin
  if jsonb_array_length(v_head -> 'keys') is distinct from cardinality(v_lines) - 1 then
    raise exception '% lines of values do not go with % keys', cardinality(v_lines) - 1, jsonb_array_length(v_head -> 'keys')
      using errcode = '22023';
  end if;
  insert into public.whatsapp_keys (company_id, key_type, key_id, value, updated_at)
  select v_company_id, r.ref ->> 0, r.ref ->> 1, r.line::jsonb, to_timestamp((r.ref ->> 2)::float8)
  from rows from (jsonb_array_elements(v_head -> 'keys'), unnest(v_lines[2:])) as r (ref, line)
  -- One order for everybody, so that two writers never wait for each other.
  order by (r.ref ->> 0) collate "C", (r.ref ->> 1) collate "C"
  on conflict (company_id, key_type, key_id) do update set value = excluded.value, updated_at = excluded.updated_at;
  if jsonb_typeof(v_head -> 'creds') <> 'null' then
    insert into public.whatsapp_auth (company_id, creds, client_family, updated_at)
    values (v_company_id, v_head -> 'creds', coalesce(v_head ->> 'client_family', 'baileys'),
      to_timestamp((v_head ->> 'creds_time')::float8))
    on conflict (company_id) do update
    set creds = excluded.creds, client_family = excluded.client_family, updated_at = excluded.updated_at;
  end if;
end
$$;

-- A page of a company's rows as list_whatsapp_keys gives them, and its creds as they are at that moment:
-- {"keys": [[key_type, key_id, value, updated_at, expires_at], …], "auth": [creds, client_family, created_at,
-- updated_at]}, times in seconds; auth is null when the company has no row. Creds count the keys, so those that
-- came with the last page are the ones to take.
create function public.list_whatsapp_company(p_company_id text, p_after jsonb default null, p_limit int default 1000)
returns json
language sql
stable
set search_path = ''
as $$
  select json_build_object(
    'keys', public.list_whatsapp_keys(p_company_id, p_after, p_limit),
    'auth', (
      select json_build_array(a.creds, a.client_family, extract(epoch from a.created_at), extract(epoch from a.updated_at))
      from public.whatsapp_auth a where a.company_id = p_company_id))
$$;

revoke all on function public.import_whatsapp_state(text), public.list_whatsapp_company(text, jsonb, int)
  from public, anon, authenticated;
grant execute on function public.import_whatsapp_state(text), public.list_whatsapp_company(text, jsonb, int)
  to service_role;

notify pgrst, 'reload schema';
