-- Feeds of watched buckets. Whatever appends to one has its row locked until it commits, so that numbers follow the
-- order of the commits. Every apply reads the table, be there a feed or not, and so has a lock on it: see watch.

-- Who changes a bucket, as its feed names it.
CREATE FUNCTION SCHEMA.writer_VERSION(p_worker bytea, p_name bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
  SELECT int4send(length(p_worker)) || p_worker || p_name
$$;

-- Those of the buckets that have a feed which p_writer's changes belong into, locked. A full one is an error.
CREATE FUNCTION SCHEMA.open_feeds_VERSION(p_buckets bytea[], p_writer bytea) RETURNS bytea[] LANGUAGE plpgsql AS $$
DECLARE
  v_feed SCHEMA.feeds;
  v_found bytea[] := '{}';
BEGIN
  -- Few buckets are watched, and the query below costs several times as much.
  IF NOT EXISTS (SELECT FROM SCHEMA.feeds f WHERE f.bucket = ANY (p_buckets)) THEN RETURN v_found; END IF;
  FOR v_feed IN
    SELECT f.* FROM SCHEMA.feeds f WHERE f.bucket = ANY (p_buckets) AND EXISTS (
      SELECT FROM SCHEMA.watches w WHERE w.bucket = f.bucket AND w.writer <> p_writer)
    ORDER BY f.bucket FOR UPDATE OF f
  LOOP
    IF v_feed.held >= v_feed.max_changes OR v_feed.bytes >= v_feed.max_bytes THEN
      RAISE EXCEPTION USING ERRCODE = 'PD001',
        MESSAGE = (SELECT encode(b.name, 'hex') FROM SCHEMA.buckets b WHERE b.bucket = v_feed.bucket);
    END IF;
    v_found := v_found || v_feed.bucket;
  END LOOP;
  RETURN v_found;
END $$;

-- Changes in their order, as parallel arrays, into feeds that are open.
CREATE FUNCTION SCHEMA.append_VERSION(p_buckets bytea[], p_keys bytea[], p_values bytea[], p_writer bytea)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO SCHEMA.changes
    SELECT c.bucket, f.last + row_number() OVER (PARTITION BY c.bucket ORDER BY c.place), p_writer, c.key, c.value
    FROM unnest(p_buckets, p_keys, p_values) WITH ORDINALITY AS c(bucket, key, value, place)
    JOIN SCHEMA.feeds f ON f.bucket = c.bucket;
  UPDATE SCHEMA.feeds f SET last = f.last + c.number, held = f.held + c.number, bytes = f.bytes + c.size
    FROM (
      SELECT t.bucket, count(*) AS number, sum(length(t.key) + coalesce(length(t.value), 0)) AS size
      FROM unnest(p_buckets, p_keys, p_values) AS t(bucket, key, value) GROUP BY t.bucket
    ) c WHERE f.bucket = c.bucket;
END $$;

-- Drops what all have been told, and the feed when nobody watches any more. Its row is locked.
CREATE FUNCTION SCHEMA.trim_feed_VERSION(p_bucket bytea) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_reached bigint;
  v_count bigint;
  v_size bigint;
BEGIN
  SELECT min(w.reached) INTO v_reached FROM SCHEMA.watches w WHERE w.bucket = p_bucket;
  IF v_reached IS NULL THEN
    DELETE FROM SCHEMA.changes c WHERE c.bucket = p_bucket;
    DELETE FROM SCHEMA.feeds f WHERE f.bucket = p_bucket;
    RETURN;
  END IF;
  WITH gone AS (
    DELETE FROM SCHEMA.changes c WHERE c.bucket = p_bucket AND c.number <= v_reached
      RETURNING length(c.key) + coalesce(length(c.value), 0) AS size
  ) SELECT count(*), coalesce(sum(g.size), 0) INTO v_count, v_size FROM gone g;
  UPDATE SCHEMA.feeds f SET held = f.held - v_count, bytes = f.bytes - v_size WHERE f.bucket = p_bucket;
END $$;

-- p_life: of a new feed.
CREATE FUNCTION SCHEMA.watch_VERSION(
  p_worker bytea, p_bucket bytea, p_owner bytea, p_private bytea, p_name bytea, p_instance bytea, p_life text,
  p_changes bigint, p_bytes bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_last bigint;
BEGIN
  -- What is under way and does not see this watch ends first; what begins after it does see it.
  IF NOT EXISTS (SELECT FROM SCHEMA.watches w WHERE w.bucket = p_bucket AND w.worker = p_worker) THEN
    LOCK TABLE SCHEMA.feeds IN ACCESS EXCLUSIVE MODE;
  END IF;
  INSERT INTO SCHEMA.buckets VALUES (p_bucket, p_owner, p_private, p_name) ON CONFLICT DO NOTHING;
  INSERT INTO SCHEMA.feeds AS f (bucket, life, max_changes, max_bytes) VALUES (p_bucket, p_life, p_changes, p_bytes)
    ON CONFLICT (bucket) DO UPDATE SET max_changes = excluded.max_changes, max_bytes = excluded.max_bytes
    RETURNING f.last INTO v_last;
  INSERT INTO SCHEMA.watches AS w VALUES (
      p_bucket, p_worker, p_instance, SCHEMA.writer_VERSION(p_worker, p_instance), v_last, SCHEMA.now_ms_VERSION())
    ON CONFLICT (bucket, worker) DO UPDATE SET
      instance = excluded.instance, writer = excluded.writer, renewed_ms = excluded.renewed_ms;
END $$;

CREATE FUNCTION SCHEMA.unwatch_VERSION(p_worker bytea, p_bucket bytea, p_idle bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM SCHEMA.feeds f WHERE f.bucket = p_bucket FOR UPDATE;
  DELETE FROM SCHEMA.watches w
    WHERE w.bucket = p_bucket AND w.worker = p_worker AND w.renewed_ms <= SCHEMA.now_ms_VERSION() - p_idle;
  IF FOUND THEN PERFORM SCHEMA.trim_feed_VERSION(p_bucket); END IF;
END $$;

-- The first changes after a number; whether p_worker's own instance made each is told. Of about p_size bytes.
CREATE FUNCTION SCHEMA.changes_VERSION(p_worker bytea, p_bucket bytea, p_after bigint, p_limit bigint, p_size bigint)
RETURNS TABLE (o_life text, o_reached bigint, o_number bigint, o_own boolean, o_key bytea, o_value bytea)
LANGUAGE sql STABLE AS $$
  SELECT f.life, w.reached, c.number, c.own, c.key, c.value
  FROM SCHEMA.watches w JOIN SCHEMA.feeds f ON f.bucket = w.bucket
  LEFT JOIN LATERAL (
    SELECT a.number, a.writer = w.writer AS own, a.key, a.value,
      sum(length(a.key) + coalesce(length(a.value), 0)) OVER (ORDER BY a.number)
        - length(a.key) - coalesce(length(a.value), 0) AS before
    FROM (
      SELECT * FROM SCHEMA.changes a WHERE a.bucket = p_bucket AND a.number > greatest(p_after, w.reached)
      ORDER BY a.number LIMIT p_limit
    ) a
  ) c ON c.before < p_size
  WHERE w.worker = p_worker AND w.bucket = p_bucket
  ORDER BY c.number
$$;

CREATE FUNCTION SCHEMA.told_VERSION(p_worker bytea, p_bucket bytea, p_life text, p_number bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_last bigint;
BEGIN
  SELECT f.last INTO v_last FROM SCHEMA.feeds f WHERE f.bucket = p_bucket AND f.life = p_life FOR UPDATE;
  UPDATE SCHEMA.watches w SET reached = least(p_number, v_last)
    WHERE w.bucket = p_bucket AND w.worker = p_worker AND w.reached < least(p_number, v_last) AND v_last IS NOT NULL;
  IF FOUND THEN PERFORM SCHEMA.trim_feed_VERSION(p_bucket); END IF;
END $$;
