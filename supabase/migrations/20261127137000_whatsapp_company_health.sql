-- What is the matter with a company, beside its counts (20261127132000): when its creds were saved, that its database was set back
-- (20261127134000), and that pools leave it alone (20261127130000). Works with supabase-auth-state 0.4.

-- {"restored_at": …, "pause": null | {"code": …, "reason": …, "until": … | null, "noted_at": …, "noted_by": …}}: seconds
-- since 1970; until is null when the pause lasts until the company is reinstated.
create function public.whatsapp_company_health(p_company_id text)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'restored_at', (select extract(epoch from l.restored_at) from public.whatsapp_leases l where l.company_id = p_company_id),
    'pause', (
      select jsonb_build_object('code', p.code, 'reason', p.reason, 'until', extract(epoch from nullif(p.until, 'infinity')),
        'noted_at', extract(epoch from p.noted_at), 'noted_by', p.noted_by)
      from public.whatsapp_pauses p where p.company_id = p_company_id and p.until > clock_timestamp()))
$$;

create or replace function public.whatsapp_company_as_json(p_statistics public.whatsapp_company_statistics)
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object('company_id', p_statistics.company_id, 'counted_at', extract(epoch from p_statistics.counted_at),
    'has_creds', p_statistics.has_creds, 'client_family', p_statistics.client_family,
    'created_at', extract(epoch from p_statistics.created_at), 'last_write', extract(epoch from p_statistics.last_write),
    'rows', p_statistics.rows, 'bytes', p_statistics.bytes, 'creds_bytes', p_statistics.creds_bytes,
    'expired', p_statistics.expired, 'pre_keys', p_statistics.pre_keys, 'by_type', p_statistics.by_type,
    'creds_saved', (select extract(epoch from a.updated_at) from public.whatsapp_auth a where a.company_id = p_statistics.company_id))
    || public.whatsapp_company_health(p_statistics.company_id)
    || coalesce((
      select jsonb_build_object('owner', l.owner, 'lease_until', extract(epoch from nullif(l.expires_at, '-infinity')),
        'live', l.owner is not null and l.expires_at > clock_timestamp(), 'token', l.token, 'lapses', l.lapses)
      from public.whatsapp_leases l where l.company_id = p_statistics.company_id),
      '{"owner": null, "lease_until": null, "live": false, "token": 0, "lapses": 0}')
$$;

revoke all on function public.whatsapp_company_health(text) from public, anon, authenticated, service_role;

notify pgrst, 'reload schema';
