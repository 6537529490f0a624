-- The lock of an instance, its inbox, and who has something to do.

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

CREATE FUNCTION SCHEMA.finished_VERSION(p_instance bigint, p_key bytea, p_now bigint)
RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN EXISTS (
    SELECT FROM SCHEMA.results r WHERE r.instance = p_instance AND r.key = p_key AND r.expires_ms > p_now);
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
