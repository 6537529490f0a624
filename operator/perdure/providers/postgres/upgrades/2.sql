-- Version 2: buckets can be watched. Functions of version 1 know nothing of that: their changes would be missed.

DO $$
DECLARE
  v_function regprocedure;
BEGIN
  FOR v_function IN
    SELECT p.oid::regprocedure FROM pg_proc p
    WHERE p.pronamespace = (SELECT c.relnamespace FROM pg_class c WHERE c.oid = 'SCHEMA.meta'::regclass)
  LOOP
    EXECUTE 'DROP FUNCTION ' || v_function;
  END LOOP;
END $$;

-- Of a bucket that is watched. last: the latest number. held: changes of so many bytes, which are in the table below.
CREATE TABLE SCHEMA.feeds (
  bucket bytea PRIMARY KEY, life text NOT NULL, max_changes bigint NOT NULL, max_bytes bigint NOT NULL,
  last bigint NOT NULL DEFAULT 0, held bigint NOT NULL DEFAULT 0, bytes bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- writer: the instance, as changes name it. reached: the number it was told of last.
CREATE TABLE SCHEMA.watches (
  bucket bytea, worker bytea, instance bytea NOT NULL, writer bytea NOT NULL,
  reached bigint NOT NULL, renewed_ms bigint NOT NULL,
  PRIMARY KEY (bucket, worker)
) WITH (fillfactor = 50);
CREATE INDEX watches_by_worker ON SCHEMA.watches (worker);

-- value NULL: the key was deleted.
CREATE TABLE SCHEMA.changes (
  bucket bytea, number bigint, writer bytea NOT NULL, key bytea NOT NULL, value bytea,
  PRIMARY KEY (bucket, number));

UPDATE SCHEMA.meta SET version = 2;
