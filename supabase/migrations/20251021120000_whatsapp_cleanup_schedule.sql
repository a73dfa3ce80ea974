-- Runs the clean-up inside the database where pg_cron is installed.
-- Works with supabase-auth-state 0.1; without pg_cron nothing changes but the answer of the function.

-- Schedules the clean-up, or changes its schedule: {"scheduled": true, "job": …, "schedule": …}, or
-- {"scheduled": false, "reason": …} when the database has no pg_cron. An empty schedule ends it. Every run is one
-- bounded batch, so runs are frequent instead of long; one that finds nothing costs one look into an index.
create function public.schedule_whatsapp_cleanup(p_schedule text default '*/10 * * * *')
returns jsonb
language plpgsql
volatile security definer
set search_path = ''
as $$
declare
  v_job constant text := 'supabase-auth-state cleanup';
begin
  if to_regprocedure('cron.schedule(text, text, text)') is null then
    return jsonb_build_object('scheduled', false, 'reason',
      'pg_cron is not installed in this database: enable it under Integrations in the Supabase dashboard, '
      'or run `supabase-auth-state cleanup --every 6h` as a process');
  end if;
  if p_schedule = '' then
    execute 'select cron.unschedule(jobname) from cron.job where jobname = $1' using v_job;
    return jsonb_build_object('scheduled', false, 'reason', 'the schedule was removed');
  end if;
  execute 'select cron.schedule($1, $2, $3)' using v_job, p_schedule, 'select public.cleanup_expired_whatsapp_keys()';
  return jsonb_build_object('scheduled', true, 'job', v_job, 'schedule', p_schedule);
end
$$;

revoke all on function public.schedule_whatsapp_cleanup(text) from public, anon, authenticated;
grant execute on function public.schedule_whatsapp_cleanup(text) to service_role;

notify pgrst, 'reload schema';
