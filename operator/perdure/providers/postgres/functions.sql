-- Perdure's operations on PostgreSQL: one call is one transaction and one round trip. SCHEMA is replaced by the
-- schema's quoted name, VERSION by a hash of this text, so that hosts of several versions can share a database.
--
-- Whatever changes an instance locks its row first (FOR UPDATE), so that its commits, its inbox and its claims follow
-- one another; under READ COMMITTED every later statement sees what the former holder of the lock committed.
-- The lock is written to the log: so a resent commit, which changes nothing, is answered only when the log, and with
-- it the first sending, is on disk and on the synchronous standbys.
-- Effects come sorted by (bucket, key), so that commits which share a bucket take its locks in one order.

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

-- An increment (3) or a swap (4) of one entry; its outcome.
CREATE FUNCTION SCHEMA.atomic_VERSION(
  p_now bigint, p_kind int, p_bucket bytea, p_key bytea, p_value bytea, p_ttl bigint, p_delta numeric, p_expected bytea
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

-- Effects in their order, kinds 1 put, 2 remove, 3 increment, 4 swap. p_places: where each stood before they were
-- sorted; the outcomes of the atomic ones are returned in that order.
CREATE FUNCTION SCHEMA.apply_VERSION(
  p_now bigint, p_known bytea[], p_owners bytea[], p_privates bytea[], p_names bytea[],
  p_kinds int[], p_places int[], p_buckets bytea[], p_keys bytea[], p_values bytea[], p_ttls bigint[],
  p_deltas text[], p_expected bytea[]
) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
  v_effect record;
  v_outcomes bytea[] := '{}';
  v_at int[] := '{}';
  v_expiring boolean := false;
BEGIN
  INSERT INTO SCHEMA.buckets
    SELECT * FROM unnest(p_known, p_owners, p_privates, p_names) ON CONFLICT DO NOTHING;
  FOR v_effect IN
    SELECT * FROM unnest(p_kinds, p_places, p_buckets, p_keys, p_values, p_ttls, p_deltas, p_expected)
      AS t(kind, place, bucket, key, value, ttl, delta, expected)
  LOOP
    IF v_effect.kind = 1 THEN
      INSERT INTO SCHEMA.entries VALUES (v_effect.bucket, v_effect.key, v_effect.value, p_now + v_effect.ttl)
        ON CONFLICT (bucket, key) DO UPDATE SET value = excluded.value, expires_ms = excluded.expires_ms;
    ELSIF v_effect.kind = 2 THEN
      DELETE FROM SCHEMA.entries e WHERE e.bucket = v_effect.bucket AND e.key = v_effect.key;
    ELSE
      v_outcomes := v_outcomes || SCHEMA.atomic_VERSION(
        p_now, v_effect.kind, v_effect.bucket, v_effect.key, v_effect.value, v_effect.ttl,
        v_effect.delta::numeric, v_effect.expected);
      v_at := v_at || v_effect.place;
    END IF;
    v_expiring := v_expiring OR v_effect.ttl IS NOT NULL;
  END LOOP;
  -- Whoever writes what expires clears more than it writes; of the others one in eight looks.
  IF v_expiring OR p_now % 8 = 0 THEN
    PERFORM SCHEMA.clear_VERSION(p_now, greatest(100, 2 * cardinality(p_kinds)));
  END IF;
  IF v_at = '{}' THEN RETURN ''; END IF;
  RETURN (SELECT string_agg(o.outcome, '' ORDER BY o.place) FROM unnest(v_outcomes, v_at) AS o(outcome, place));
END $$;

-- To be called, with the instance's row locked, after whatever may have changed when it has something to do.
CREATE FUNCTION SCHEMA.refresh_due_VERSION(p_instance bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_held SCHEMA.instances;
  v_due bigint;
BEGIN
  SELECT * INTO v_held FROM SCHEMA.instances i WHERE i.id = p_instance;
  IF v_held.halt IS NOT NULL THEN
    v_due := NULL;
  ELSIF v_held.open OR v_held.unapplied <> '{}' THEN
    v_due := 0;
  ELSE
    SELECT b.due_ms INTO v_due FROM SCHEMA.inbox b WHERE b.instance = p_instance ORDER BY b.due_ms LIMIT 1;
  END IF;
  IF v_due IS NULL THEN
    DELETE FROM SCHEMA.due d WHERE d.instance = p_instance;
  ELSE
    INSERT INTO SCHEMA.due AS d VALUES (p_instance, v_held.worker, v_held.name, v_due)
      ON CONFLICT (instance) DO UPDATE SET due_ms = excluded.due_ms WHERE d.due_ms <> excluded.due_ms;
  END IF;
END $$;

-- The locked row of an instance if the token is its own, or NULL.
CREATE FUNCTION SCHEMA.owned_VERSION(p_worker bytea, p_name bytea, p_epoch bigint, p_nonce bytea)
RETURNS SCHEMA.instances LANGUAGE plpgsql AS $$
DECLARE
  v_held SCHEMA.instances;
BEGIN
  SELECT * INTO v_held FROM SCHEMA.instances i WHERE i.worker = p_worker AND i.name = p_name FOR UPDATE;
  IF v_held.epoch > 0 AND v_held.epoch = p_epoch AND v_held.nonce = p_nonce THEN RETURN v_held; END IF;
  RETURN NULL;
END $$;

-- The locked row of an instance, made if there is none.
CREATE FUNCTION SCHEMA.anyone_VERSION(p_worker bytea, p_name bytea) RETURNS SCHEMA.instances LANGUAGE plpgsql AS $$
DECLARE
  v_held SCHEMA.instances;
BEGIN
  LOOP
    SELECT * INTO v_held FROM SCHEMA.instances i WHERE i.worker = p_worker AND i.name = p_name FOR UPDATE;
    IF FOUND THEN RETURN v_held; END IF;
    INSERT INTO SCHEMA.instances (worker, name) VALUES (p_worker, p_name) ON CONFLICT DO NOTHING;
  END LOOP;
END $$;

-- What is stored of an instance, of one moment.
CREATE FUNCTION SCHEMA.data_VERSION(p_instance bigint)
RETURNS TABLE (
  life bytea, sequence bigint, open boolean, halt bytea, unapplied bigint[], entries bytea[], outcomes bytea[],
  reached bigint, parts bytea[], digests bytea[], blobs bytea[]
) LANGUAGE sql STABLE AS $$
  SELECT i.life, i.sequence, i.open, i.halt, i.unapplied,
    ARRAY(SELECT j.entry FROM SCHEMA.journal j WHERE j.instance = i.id ORDER BY j.sequence),
    ARRAY(SELECT j.outcomes FROM SCHEMA.journal j WHERE j.instance = i.id ORDER BY j.sequence),
    (SELECT max(s.sequence) FROM SCHEMA.snapshots s WHERE s.instance = i.id),
    ARRAY(SELECT s.data FROM SCHEMA.snapshots s WHERE s.instance = i.id ORDER BY s.sequence),
    ARRAY(SELECT b.digest FROM SCHEMA.blobs b WHERE b.instance = i.id ORDER BY b.digest),
    ARRAY(SELECT b.data FROM SCHEMA.blobs b WHERE b.instance = i.id ORDER BY b.digest)
  FROM SCHEMA.instances i WHERE i.id = p_instance
$$;

-- p_identity: for the Worker's contents, if they have none yet. The identity returned tells this database from a copy
-- of it as well.
CREATE FUNCTION SCHEMA.claim_VERSION(
  p_worker bytea, p_name bytea, p_nonce bytea, p_host bytea, p_identity bytea,
  OUT o_epoch bigint, OUT o_previous bytea, OUT o_store text,
  OUT life bytea, OUT sequence bigint, OUT open boolean, OUT halt bytea, OUT unapplied bigint[],
  OUT entries bytea[], OUT outcomes bytea[], OUT reached bigint, OUT parts bytea[], OUT digests bytea[],
  OUT blobs bytea[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_held SCHEMA.instances;
  v_identity bytea;
BEGIN
  v_held := SCHEMA.anyone_VERSION(p_worker, p_name);
  IF v_held.epoch = 0 OR v_held.nonce <> p_nonce THEN
    UPDATE SCHEMA.instances i SET
      epoch = i.epoch + 1, nonce = p_nonce, host = p_host, base = i.sequence,
      previous = CASE WHEN i.epoch > 0 THEN i.host END,
      life = CASE WHEN i.epoch > 0 THEN i.life ELSE p_nonce END
    WHERE i.id = v_held.id RETURNING * INTO v_held;
  END IF;
  LOOP
    SELECT w.identity INTO v_identity FROM SCHEMA.workers w WHERE w.worker = p_worker;
    EXIT WHEN FOUND;
    INSERT INTO SCHEMA.workers VALUES (p_worker, p_identity) ON CONFLICT DO NOTHING;
  END LOOP;
  o_epoch := v_held.epoch;
  o_previous := v_held.previous;
  o_store := encode(v_identity, 'escape') || '@' || (SELECT c.system_identifier FROM pg_control_system() c)
    || '/' || (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
  SELECT d.* INTO life, sequence, open, halt, unapplied, entries, outcomes, reached, parts, digests, blobs
    FROM SCHEMA.data_VERSION(v_held.id) d;
END $$;

-- Drops the records up to p_sequence with the blobs that only they named.
CREATE FUNCTION SCHEMA.trim_VERSION(p_instance bigint, p_sequence bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM SCHEMA.journal j WHERE j.instance = p_instance AND j.sequence <= p_sequence;
  DELETE FROM SCHEMA.blobs b WHERE b.instance = p_instance AND b.last <= p_sequence;
END $$;

CREATE FUNCTION SCHEMA.finished_VERSION(p_instance bigint, p_key bytea, p_now bigint)
RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN EXISTS (
    SELECT FROM SCHEMA.results r WHERE r.instance = p_instance AND r.key = p_key AND r.expires_ms > p_now);
END $$;

-- Stores a result, and drops those past their retention or over the bound, the oldest first, up to 100.
CREATE FUNCTION SCHEMA.keep_result_VERSION(
  p_instance bigint, p_sequence bigint, p_key bytea, p_fingerprint bytea, p_body bytea, p_now bigint,
  p_retention bigint, p_most bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_first bigint;
  v_expires bigint;
  v_held bigint;
  v_over bigint := 0;
BEGIN
  INSERT INTO SCHEMA.results VALUES (p_instance, p_key, p_fingerprint, p_body, p_sequence, p_now + p_retention)
    ON CONFLICT (instance, key) DO UPDATE SET fingerprint = excluded.fingerprint, body = excluded.body,
      sequence = excluded.sequence, expires_ms = excluded.expires_ms;
  SELECT r.sequence, r.expires_ms INTO v_first, v_expires
    FROM SCHEMA.results r WHERE r.instance = p_instance ORDER BY r.sequence LIMIT 1;
  -- A commit stores one result at most: there are no more than there were commits since the oldest one's. Counting
  -- reads them all, so then a hundredth more than need be is dropped.
  IF p_sequence - v_first >= p_most THEN
    SELECT count(*) INTO v_held FROM SCHEMA.results r WHERE r.instance = p_instance;
    IF v_held > p_most THEN v_over := v_held - p_most + p_most / 100; END IF;
  END IF;
  IF v_over > 0 OR v_expires <= p_now THEN
    DELETE FROM SCHEMA.results WHERE ctid = ANY (ARRAY(
      SELECT o.place FROM (
        SELECT r.ctid AS place, r.expires_ms, row_number() OVER (ORDER BY r.sequence) AS number
          FROM SCHEMA.results r WHERE r.instance = p_instance ORDER BY r.sequence LIMIT 100
      ) o WHERE o.number <= v_over OR o.expires_ms <= p_now));
  END IF;
END $$;

-- o_status: APPLIED, DUPLICATE, KEY_USED, CANCELLED, FENCED, LOST or GAP; o_stored: the sequence before it.
CREATE FUNCTION SCHEMA.commit_VERSION(
  p_worker bytea, p_name bytea, p_epoch bigint, p_nonce bytea, p_sequence bigint, p_entry bytea, p_component bytea,
  p_open boolean, p_fresh boolean, p_foreign boolean, p_reserves bytea, p_pending bytea,
  p_key bytea, p_fingerprint bytea, p_body bytea, p_retention bigint, p_most bigint,
  p_digests bytea[], p_blobs bytea[],
  p_known bytea[], p_owners bytea[], p_privates bytea[], p_names bytea[],
  p_kinds int[], p_places int[], p_buckets bytea[], p_keys bytea[], p_values bytea[], p_ttls bigint[],
  p_deltas text[], p_expected bytea[],
  OUT o_status text, OUT o_stored bigint, OUT o_outcomes bytea
) LANGUAGE plpgsql AS $$
DECLARE
  v_held SCHEMA.instances;
  v_now bigint;
  v_unapplied bigint[];
  v_fingerprint bytea;
  v_unsettled boolean;
BEGIN
  -- As owned does it; a call less is worth it here.
  SELECT * INTO v_held FROM SCHEMA.instances i WHERE i.worker = p_worker AND i.name = p_name FOR UPDATE;
  IF NOT FOUND OR v_held.epoch = 0 OR v_held.epoch <> p_epoch OR v_held.nonce <> p_nonce THEN
    o_status := 'FENCED';
    RETURN;
  END IF;
  o_stored := v_held.sequence;
  IF p_sequence > v_held.sequence + 1 THEN o_status := 'LOST'; RETURN; END IF;
  IF p_sequence <= v_held.sequence THEN
    SELECT j.outcomes INTO o_outcomes FROM SCHEMA.journal j
      WHERE p_sequence > v_held.base AND j.instance = v_held.id AND j.sequence = p_sequence;
    o_status := CASE WHEN FOUND THEN 'DUPLICATE' ELSE 'GAP' END;
    RETURN;
  END IF;
  v_now := SCHEMA.now_ms_VERSION();
  IF p_key IS NOT NULL AND SCHEMA.finished_VERSION(v_held.id, p_key, v_now)
    OR p_reserves IS NOT NULL AND SCHEMA.finished_VERSION(v_held.id, p_reserves, v_now)
  THEN
    o_status := 'KEY_USED';
    RETURN;
  END IF;
  IF p_pending IS NOT NULL THEN
    SELECT b.fingerprint INTO v_fingerprint
      FROM SCHEMA.inbox b WHERE b.instance = v_held.id AND b.key = p_pending;
    -- Under the same key there may be another call by now.
    IF NOT FOUND OR v_fingerprint <> p_fingerprint THEN o_status := 'CANCELLED'; RETURN; END IF;
  END IF;

  v_unsettled := p_open OR v_held.open OR p_foreign;
  v_unapplied := v_held.unapplied;
  IF p_fresh THEN
    DELETE FROM SCHEMA.snapshots s WHERE s.instance = v_held.id;
    PERFORM SCHEMA.trim_VERSION(v_held.id, p_sequence - 1);
    v_unsettled := v_unsettled OR v_unapplied <> '{}';
    v_unapplied := '{}';
  END IF;
  o_outcomes := '';
  IF p_kinds <> '{}' THEN
    o_outcomes := SCHEMA.apply_VERSION(
      v_now, p_known, p_owners, p_privates, p_names,
      p_kinds, p_places, p_buckets, p_keys, p_values, p_ttls, p_deltas, p_expected);
  END IF;
  INSERT INTO SCHEMA.journal VALUES (v_held.id, p_sequence, p_entry, o_outcomes);
  IF p_digests <> '{}' THEN
    INSERT INTO SCHEMA.blobs SELECT v_held.id, t.digest, p_sequence, t.data
      FROM unnest(p_digests, p_blobs) AS t(digest, data)
      ON CONFLICT (instance, digest) DO UPDATE SET last = excluded.last;
  END IF;
  IF p_foreign THEN v_unapplied := v_unapplied || p_sequence; END IF;
  UPDATE SCHEMA.instances i SET
    sequence = p_sequence, open = p_open, unapplied = v_unapplied,
    component = CASE WHEN p_component = '' THEN i.component ELSE p_component END
    WHERE i.id = v_held.id;
  IF p_open AND (p_pending IS NOT NULL OR p_reserves IS NOT NULL) THEN
    UPDATE SCHEMA.inbox b SET begun = true WHERE b.instance = v_held.id AND b.key IN (p_pending, p_reserves);
  END IF;
  IF p_key IS NOT NULL THEN
    DELETE FROM SCHEMA.inbox b WHERE b.instance = v_held.id AND b.key = p_key;
    v_unsettled := v_unsettled OR FOUND;
    PERFORM SCHEMA.keep_result_VERSION(
      v_held.id, p_sequence, p_key, p_fingerprint, p_body, v_now, p_retention, p_most);
  END IF;
  IF v_unsettled THEN PERFORM SCHEMA.refresh_due_VERSION(v_held.id); END IF;
  o_status := 'APPLIED';
END $$;

CREATE FUNCTION SCHEMA.applied_VERSION(p_worker bytea, p_name bytea, p_epoch bigint, p_nonce bytea, p_sequence bigint)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_held SCHEMA.instances;
BEGIN
  v_held := SCHEMA.owned_VERSION(p_worker, p_name, p_epoch, p_nonce);
  IF v_held.id IS NULL THEN RETURN 'FENCED'; END IF;
  UPDATE SCHEMA.instances i SET unapplied = array_remove(i.unapplied, p_sequence)
    WHERE i.id = v_held.id AND p_sequence = ANY (i.unapplied);
  PERFORM SCHEMA.refresh_due_VERSION(v_held.id);
  RETURN 'OK';
END $$;

-- KEPT, REFUSED or FENCED.
CREATE FUNCTION SCHEMA.snapshot_VERSION(
  p_worker bytea, p_name bytea, p_epoch bigint, p_nonce bytea, p_sequence bigint, p_data bytea, p_follows bigint
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_held SCHEMA.instances;
  v_parts bigint;
  v_present bigint;
BEGIN
  v_held := SCHEMA.owned_VERSION(p_worker, p_name, p_epoch, p_nonce);
  IF v_held.id IS NULL THEN RETURN 'FENCED'; END IF;
  SELECT count(*), max(s.sequence) INTO v_parts, v_present FROM SCHEMA.snapshots s WHERE s.instance = v_held.id;
  IF v_present = p_sequence AND (v_parts = 1) = (p_follows IS NULL) AND EXISTS (
    SELECT FROM SCHEMA.snapshots s WHERE s.instance = v_held.id AND s.sequence = p_sequence AND s.data = p_data)
  THEN
    RETURN 'KEPT';
  END IF;
  IF p_sequence >= v_held.sequence OR p_sequence >= ANY (v_held.unapplied) THEN RETURN 'REFUSED'; END IF;
  IF p_follows IS NULL THEN
    IF p_sequence < v_present THEN RETURN 'REFUSED'; END IF;
    DELETE FROM SCHEMA.snapshots s WHERE s.instance = v_held.id;
  ELSIF v_present IS NULL OR v_present <> p_follows OR p_sequence <= p_follows THEN
    RETURN 'REFUSED';
  END IF;
  INSERT INTO SCHEMA.snapshots VALUES (v_held.id, p_sequence, p_data);
  PERFORM SCHEMA.trim_VERSION(v_held.id, p_sequence);
  RETURN 'KEPT';
END $$;

CREATE FUNCTION SCHEMA.halt_VERSION(p_worker bytea, p_name bytea, p_epoch bigint, p_nonce bytea, p_reason bytea)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_held SCHEMA.instances;
BEGIN
  v_held := SCHEMA.owned_VERSION(p_worker, p_name, p_epoch, p_nonce);
  IF v_held.id IS NULL THEN RETURN 'FENCED'; END IF;
  UPDATE SCHEMA.instances i SET halt = p_reason WHERE i.id = v_held.id;
  PERFORM SCHEMA.refresh_due_VERSION(v_held.id);
  RETURN 'OK';
END $$;

CREATE FUNCTION SCHEMA.delete_VERSION(p_worker bytea, p_name bytea, p_private bytea)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  v_id bigint;
  v_sequence bigint;
  v_there boolean;
BEGIN
  SELECT i.id, i.sequence INTO v_id, v_sequence
    FROM SCHEMA.instances i WHERE i.worker = p_worker AND i.name = p_name FOR UPDATE;
  v_there := v_sequence > 0 OR EXISTS (SELECT FROM SCHEMA.inbox b WHERE b.instance = v_id);
  DELETE FROM SCHEMA.journal j WHERE j.instance = v_id;
  DELETE FROM SCHEMA.snapshots s WHERE s.instance = v_id;
  DELETE FROM SCHEMA.blobs b WHERE b.instance = v_id;
  DELETE FROM SCHEMA.results r WHERE r.instance = v_id;
  DELETE FROM SCHEMA.inbox b WHERE b.instance = v_id;
  DELETE FROM SCHEMA.due d WHERE d.instance = v_id;
  DELETE FROM SCHEMA.instances i WHERE i.id = v_id;
  -- A bucket's row stays for `purge`, so that no entry written at this moment is left without one.
  DELETE FROM SCHEMA.entries e WHERE e.bucket = ANY (ARRAY(
    SELECT b.bucket FROM SCHEMA.buckets b WHERE b.owner = p_worker AND b.private = p_private));
  RETURN coalesce(v_there, false);
END $$;

CREATE FUNCTION SCHEMA.enqueue_VERSION(
  p_worker bytea, p_name bytea, p_key bytea, p_fingerprint bytea, p_payload bytea, p_due bigint, p_most bigint
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_held SCHEMA.instances;
  v_now bigint;
  v_fingerprint bytea;
BEGIN
  v_held := SCHEMA.anyone_VERSION(p_worker, p_name);
  v_now := SCHEMA.now_ms_VERSION();
  SELECT r.fingerprint INTO v_fingerprint
    FROM SCHEMA.results r WHERE r.instance = v_held.id AND r.key = p_key AND r.expires_ms > v_now;
  IF FOUND THEN RETURN CASE WHEN v_fingerprint = p_fingerprint THEN 'finished' ELSE 'conflict' END; END IF;
  SELECT b.fingerprint INTO v_fingerprint FROM SCHEMA.inbox b WHERE b.instance = v_held.id AND b.key = p_key;
  IF FOUND THEN RETURN CASE WHEN v_fingerprint = p_fingerprint THEN 'pending' ELSE 'conflict' END; END IF;
  IF (SELECT count(*) FROM (SELECT FROM SCHEMA.inbox b WHERE b.instance = v_held.id LIMIT p_most) t) >= p_most THEN
    RETURN 'full';
  END IF;
  INSERT INTO SCHEMA.inbox (instance, key, fingerprint, payload, due_ms)
    VALUES (v_held.id, p_key, p_fingerprint, p_payload, coalesce(p_due, v_now));
  PERFORM SCHEMA.refresh_due_VERSION(v_held.id);
  RETURN 'accepted';
END $$;

CREATE FUNCTION SCHEMA.cancel_VERSION(p_worker bytea, p_name bytea, p_key bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_held SCHEMA.instances;
  v_begun boolean;
BEGIN
  SELECT * INTO v_held FROM SCHEMA.instances i WHERE i.worker = p_worker AND i.name = p_name FOR UPDATE;
  IF NOT FOUND THEN RETURN 'unknown'; END IF;
  IF SCHEMA.finished_VERSION(v_held.id, p_key, SCHEMA.now_ms_VERSION()) THEN RETURN 'finished'; END IF;
  SELECT b.begun INTO v_begun FROM SCHEMA.inbox b WHERE b.instance = v_held.id AND b.key = p_key;
  IF NOT FOUND THEN RETURN 'unknown'; END IF;
  IF v_begun THEN RETURN 'begun'; END IF;
  DELETE FROM SCHEMA.inbox b WHERE b.instance = v_held.id AND b.key = p_key;
  PERFORM SCHEMA.refresh_due_VERSION(v_held.id);
  -- One that was never claimed is there for its inbox only.
  DELETE FROM SCHEMA.instances i WHERE i.id = v_held.id AND i.epoch = 0
    AND NOT EXISTS (SELECT FROM SCHEMA.inbox b WHERE b.instance = v_held.id);
  RETURN 'cancelled';
END $$;

-- o_owned false: fenced. o_next: when the first call is due, if none is now.
CREATE FUNCTION SCHEMA.take_VERSION(
  p_worker bytea, p_name bytea, p_epoch bigint, p_nonce bytea,
  OUT o_owned boolean, OUT o_next bigint, OUT key bytea, OUT fingerprint bytea, OUT payload bytea, OUT due_ms bigint,
  OUT attempts int, OUT begun boolean, OUT failure bytea
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_held SCHEMA.instances;
  v_first SCHEMA.inbox;
BEGIN
  v_held := SCHEMA.owned_VERSION(p_worker, p_name, p_epoch, p_nonce);
  o_owned := v_held.id IS NOT NULL;
  IF NOT o_owned THEN RETURN; END IF;
  SELECT * INTO v_first FROM SCHEMA.inbox b WHERE b.instance = v_held.id ORDER BY b.due_ms, b.number LIMIT 1;
  IF NOT FOUND THEN RETURN; END IF;
  IF v_first.due_ms > SCHEMA.now_ms_VERSION() THEN
    o_next := v_first.due_ms;
    RETURN;
  END IF;
  UPDATE SCHEMA.inbox b SET attempts = b.attempts + 1 WHERE b.number = v_first.number
    RETURNING b.key, b.fingerprint, b.payload, b.due_ms, b.attempts, b.begun, b.failure
    INTO key, fingerprint, payload, due_ms, attempts, begun, failure;
END $$;

CREATE FUNCTION SCHEMA.postpone_VERSION(
  p_worker bytea, p_name bytea, p_epoch bigint, p_nonce bytea, p_key bytea, p_delay bigint, p_failure bytea
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_held SCHEMA.instances;
BEGIN
  v_held := SCHEMA.owned_VERSION(p_worker, p_name, p_epoch, p_nonce);
  IF v_held.id IS NULL THEN RETURN 'FENCED'; END IF;
  UPDATE SCHEMA.inbox b SET due_ms = SCHEMA.now_ms_VERSION() + p_delay, failure = p_failure
    WHERE b.instance = v_held.id AND b.key = p_key;
  PERFORM SCHEMA.refresh_due_VERSION(v_held.id);
  RETURN 'OK';
END $$;

CREATE FUNCTION SCHEMA.foreign_VERSION(
  p_worker bytea, p_origin bytea, p_sequence bigint,
  p_known bytea[], p_owners bytea[], p_privates bytea[], p_names bytea[],
  p_kinds int[], p_places int[], p_buckets bytea[], p_keys bytea[], p_values bytea[], p_ttls bigint[],
  p_deltas text[], p_expected bytea[],
  OUT o_status text, OUT o_outcomes bytea
) LANGUAGE plpgsql AS $$
DECLARE
  v_mark SCHEMA.marks;
BEGIN
  LOOP
    SELECT * INTO v_mark FROM SCHEMA.marks m WHERE m.worker = p_worker AND m.origin = p_origin FOR UPDATE;
    EXIT WHEN FOUND;
    INSERT INTO SCHEMA.marks VALUES (p_worker, p_origin, 0, '') ON CONFLICT DO NOTHING;
  END LOOP;
  IF p_sequence <= v_mark.sequence THEN
    o_status := 'DUPLICATE';
    o_outcomes := CASE WHEN p_sequence = v_mark.sequence THEN v_mark.outcomes ELSE '' END;
    RETURN;
  END IF;
  o_outcomes := SCHEMA.apply_VERSION(
    SCHEMA.now_ms_VERSION(), p_known, p_owners, p_privates, p_names,
    p_kinds, p_places, p_buckets, p_keys, p_values, p_ttls, p_deltas, p_expected);
  UPDATE SCHEMA.marks m SET sequence = p_sequence, outcomes = o_outcomes
    WHERE m.worker = p_worker AND m.origin = p_origin;
  o_status := 'APPLIED';
END $$;

CREATE FUNCTION SCHEMA.announce_VERSION(p_worker bytea, p_host bytea, p_url bytea, p_ttl bigint)
RETURNS TABLE (o_host bytea, o_url bytea) LANGUAGE plpgsql AS $$
DECLARE
  v_now bigint := SCHEMA.now_ms_VERSION();
BEGIN
  INSERT INTO SCHEMA.hosts VALUES (p_worker, p_host, p_url, v_now + p_ttl)
    ON CONFLICT (worker, host) DO UPDATE SET url = excluded.url, expires_ms = excluded.expires_ms;
  DELETE FROM SCHEMA.hosts WHERE ctid = ANY (ARRAY(
    SELECT h.ctid FROM SCHEMA.hosts h WHERE h.worker = p_worker AND h.expires_ms <= v_now FOR UPDATE SKIP LOCKED));
  RETURN QUERY SELECT h.host, h.url FROM SCHEMA.hosts h WHERE h.worker = p_worker AND h.expires_ms > v_now;
END $$;

CREATE FUNCTION SCHEMA.keep_component_VERSION(p_worker bytea, p_digest bytea, p_data bytea)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO SCHEMA.components AS c VALUES (p_worker, p_digest, p_data)
    ON CONFLICT (worker, digest) DO UPDATE SET data = excluded.data WHERE c.data <> excluded.data;
  DELETE FROM SCHEMA.components c WHERE c.worker = p_worker AND c.digest <> p_digest AND NOT EXISTS (
    SELECT FROM SCHEMA.instances i WHERE i.worker = p_worker AND i.component = c.digest);
END $$;

-- Deletes some rows of a Worker, up to p_limit of each table; how many. 0: nothing is left.
CREATE FUNCTION SCHEMA.purge_VERSION(p_worker bytea, p_limit int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  v_instances bigint[];
  v_buckets bytea[];
  v_table text;
  v_count bigint;
  v_parts bigint := 0;
  v_total bigint := 0;
BEGIN
  v_instances := ARRAY(SELECT i.id FROM SCHEMA.instances i WHERE i.worker = p_worker LIMIT p_limit);
  FOREACH v_table IN ARRAY ARRAY['journal', 'snapshots', 'blobs', 'results', 'inbox', 'due'] LOOP
    EXECUTE format('DELETE FROM SCHEMA.%I WHERE ctid = ANY (ARRAY('
      'SELECT t.ctid FROM SCHEMA.%I t WHERE t.instance = ANY ($1) LIMIT $2))', v_table, v_table)
      USING v_instances, p_limit;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    v_parts := v_parts + v_count;
  END LOOP;
  v_total := v_parts;
  IF v_parts = 0 THEN
    DELETE FROM SCHEMA.instances i WHERE i.id = ANY (v_instances);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    v_total := v_total + v_count;
  END IF;
  v_buckets := ARRAY(SELECT b.bucket FROM SCHEMA.buckets b WHERE b.owner = p_worker LIMIT p_limit);
  DELETE FROM SCHEMA.entries WHERE ctid = ANY (ARRAY(
    SELECT e.ctid FROM SCHEMA.entries e WHERE e.bucket = ANY (v_buckets) LIMIT p_limit));
  GET DIAGNOSTICS v_count = ROW_COUNT;
  v_total := v_total + v_count;
  IF v_count = 0 THEN
    DELETE FROM SCHEMA.buckets b WHERE b.bucket = ANY (v_buckets);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    v_total := v_total + v_count;
  END IF;
  FOREACH v_table IN ARRAY ARRAY['marks', 'hosts', 'components', 'workers'] LOOP
    EXECUTE format('DELETE FROM SCHEMA.%I WHERE ctid = ANY (ARRAY('
      'SELECT t.ctid FROM SCHEMA.%I t WHERE t.worker = $1 LIMIT $2))', v_table, v_table)
      USING p_worker, p_limit;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    v_total := v_total + v_count;
  END LOOP;
  RETURN v_total;
END $$;
