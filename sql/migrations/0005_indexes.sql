-- All that fivrec.wanted() lists: what keeps environments apart, and the indexes for foreign keys, for the newest checks, for
-- the usage report's counts, for the removal of test data in batches.

DO $$ BEGIN PERFORM fivrec.build(); PERFORM fivrec.validate(); END $$;
