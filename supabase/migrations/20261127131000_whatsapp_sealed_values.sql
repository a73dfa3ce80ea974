-- Lets values be sealed by their clients (docs/encryption.md): {"$sealed": "<key id>", "v": 1, "box": …} in the place of
-- the value. Works with supabase-auth-state 0.4; older clients read no sealed row, and cannot replace one either.

-- 1. A sealed row is replaced only by who can open it --------------------------------------------------------

-- A client that has no key takes what it cannot read for "no session", and would store a new one over it. Clients that
-- have keys name them in the header x-whatsapp-opens. What is no request of the API's, e.g. psql, passes.
create function public.whatsapp_keep_sealed()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_headers json := nullif(current_setting('request.headers', true), '')::json;
  v_key text;
begin
  if v_headers is null or current_setting('whatsapp_auth.reseal', true) = 'on' then
    return new;
  end if;
  if tg_table_name = 'whatsapp_auth' then
    v_key := old.creds ->> '$sealed';
  else
    v_key := old.value ->> '$sealed';
  end if;
  if v_key = any (string_to_array(v_headers ->> 'x-whatsapp-opens', ',')) then
    return new;
  end if;
  raise exception 'whatsapp sealing: a row of company % is sealed with the key %', old.company_id, v_key
    using errcode = 'PT409', hint = 'This client does not have that key, so it cannot have read what it would replace.';
end
$$;

create trigger whatsapp_auth_05_keep_sealed
  before update on public.whatsapp_auth
  for each row when (old.creds ? '$sealed' and new.creds is distinct from old.creds)
  execute function public.whatsapp_keep_sealed();
create trigger whatsapp_keys_15_keep_sealed
  before update on public.whatsapp_keys
  for each row when (old.value ? '$sealed' and new.value is distinct from old.value)
  execute function public.whatsapp_keep_sealed();

-- 2. What looked into values ---------------------------------------------------------------------------------

-- Sealing a row anew changes neither the value nor its times.
create or replace function public.whatsapp_auth_before_update()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if new.updated_at is not distinct from old.updated_at and new.creds is distinct from old.creds
    and current_setting('whatsapp_auth.reseal', true) is distinct from 'on' then
    new.updated_at := clock_timestamp();
  end if;
  return new;
end
$$;

-- As before, and: which two rows are a mapping is not seen of sealed ones, so these do not expire.
create or replace function public.whatsapp_keys_before_write()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_resealed boolean := tg_op = 'UPDATE' and current_setting('whatsapp_auth.reseal', true) is not distinct from 'on';
begin
  if tg_op = 'UPDATE' and not v_resealed
    and new.updated_at is not distinct from old.updated_at and new.value is distinct from old.value then
    new.updated_at := now();
  end if;
  if new.expires_at is null and new.key_type in ('session', 'pre-key', 'sender-key', 'identity-key') then
    return new;
  end if;
  if not public.whatsapp_key_may_expire(new.key_type, new.key_id)
    or new.key_type = 'lid-mapping' and new.value ? '$sealed' then
    new.expires_at := null;
  elsif tg_op = 'INSERT' or v_resealed then
    new.expires_at := coalesce(new.expires_at, public.whatsapp_key_expiry(new.key_type));
  elsif new.expires_at is not distinct from old.expires_at then
    new.expires_at := public.whatsapp_key_expiry(new.key_type);
  end if;
  return new;
end
$$;

-- Sealed creds have a hash of what tells linked devices apart beside the box: every contact knows both parts.
create index whatsapp_auth_sealed_device_idx on public.whatsapp_auth ((creds ->> 'device')) where creds ? '$sealed';

create or replace function public.whatsapp_companies_of_device(p_registration_id int, p_identity_public text, p_company_id text)
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
  ), found as (
    select a.company_id
    from form f
    join public.whatsapp_auth a
      on hashtextextended((a.creds -> 'registrationId')::text || (a.creds -> 'signedIdentityKey' -> 'public')::text, 0)
        = hashtextextended(p_registration_id::text || f.identity::text, 0)
    where a.company_id <> p_company_id and a.creds -> 'registrationId' = to_jsonb(p_registration_id)
      and a.creds -> 'signedIdentityKey' -> 'public' = f.identity
    union
    select a.company_id
    from public.whatsapp_auth a
    where a.company_id <> p_company_id and a.creds ? '$sealed'
      and a.creds ->> 'device' = encode(sha256(convert_to(p_registration_id || ':' || p_identity_public, 'UTF8')), 'base64')
  )
  select jsonb_build_object('company_id', p_company_id,
    'companies', coalesce(jsonb_agg(f.company_id order by f.company_id), '[]'))
  from found f
$$;

-- 3. Earlier versions and removed companies -------------------------------------------------------------------

-- The values that are kept of a company, a page a call: {"company_id": …, "kept": [[place, value], …]}, where a place is
-- ["creds", version, slot], ["removed", version], ["removed-creds", version, index] or ["removed-key", version, key_type,
-- key_id]. Pass the last place as p_after; an empty page is the end.
create function public.list_whatsapp_kept(p_company_id text, p_after jsonb default null, p_limit int default 500)
returns jsonb
language sql
stable security definer
set search_path = ''
as $$
  select jsonb_build_object('company_id', p_company_id,
    'kept', coalesce(jsonb_agg(jsonb_build_array(p.place, p.value) order by p.place), '[]'))
  from (
    select k.place, k.value
    from (
      select jsonb_build_array('creds', h.version, h.slot) as place, h.creds as value
      from public.whatsapp_creds_history h where h.company_id = p_company_id
      union all
      select jsonb_build_array('removed', q.version), q.creds
      from public.whatsapp_quarantine q where q.company_id = p_company_id and q.creds is not null
      union all
      select jsonb_build_array('removed-creds', q.version, e.ordinality - 1), e.version -> 'creds'
      from public.whatsapp_quarantine q
      cross join lateral jsonb_array_elements(q.history) with ordinality as e (version)
      where q.company_id = p_company_id
      union all
      select jsonb_build_array('removed-key', k.version, k.key_type, k.key_id), k.value
      from public.whatsapp_quarantine_keys k where k.company_id = p_company_id
    ) k
    where p_after is null or jsonb_typeof(p_after) = 'null' or k.place > p_after
    order by k.place
    limit p_limit
  ) p
$$;

-- As reseal_whatsapp_rows, for what is kept: p_kept is [[place, stored, new], …].
create function public.reseal_whatsapp_kept(p_company_id text, p_kept jsonb, p_request text default null)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_row jsonb;
  v_version bigint;
  v_count int;
  v_changed int := 0;
begin
  for v_row in select r.entry from jsonb_array_elements(p_kept) as r (entry) order by r.entry -> 0 loop
    v_version := (v_row -> 0 ->> 1)::bigint;
    case v_row -> 0 ->> 0
      when 'creds' then
        update public.whatsapp_creds_history h set creds = v_row -> 2
        where h.company_id = p_company_id and h.version = v_version and h.slot = (v_row -> 0 ->> 2)::smallint
          and h.creds = v_row -> 1;
      when 'removed' then
        update public.whatsapp_quarantine q set creds = v_row -> 2
        where q.company_id = p_company_id and q.version = v_version and q.creds = v_row -> 1;
      when 'removed-creds' then
        update public.whatsapp_quarantine q
        set history = jsonb_set(q.history, array[v_row -> 0 ->> 2, 'creds'], v_row -> 2, false)
        where q.company_id = p_company_id and q.version = v_version
          and q.history -> (v_row -> 0 ->> 2)::int -> 'creds' = v_row -> 1;
      else
        update public.whatsapp_quarantine_keys k set value = v_row -> 2
        where k.company_id = p_company_id and k.version = v_version and k.key_type = v_row -> 0 ->> 2
          and k.key_id = v_row -> 0 ->> 3 and k.value = v_row -> 1;
    end case;
    get diagnostics v_count = row_count;
    v_changed := v_changed + v_count;
  end loop;
  return jsonb_build_object('company_id', p_company_id, 'request', p_request,
    'time', extract(epoch from clock_timestamp()), 'changed', v_changed);
end
$$;

-- 4. Sealing what is stored ----------------------------------------------------------------------------------

-- Replaces values that are still as the caller has read them by the same values, sealed otherwise or opened. p_keys is
-- [[key_type, key_id, stored, new], …], p_creds [stored, new] or null. A value that has changed meanwhile is left as it
-- is, so an owner may write at the same time, under its lease, and no copy of this request that lands late does harm.
-- Returns {"company_id": …, "request": …, "time": …, "changed": <rows>, "creds": <whether they were changed>}.
create function public.reseal_whatsapp_rows(
  p_company_id text, p_keys jsonb, p_creds jsonb default null, p_request text default null)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_row jsonb;
  v_changed int := 0;
  v_count int;
  v_creds boolean := false;
begin
  perform set_config('whatsapp_auth.maintenance', 'on', true);
  perform set_config('whatsapp_auth.reseal', 'on', true);
  -- All writers take the rows in one order, so that two of them never wait for each other.
  for v_row in
    select r.entry from jsonb_array_elements(p_keys) as r (entry)
    order by (r.entry ->> 0) collate "C", (r.entry ->> 1) collate "C"
  loop
    update public.whatsapp_keys k set value = v_row -> 3
    where k.company_id = p_company_id and k.key_type = v_row ->> 0 and k.key_id = v_row ->> 1
      and k.value = v_row -> 2 and jsonb_typeof(v_row -> 3) <> 'null';
    get diagnostics v_count = row_count;
    v_changed := v_changed + v_count;
  end loop;
  if jsonb_typeof(p_creds) = 'array' then
    update public.whatsapp_auth a set creds = p_creds -> 1
    where a.company_id = p_company_id and a.creds = p_creds -> 0 and jsonb_typeof(p_creds -> 1) <> 'null';
    v_creds := found;
  end if;
  perform set_config('whatsapp_auth.reseal', '', true);
  perform set_config('whatsapp_auth.maintenance', '', true);
  return jsonb_build_object('company_id', p_company_id, 'request', p_request,
    'time', extract(epoch from clock_timestamp()), 'changed', v_changed, 'creds', v_creds);
end
$$;

-- How many rows are sealed with which key: {"company_id": …, "keys": {"k1": 300, "": 4}, "creds": {"k1": 1}, "kept": {…}},
-- where "" is plain, and kept are earlier versions of creds and removed companies. Of all companies when p_company_id is null. Reads every value, as whatsapp_storage_stats does every row.
create function public.whatsapp_sealing_stats(p_company_id text default null)
returns jsonb
language sql
stable security definer
set search_path = ''
set statement_timeout = '60s'
as $$
  select jsonb_build_object('company_id', p_company_id,
    'keys', (select coalesce(jsonb_object_agg(s.key, s.rows), '{}') from (
      select coalesce(k.value ->> '$sealed', '') as key, count(*) as rows from public.whatsapp_keys k
      where p_company_id is null or k.company_id = p_company_id group by 1) s),
    'creds', (select coalesce(jsonb_object_agg(s.key, s.rows), '{}') from (
      select coalesce(a.creds ->> '$sealed', '') as key, count(*) as rows from public.whatsapp_auth a
      where p_company_id is null or a.company_id = p_company_id group by 1) s),
    'kept', (select coalesce(jsonb_object_agg(s.key, s.rows), '{}') from (
      select coalesce(v.value ->> '$sealed', '') as key, count(*) as rows
      from (
        select h.company_id, h.creds as value from public.whatsapp_creds_history h
        union all
        select q.company_id, q.creds from public.whatsapp_quarantine q where q.creds is not null
        union all
        select q.company_id, e.version -> 'creds'
        from public.whatsapp_quarantine q cross join lateral jsonb_array_elements(q.history) as e (version)
        union all
        select k.company_id, k.value from public.whatsapp_quarantine_keys k
      ) v
      where p_company_id is null or v.company_id = p_company_id group by 1) s))
$$;

-- 5. Access --------------------------------------------------------------------------------------------------

revoke all on function public.whatsapp_keep_sealed() from public, anon, authenticated, service_role;
revoke all on function public.reseal_whatsapp_rows(text, jsonb, jsonb, text), public.whatsapp_sealing_stats(text),
  public.list_whatsapp_kept(text, jsonb, int), public.reseal_whatsapp_kept(text, jsonb, text)
  from public, anon, authenticated;
grant execute on function public.reseal_whatsapp_rows(text, jsonb, jsonb, text), public.whatsapp_sealing_stats(text),
  public.list_whatsapp_kept(text, jsonb, int), public.reseal_whatsapp_kept(text, jsonb, text)
  to service_role;

notify pgrst, 'reload schema';
