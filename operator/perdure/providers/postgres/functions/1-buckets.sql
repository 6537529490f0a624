-- Perdure's operations on PostgreSQL: one call is one transaction and one round trip. SCHEMA is replaced by the
-- schema's quoted name, VERSION by a hash of this text, so that hosts of several versions can share a database.
--
-- Whatever changes an instance locks its row first (FOR UPDATE), so that its commits, its inbox and its claims follow
-- one another; under READ COMMITTED every later statement sees what the former holder of the lock committed.
-- The lock is written to the log: so a resent commit, which changes nothing, is answered only when the log, and with
-- it the first sending, is on disk and on the synchronous standbys.
-- Effects come sorted by (bucket, key), so that commits which share a bucket take its locks in one order.
--
-- The clock, and what effects do to buckets.

CREATE FUNCTION SCHEMA.now_ms_VERSION() RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
$$;

-- As perdure.durable.effects encodes an outcome.
CREATE FUNCTION SCHEMA.outcome_VERSION(p_letter text, p_body bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
  SELECT convert_to(p_letter, 'UTF8') || int4send(length(p_body)) || p_body
$$;

-- The integer of a counter's text, or NULL: the same rule as perdure.durable.effects.counted.
CREATE FUNCTION SCHEMA.counter_VERSION(p_value bytea) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  v_text text;
BEGIN
  IF length(p_value) > 20 THEN RETURN NULL; END IF;
  v_text := encode(p_value, 'escape');
  IF v_text !~ '^(0|-?[1-9][0-9]{0,18})$' THEN RETURN NULL; END IF;
  IF v_text::numeric NOT BETWEEN -9223372036854775808 AND 9223372036854775807 THEN RETURN NULL; END IF;
  RETURN v_text::numeric;
END $$;

-- Drops some expired entries that nobody is writing.
CREATE FUNCTION SCHEMA.clear_VERSION(p_now bigint, p_most bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM SCHEMA.entries WHERE ctid = ANY (ARRAY(
    SELECT e.ctid FROM SCHEMA.entries e WHERE e.expires_ms <= p_now LIMIT p_most FOR UPDATE SKIP LOCKED));
END $$;

-- Whether the bucket, whose row the caller has locked, has no room for so many keys that are missing.
CREATE FUNCTION SCHEMA.full_VERSION(p_now bigint, p_bucket bytea, p_new bigint, p_bound bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
  RETURN p_new > 0 AND p_new + (SELECT count(*) FROM (
    SELECT FROM SCHEMA.entries e
      WHERE e.bucket = p_bucket AND (e.expires_ms IS NULL OR e.expires_ms > p_now) LIMIT p_bound) AS held) > p_bound;
END $$;

-- Those of the keys that are missing.
CREATE FUNCTION SCHEMA.missing_VERSION(p_now bigint, p_bucket bytea, p_keys bytea[]) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
  RETURN (SELECT count(*) FROM unnest(p_keys) AS k(key) WHERE NOT EXISTS (
    SELECT FROM SCHEMA.entries e
      WHERE e.bucket = p_bucket AND e.key = k.key AND (e.expires_ms IS NULL OR e.expires_ms > p_now)));
END $$;

-- An increment (3) or a swap (4) of one entry; its outcome. p_bound: NULL, or the bucket has at most so many keys.
CREATE FUNCTION SCHEMA.atomic_VERSION(
  p_now bigint, p_kind int, p_bucket bytea, p_key bytea, p_value bytea, p_ttl bigint, p_delta numeric, p_expected bytea,
  p_bound bigint
) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
  v_current bytea;
  v_expires bigint;
  v_there boolean;
  v_live boolean;
  v_number numeric;
  v_new bytea;
  v_outcome bytea;
BEGIN
  LOOP
    SELECT e.value, e.expires_ms INTO v_current, v_expires
      FROM SCHEMA.entries e WHERE e.bucket = p_bucket AND e.key = p_key FOR UPDATE;
    v_there := FOUND;
    v_live := v_there AND (v_expires IS NULL OR v_expires > p_now);
    IF NOT v_live THEN v_current := NULL; END IF;
    IF p_kind = 3 THEN
      v_number := CASE WHEN v_live THEN SCHEMA.counter_VERSION(v_current) ELSE 0 END;
      IF v_number IS NULL THEN RETURN SCHEMA.outcome_VERSION('e', 'not-a-counter'); END IF;
      v_number := v_number + p_delta;
      IF v_number NOT BETWEEN -9223372036854775808 AND 9223372036854775807 THEN
        RETURN SCHEMA.outcome_VERSION('e', 'overflow');
      END IF;
      v_new := convert_to(v_number::text, 'UTF8');
      v_outcome := SCHEMA.outcome_VERSION('i', v_new);
    ELSE
      IF v_current IS DISTINCT FROM p_expected THEN
        RETURN CASE WHEN v_live THEN SCHEMA.outcome_VERSION('c', v_current) ELSE SCHEMA.outcome_VERSION('m', '') END;
      END IF;
      v_new := p_value;
      v_outcome := SCHEMA.outcome_VERSION('s', '');
    END IF;
    IF NOT v_live AND p_bound IS NOT NULL AND SCHEMA.full_VERSION(p_now, p_bucket, 1, p_bound) THEN
      RETURN SCHEMA.outcome_VERSION('e', 'full');
    END IF;
    IF NOT (p_kind = 3 AND v_live) THEN v_expires := p_now + p_ttl; END IF;
    IF v_there THEN
      UPDATE SCHEMA.entries e SET value = v_new, expires_ms = v_expires WHERE e.bucket = p_bucket AND e.key = p_key;
      RETURN v_outcome;
    END IF;
    INSERT INTO SCHEMA.entries VALUES (p_bucket, p_key, v_new, v_expires) ON CONFLICT DO NOTHING;
    IF FOUND THEN RETURN v_outcome; END IF;
    -- Another transaction put it there meanwhile.
  END LOOP;
END $$;

-- Effects in their order, kinds 1 put, 2 remove, 3 increment, 4 swap, 5 an item of a fill. p_places: where each stood
-- before they were sorted; the outcomes of the atomic ones are returned in that order. p_bound: NULL, or what comes last,
-- one of the kinds 3 to 5, is refused where its bucket would have more keys. p_writer: whose effects they are.
CREATE FUNCTION SCHEMA.apply_VERSION(
  p_now bigint, p_known bytea[], p_owners bytea[], p_privates bytea[], p_names bytea[],
  p_kinds int[], p_places int[], p_buckets bytea[], p_keys bytea[], p_values bytea[], p_ttls bigint[],
  p_deltas text[], p_expected bytea[], p_bound bigint, p_writer bytea
) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
  v_effect record;
  v_outcome bytea;
  v_outcomes bytea[] := '{}';
  v_at int[] := '{}';
  v_expiring boolean := false;
  v_watched bytea[];
  v_there boolean;
  v_changed bytea[] := '{}';
  v_keys bytea[] := '{}';
  v_values bytea[] := '{}';
  v_last int := cardinality(p_kinds);
  v_full boolean;
BEGIN
  v_watched := SCHEMA.open_feeds_VERSION(p_known, p_writer);
  INSERT INTO SCHEMA.buckets
    SELECT * FROM unnest(p_known, p_owners, p_privates, p_names) ON CONFLICT DO NOTHING;
  IF p_bound IS NOT NULL THEN
    -- Whoever adds keys under a bound follows another.
    PERFORM FROM SCHEMA.buckets b WHERE b.bucket = p_buckets[v_last] FOR UPDATE;
  END IF;
  FOR v_effect IN
    SELECT * FROM unnest(p_kinds, p_places, p_buckets, p_keys, p_values, p_ttls, p_deltas, p_expected)
      AS t(kind, place, bucket, key, value, ttl, delta, expected)
  LOOP
    IF v_effect.kind = 1 THEN
      INSERT INTO SCHEMA.entries VALUES (v_effect.bucket, v_effect.key, v_effect.value, p_now + v_effect.ttl)
        ON CONFLICT (bucket, key) DO UPDATE SET value = excluded.value, expires_ms = excluded.expires_ms;
      v_there := true;
    ELSIF v_effect.kind = 2 THEN
      DELETE FROM SCHEMA.entries e WHERE e.bucket = v_effect.bucket AND e.key = v_effect.key
        RETURNING e.expires_ms IS NULL OR e.expires_ms > p_now INTO v_there;
    ELSIF v_effect.kind = 5 THEN
      IF v_full IS NULL THEN
        v_full := SCHEMA.full_VERSION(p_now, v_effect.bucket, SCHEMA.missing_VERSION(p_now, v_effect.bucket,
          p_keys[array_position(p_kinds, 5):]), p_bound);
        v_outcomes := v_outcomes || CASE WHEN v_full THEN SCHEMA.outcome_VERSION('e', 'full')
          ELSE SCHEMA.outcome_VERSION('s', '') END;
        v_at := v_at || v_effect.place;
      END IF;
      v_there := NOT v_full;
      IF v_there THEN
        INSERT INTO SCHEMA.entries VALUES (v_effect.bucket, v_effect.key, v_effect.value, p_now + v_effect.ttl)
          ON CONFLICT (bucket, key) DO UPDATE SET value = excluded.value, expires_ms = excluded.expires_ms;
      END IF;
    ELSE
      v_outcome := SCHEMA.atomic_VERSION(
        p_now, v_effect.kind, v_effect.bucket, v_effect.key, v_effect.value, v_effect.ttl,
        v_effect.delta::numeric, v_effect.expected, CASE WHEN v_effect.place = p_places[v_last] THEN p_bound END);
      v_outcomes := v_outcomes || v_outcome;
      v_at := v_at || v_effect.place;
      v_there := substring(v_outcome FROM 1 FOR 1) IN ('i', 's');
      IF v_effect.kind = 3 THEN v_effect.value := substring(v_outcome FROM 6); END IF;
    END IF;
    v_expiring := v_expiring OR v_effect.ttl IS NOT NULL;
    IF v_there AND v_effect.bucket = ANY (v_watched) THEN
      v_changed := v_changed || v_effect.bucket;
      v_keys := v_keys || v_effect.key;
      v_values := v_values || v_effect.value;
    END IF;
  END LOOP;
  IF v_changed <> '{}' THEN PERFORM SCHEMA.append_VERSION(v_changed, v_keys, v_values, p_writer); END IF;
  -- Whoever writes what expires clears more than it writes; of the others one in eight looks.
  IF v_expiring OR p_now % 8 = 0 THEN
    PERFORM SCHEMA.clear_VERSION(p_now, greatest(100, 2 * cardinality(p_kinds)));
  END IF;
  IF v_at = '{}' THEN RETURN ''; END IF;
  RETURN (SELECT string_agg(o.outcome, '' ORDER BY o.place) FROM unnest(v_outcomes, v_at) AS o(outcome, place));
END $$;

CREATE FUNCTION SCHEMA.foreign_VERSION(
  p_worker bytea, p_origin bytea, p_sequence bigint,
  p_known bytea[], p_owners bytea[], p_privates bytea[], p_names bytea[],
  p_kinds int[], p_places int[], p_buckets bytea[], p_keys bytea[], p_values bytea[], p_ttls bigint[],
  p_deltas text[], p_expected bytea[], p_bound bigint, p_instance bytea,
  OUT o_status text, OUT o_outcomes bytea
) LANGUAGE plpgsql AS $$
DECLARE
  v_mark SCHEMA.marks;
BEGIN
  -- Sequence 0 is no instance's and leaves no mark.
  WHILE p_sequence > 0 LOOP
    SELECT * INTO v_mark FROM SCHEMA.marks m WHERE m.worker = p_worker AND m.origin = p_origin FOR UPDATE;
    EXIT WHEN FOUND;
    INSERT INTO SCHEMA.marks VALUES (p_worker, p_origin, 0, '') ON CONFLICT DO NOTHING;
  END LOOP;
  IF p_sequence > 0 AND p_sequence <= v_mark.sequence THEN
    o_status := 'DUPLICATE';
    o_outcomes := CASE WHEN p_sequence = v_mark.sequence THEN v_mark.outcomes ELSE '' END;
    RETURN;
  END IF;
  o_outcomes := SCHEMA.apply_VERSION(
    SCHEMA.now_ms_VERSION(), p_known, p_owners, p_privates, p_names,
    p_kinds, p_places, p_buckets, p_keys, p_values, p_ttls, p_deltas, p_expected, p_bound,
    coalesce(SCHEMA.writer_VERSION(p_worker, p_instance), ''));
  IF p_sequence > 0 THEN
    UPDATE SCHEMA.marks m SET sequence = p_sequence, outcomes = o_outcomes
      WHERE m.worker = p_worker AND m.origin = p_origin;
  END IF;
  o_status := 'APPLIED';
END $$;
