-- Forgetting a company that was erased (20261127130000), with what the statistics (20261127132000) keep of it.
-- Works with supabase-auth-state 0.4.

-- Removes the lease and the numbers of writers of an erased company, once none of their requests can land any more,
-- and counts what is left in every table: {"company_id": …, "left": {table: rows, …}, "lands_until": …}. A company that
-- has rows, or an owner, is left as it is. The last token and epoch live on without its name: in a row for all erased
-- companies, above which those of a company that begins anew are counted. So no token is ever given twice, and a process that was
-- frozen while its company was erased stays refused.
create function public.forget_whatsapp_company(p_company_id text)
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_lease record;
  v_until timestamptz;
begin
  select l.* into v_lease from public.whatsapp_leases l where l.company_id = p_company_id for update;
  select max(w.lands_until) into v_until from public.whatsapp_writers w where w.company_id = p_company_id;
  if v_lease.owner is null and coalesce(v_until, '-infinity') < clock_timestamp()
    and p_company_id <> 'supabase-auth-state/erased'
    and not exists (select from public.whatsapp_auth a where a.company_id = p_company_id)
    and not exists (select from public.whatsapp_keys k where k.company_id = p_company_id)
    and not exists (select from public.whatsapp_creds_history h where h.company_id = p_company_id)
    and not exists (select from public.whatsapp_quarantine q where q.company_id = p_company_id) then
    if v_lease.token > 0 or v_lease.epoch > 0 then
      insert into public.whatsapp_leases as l (company_id, token, epoch)
      values ('supabase-auth-state/erased', v_lease.token, v_lease.epoch + 1)
      on conflict (company_id) do update
      set token = greatest(l.token, excluded.token), epoch = greatest(l.epoch, excluded.epoch);
    end if;
    delete from public.whatsapp_writers w where w.company_id = p_company_id;
    delete from public.whatsapp_leases l where l.company_id = p_company_id;
    delete from public.whatsapp_lease_history h where h.company_id = p_company_id;
    -- It counts nothing any more, which takes the row away and what it added to the sums.
    perform public.whatsapp_count_companies(array[p_company_id]);
    v_until := null;
  end if;
  return jsonb_build_object('company_id', p_company_id, 'lands_until', extract(epoch from v_until),
    'time', extract(epoch from clock_timestamp()), 'left', jsonb_build_object(
      'whatsapp_auth', (select count(*) from public.whatsapp_auth a where a.company_id = p_company_id),
      'whatsapp_keys', (select count(*) from public.whatsapp_keys k where k.company_id = p_company_id),
      'whatsapp_creds_history', (select count(*) from public.whatsapp_creds_history h where h.company_id = p_company_id),
      'whatsapp_quarantine', (select count(*) from public.whatsapp_quarantine q where q.company_id = p_company_id),
      'whatsapp_quarantine_keys', (select count(*) from public.whatsapp_quarantine_keys k where k.company_id = p_company_id),
      'whatsapp_pauses', (select count(*) from public.whatsapp_pauses p where p.company_id = p_company_id),
      'whatsapp_leases', (select count(*) from public.whatsapp_leases l where l.company_id = p_company_id),
      'whatsapp_lease_history', (select count(*) from public.whatsapp_lease_history h where h.company_id = p_company_id),
      'whatsapp_company_statistics', (select count(*) from public.whatsapp_company_statistics s where s.company_id = p_company_id),
      'whatsapp_writers', (select count(*) from public.whatsapp_writers w where w.company_id = p_company_id)));
end
$$;

revoke all on function public.forget_whatsapp_company(text) from public, anon, authenticated;
grant execute on function public.forget_whatsapp_company(text) to service_role;

notify pgrst, 'reload schema';
