-- A foreign key whose triggers are disabled (ALTER TABLE ... DISABLE TRIGGER ALL, a load of data that was broken off) checks
-- nothing. Only a superuser may enable them, so such a key is made again.
DO $$
DECLARE
  idle record;
BEGIN
  FOR idle IN
    SELECT DISTINCT k.conrelid::regclass AS tbl, k.conname
    FROM fivrec.wanted() w
    JOIN pg_constraint k ON k.conrelid = fivrec.app_table(w.tbl) AND k.conname = w.name
    JOIN pg_trigger g ON g.tgconstraint = k.oid
    WHERE g.tgenabled IN ('D', 'R')
  LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', idle.tbl, idle.conname);
  END LOOP;
  -- A look more, but only where something was dropped.
  IF FOUND THEN PERFORM fivrec.build(ARRAY['foreign key']), fivrec.validate(); END IF;
END
$$;
