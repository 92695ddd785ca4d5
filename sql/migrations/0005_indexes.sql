-- The indexes that fivrec.wanted() lists: for foreign keys, for the newest checks, for the usage report's counts, for the
-- removal of test data in batches.

DO $$ BEGIN PERFORM fivrec.build(ARRAY['index']); END $$;
