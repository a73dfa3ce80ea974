-- A client of 0.2 numbers its writes by itself, in the row of the lease. An owner with a journal compares what stands
-- there when the journal begins and when it is replayed: so a write of 0.2 in between is noticed as well, with a lease
-- and without one, also one that only deleted. As before, and further: "released" is the last number of such a client.
create or replace function public.whatsapp_written_by_others(p_company_id text, p_writers jsonb, p_since float8)
returns jsonb
language sql
stable security definer
set search_path = ''
as $$
  select jsonb_build_object('company_id', p_company_id, 'time', extract(epoch from clock_timestamp()), 'others', exists (
    select from public.whatsapp_writers w
    where w.company_id = p_company_id and not p_writers ? w.writer and w.lands_until > to_timestamp(p_since)),
    'released', (select l.writer || ':' || l.commit_no from public.whatsapp_leases l where l.company_id = p_company_id))
$$;

notify pgrst, 'reload schema';
