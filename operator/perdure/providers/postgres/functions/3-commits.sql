-- What the owner of an instance does.

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
  p_deltas text[], p_expected bytea[], p_bound bigint,
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
    IF p_sequence <= v_held.base THEN o_status := 'GAP'; RETURN; END IF;
    -- Nobody who has kept a snapshot of it asks for the outcomes.
    o_outcomes := coalesce(
      (SELECT j.outcomes FROM SCHEMA.journal j WHERE j.instance = v_held.id AND j.sequence = p_sequence), '');
    o_status := 'DUPLICATE';
    RETURN;
  END IF;
  v_now := SCHEMA.now_ms_VERSION();
  IF p_key IS NOT NULL AND SCHEMA.finished_VERSION(v_held.id, p_key, v_now)
    OR p_reserves IS NOT NULL AND SCHEMA.finished_VERSION(v_held.id, p_reserves, v_now)
  THEN
    o_status := 'KEY_USED';
    RETURN;
  END IF;
  -- Another call of the result's key must not be taken out of the inbox.
  IF p_key IS NOT NULL AND p_pending IS NULL AND EXISTS (
    SELECT FROM SCHEMA.inbox b WHERE b.instance = v_held.id AND b.key = p_key AND b.fingerprint <> p_fingerprint)
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
      p_kinds, p_places, p_buckets, p_keys, p_values, p_ttls, p_deltas, p_expected, p_bound,
      SCHEMA.writer_VERSION(p_worker, p_name));
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
  IF p_sequence > v_held.sequence OR p_sequence >= ANY (v_held.unapplied) THEN RETURN 'REFUSED'; END IF;
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
