-- The tables, version 1. SCHEMA is replaced by the schema's quoted name. Everything textual is bytea of UTF-8, so that
-- any character is safe and order is byte order. There are no foreign keys: the functions hold the tables together,
-- under the lock of the instance's row. Columns that commits change are not indexed, so that the updates of an
-- instance's row stay within its page (HOT); the fill factor leaves room for them.

CREATE TABLE SCHEMA.meta (
  one boolean PRIMARY KEY DEFAULT true CHECK (one), version int NOT NULL);

-- A Worker's contents have an identity as long as they are.
CREATE TABLE SCHEMA.workers (
  worker bytea PRIMARY KEY, identity bytea NOT NULL);

-- epoch 0: never claimed, it is there for its inbox only. base: the sequence when the present token was given.
CREATE TABLE SCHEMA.instances (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  worker bytea NOT NULL, name bytea NOT NULL,
  epoch bigint NOT NULL DEFAULT 0, nonce bytea NOT NULL DEFAULT '', host bytea NOT NULL DEFAULT '',
  previous bytea, life bytea NOT NULL DEFAULT '',
  base bigint NOT NULL DEFAULT 0, sequence bigint NOT NULL DEFAULT 0, open boolean NOT NULL DEFAULT false,
  component bytea NOT NULL DEFAULT '', halt bytea, unapplied bigint[] NOT NULL DEFAULT '{}',
  UNIQUE (worker, name)
) WITH (fillfactor = 50);
CREATE INDEX instances_by_component ON SCHEMA.instances (worker, component);

CREATE TABLE SCHEMA.journal (
  instance bigint, sequence bigint, entry bytea NOT NULL, outcomes bytea NOT NULL,
  PRIMARY KEY (instance, sequence));

CREATE TABLE SCHEMA.snapshots (
  instance bigint, sequence bigint, data bytea NOT NULL,
  PRIMARY KEY (instance, sequence));

-- last: the highest sequence whose commit named it.
CREATE TABLE SCHEMA.blobs (
  instance bigint, digest bytea, last bigint NOT NULL, data bytea NOT NULL,
  PRIMARY KEY (instance, digest)
) WITH (fillfactor = 80);

CREATE TABLE SCHEMA.results (
  instance bigint, key bytea, fingerprint bytea NOT NULL, body bytea NOT NULL,
  sequence bigint NOT NULL, expires_ms bigint NOT NULL,
  PRIMARY KEY (instance, key));
CREATE INDEX results_by_age ON SCHEMA.results (instance, sequence);

CREATE TABLE SCHEMA.inbox (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  instance bigint NOT NULL, key bytea NOT NULL, fingerprint bytea NOT NULL, payload bytea NOT NULL,
  due_ms bigint NOT NULL, attempts int NOT NULL DEFAULT 0, begun boolean NOT NULL DEFAULT false,
  failure bytea NOT NULL DEFAULT '',
  UNIQUE (instance, key)
) WITH (fillfactor = 80);
CREATE INDEX inbox_in_order ON SCHEMA.inbox (instance, due_ms, number);

-- One row for each instance that has something to do; due_ms 0 where it has since its last commit.
CREATE TABLE SCHEMA.due (
  instance bigint PRIMARY KEY, worker bytea NOT NULL, name bytea NOT NULL, due_ms bigint NOT NULL);
CREATE INDEX due_in_order ON SCHEMA.due (worker, due_ms, name);

-- bucket: a hash of the other three. private: 'i' and the instance's name, or nothing.
CREATE TABLE SCHEMA.buckets (
  bucket bytea PRIMARY KEY, owner bytea NOT NULL, private bytea NOT NULL, name bytea NOT NULL);
CREATE INDEX buckets_by_owner ON SCHEMA.buckets (owner, private);

CREATE TABLE SCHEMA.entries (
  bucket bytea, key bytea, value bytea NOT NULL, expires_ms bigint,
  PRIMARY KEY (bucket, key)
) WITH (fillfactor = 80);
CREATE INDEX entries_by_expiry ON SCHEMA.entries (expires_ms) WHERE expires_ms IS NOT NULL;

CREATE TABLE SCHEMA.marks (
  worker bytea, origin bytea, sequence bigint NOT NULL, outcomes bytea NOT NULL,
  PRIMARY KEY (worker, origin)
) WITH (fillfactor = 50);

CREATE TABLE SCHEMA.hosts (
  worker bytea, host bytea, url bytea NOT NULL, expires_ms bigint NOT NULL,
  PRIMARY KEY (worker, host)
) WITH (fillfactor = 50);

CREATE TABLE SCHEMA.components (
  worker bytea, digest bytea, data bytea NOT NULL,
  PRIMARY KEY (worker, digest));

INSERT INTO SCHEMA.meta (version) VALUES (1);
-- These are compressed already.
ALTER TABLE SCHEMA.snapshots ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE SCHEMA.blobs ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE SCHEMA.components ALTER COLUMN data SET STORAGE EXTERNAL;
