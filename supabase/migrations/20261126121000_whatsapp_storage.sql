-- Packs rows that are rewritten all day more tightly: after a simulated week a company takes an eighth less.
-- Works with every version of supabase-auth-state; nothing is rewritten now, the space comes with time.

-- Room left in a page for the next version of a row costs more than it saves: four or five sessions fill a page,
-- and what a clean page lacks is a whole row. Vacuum that comes after one dead row in a hundred makes the room
-- where it is needed (docs/performance.md).
alter table public.whatsapp_keys set (
  fillfactor = 100, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0.01);
