-- Deleting an instance, and what belongs to the Worker as a whole.

-- p_epoch: NULL, or it is deleted under this token only, and with the effects. GONE, NONE or FENCED.
CREATE FUNCTION SCHEMA.delete_VERSION(
  p_worker bytea, p_name bytea, p_private bytea, p_epoch bigint, p_nonce bytea,
  p_known bytea[], p_owners bytea[], p_privates bytea[], p_names bytea[],
  p_kinds int[], p_places int[], p_buckets bytea[], p_keys bytea[], p_values bytea[], p_ttls bigint[],
  p_deltas text[], p_expected bytea[], p_bound bigint
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  v_id bigint;
  v_held SCHEMA.instances;
  v_there boolean;
BEGIN
  SELECT * INTO v_held FROM SCHEMA.instances i WHERE i.worker = p_worker AND i.name = p_name FOR UPDATE;
  v_id := v_held.id;
  IF p_epoch IS NOT NULL THEN
    IF v_id IS NULL OR v_held.epoch = 0 THEN RETURN 'NONE'; END IF;
    IF v_held.epoch <> p_epoch OR v_held.nonce <> p_nonce THEN RETURN 'FENCED'; END IF;
    PERFORM SCHEMA.apply_VERSION(
      SCHEMA.now_ms_VERSION(), p_known, p_owners, p_privates, p_names,
      p_kinds, p_places, p_buckets, p_keys, p_values, p_ttls, p_deltas, p_expected, p_bound, '');
  END IF;
  v_there := v_held.sequence > 0 OR v_held.halt IS NOT NULL OR EXISTS (SELECT FROM SCHEMA.inbox b WHERE b.instance = v_id);
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
  RETURN CASE WHEN v_there THEN 'GONE' ELSE 'NONE' END;
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

CREATE FUNCTION SCHEMA.keep_component_VERSION(p_worker bytea, p_digest bytea, p_data bytea, p_spared bytea[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO SCHEMA.components AS c VALUES (p_worker, p_digest, p_data)
    ON CONFLICT (worker, digest) DO UPDATE SET data = excluded.data WHERE c.data <> excluded.data;
  DELETE FROM SCHEMA.components c WHERE c.worker = p_worker AND c.digest <> ALL (p_digest || p_spared) AND NOT EXISTS (
    SELECT FROM SCHEMA.instances i WHERE i.worker = p_worker AND i.component = c.digest);
END $$;

-- Deletes some rows of a Worker, up to p_limit of each table; how many. 0: nothing is left.
CREATE FUNCTION SCHEMA.purge_VERSION(p_worker bytea, p_limit int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  v_instances bigint[];
  v_buckets bytea[];
  v_table text;
  v_watched bytea;
  v_count bigint;
  v_parts bigint := 0;
  v_total bigint := 0;
BEGIN
  FOR v_watched IN SELECT w.bucket FROM SCHEMA.watches w WHERE w.worker = p_worker LOOP
    PERFORM SCHEMA.unwatch_VERSION(p_worker, v_watched, 0);
    v_total := v_total + 1;
  END LOOP;
  v_instances := ARRAY(SELECT i.id FROM SCHEMA.instances i WHERE i.worker = p_worker LIMIT p_limit);
  FOREACH v_table IN ARRAY ARRAY['journal', 'snapshots', 'blobs', 'results', 'inbox', 'due'] LOOP
    EXECUTE format('DELETE FROM SCHEMA.%I WHERE ctid = ANY (ARRAY('
      'SELECT t.ctid FROM SCHEMA.%I t WHERE t.instance = ANY ($1) LIMIT $2))', v_table, v_table)
      USING v_instances, p_limit;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    v_parts := v_parts + v_count;
  END LOOP;
  v_total := v_total + v_parts;
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
