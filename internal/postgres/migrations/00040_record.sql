-- +goose Up
-- The permanent record, chained. Decisions are written by sidecars in chains of
-- their own; what Postgres writes itself, changes and the decisions that go
-- with them, is chained by the ledger. Each link is
--   sha256(link before, sequence number as 8 bytes, kind, content)
-- so that an entry that was altered, removed or moved does not fit any more.

-- +goose StatementBegin
-- Decisions of the first form are kept as they are, if there are any.
DO $$ BEGIN
  IF EXISTS (SELECT FROM decisions) THEN
    ALTER TABLE decisions RENAME TO decisions_before_chains;
    ALTER TABLE decisions_before_chains RENAME CONSTRAINT decisions_pkey TO decisions_before_chains_pkey;
    REVOKE ALL ON decisions_before_chains FROM chartgate_sidecar;
    REVOKE INSERT ON decisions_before_chains FROM chartgate_control;
    DROP INDEX decisions_at, decisions_client, decisions_subject;
  ELSE
    DROP TABLE decisions;
  END IF;
END $$;
-- +goose StatementEnd

-- The body is the decision with the facts it rests on, in the binary form of
-- internal/record; the other columns repeat parts of it, to be searched by.
CREATE TABLE decisions (
  chain         uuid,                       -- NULL: written by Postgres' own side and chained by the ledger
  seq           bigint,
  hash          bytea,                      -- the link
  id            uuid NOT NULL,
  at            timestamptz NOT NULL,
  practice      text COLLATE "C",
  subject_type  text COLLATE "C" NOT NULL,
  subject_id    text COLLATE "C" NOT NULL,
  action        text COLLATE "C" NOT NULL,
  resource_type text COLLATE "C" NOT NULL,
  resource_id   text COLLATE "C" NOT NULL,
  client        text COLLATE "C",
  allow         boolean NOT NULL,
  code          text COLLATE "C" NOT NULL,  -- the exact one, also where the answer said no_basis
  bases         text[] NOT NULL,
  release       text COLLATE "C" NOT NULL,  -- the policy revision that decided
  body          bytea NOT NULL,
  CHECK (num_nulls(chain, seq, hash) IN (0, 3))
) PARTITION BY RANGE (at);
CREATE TABLE decisions_default PARTITION OF decisions DEFAULT;
CREATE INDEX decisions_time ON decisions (at);
CREATE INDEX decisions_of_practice ON decisions (practice, at);
CREATE INDEX decisions_of_client ON decisions (client, at) WHERE client IS NOT NULL;
CREATE INDEX decisions_of_subject ON decisions (subject_id, at);
CREATE INDEX decisions_in_chain ON decisions (chain, seq);
-- Few values, many rows: these say which stretches of the table to skip.
CREATE INDEX decisions_kinds ON decisions USING brin (release, action text_bloom_ops, code text_bloom_ops) WITH (pages_per_range = 32);

-- Settings that decisions rest on, under the first half of their SHA-256.
CREATE TABLE record_settings (
  digest bytea PRIMARY KEY,
  text   bytea NOT NULL,
  CHECK (digest = substring(sha256(text) FOR 16))
);

-- A chain is what one process of a sidecar wrote, or the ledger. Its head is
-- its last link; the chain of a sidecar's next start goes on from it.
CREATE TABLE chains (
  number      bigint GENERATED ALWAYS AS IDENTITY,
  chain       uuid PRIMARY KEY,
  spool       uuid,                         -- the folder that it came from; NULL: the ledger
  last        bigint NOT NULL DEFAULT 0,    -- its last sequence number
  head        bytea NOT NULL CHECK (octet_length(head) = 32),
  parent      uuid REFERENCES chains,
  parent_last bigint,
  parent_head bytea,
  opened_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  closed      boolean NOT NULL DEFAULT false,
  CHECK (num_nulls(parent, parent_last, parent_head) IN (0, 3))
);
CREATE UNIQUE INDEX chains_of_spool ON chains (spool, number);

-- Heads as they were: a chain that was written anew does not pass through them.
CREATE TABLE checkpoints (
  chain uuid NOT NULL,
  seq   bigint NOT NULL,
  head  bytea NOT NULL,
  at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (chain, seq)
);
CREATE INDEX checkpoints_time ON checkpoints (chain, at);

-- The ledger chains changes, and decisions that control made, in the order in
-- which their transactions committed.
CREATE TABLE ledger (
  seq        bigint PRIMARY KEY,
  change     bigint UNIQUE,
  decision   uuid,
  decided_at timestamptz,
  hash       bytea NOT NULL,
  CHECK ((change IS NULL) <> (decision IS NULL) AND (decision IS NULL) = (decided_at IS NULL))
);
CREATE INDEX ledger_decision ON ledger (decision, decided_at) WHERE decision IS NOT NULL;
INSERT INTO chains (chain, head) SELECT id, sha256('chartgate record ledger 1'::bytea || uuid_send(id)) FROM (SELECT gen_random_uuid() AS id) new;

-- What was purged, and the link that the chain goes on from.
CREATE TABLE purged (
  chain  uuid NOT NULL,
  first  bigint NOT NULL,
  last   bigint NOT NULL,
  hash   bytea NOT NULL,
  month  date NOT NULL,
  PRIMARY KEY (chain, first)
);

-- What may not be purged. NULL means any: a hold without a client is on the
-- whole practice.
CREATE TABLE legal_holds (
  id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  practice    text COLLATE "C" NOT NULL,
  client      text COLLATE "C",
  reason      text NOT NULL CHECK (reason <> ''),
  placed_by   text COLLATE "C" NOT NULL,
  placed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  released_by text COLLATE "C",
  released_at timestamptz
);

-- +goose StatementBegin
-- record_part is how the content of a change begins each of its columns: a
-- length of four bytes, -1 for NULL, and the text.
CREATE FUNCTION record_part(t text) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN t IS NULL THEN int4send(-1) ELSE int4send(octet_length(convert_to(t, 'UTF8'))) || convert_to(t, 'UTF8') END
$$;

CREATE FUNCTION record_change_content(c changes) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = public, pg_temp AS $$
  SELECT record_part(c.id::text) || record_part((extract(epoch FROM c.at) * 1000000)::bigint::text) || record_part(c.xid::text)
    || record_part(c.practice) || record_part(c.actor) || record_part(c.action) || record_part(c.target) || record_part(c.client)
    || record_part(c.before::text) || record_part(c.after::text) || record_part(c.reason) || record_part(c.correlation) || record_part(c.decision::text)
$$;

-- ledger_written runs when a transaction commits: the ledger's row is locked
-- from then until it has, so that the order of the chain is that of the commits.
CREATE FUNCTION ledger_written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE l chains; link bytea;
BEGIN
  SELECT * INTO STRICT l FROM chains WHERE spool IS NULL FOR UPDATE;
  l.last := l.last + 1;
  IF TG_TABLE_NAME = 'changes' THEN
    link := sha256(l.head || int8send(l.last) || 'c'::bytea || record_change_content(NEW));
    INSERT INTO ledger (seq, change, hash) VALUES (l.last, NEW.id, link);
  ELSE
    link := sha256(l.head || int8send(l.last) || 'd'::bytea || NEW.body);
    INSERT INTO ledger (seq, decision, decided_at, hash) VALUES (l.last, NEW.id, NEW.at, link);
  END IF;
  UPDATE chains SET last = l.last, head = link WHERE chain = l.chain;
  PERFORM record_checkpoint(l.chain, l.last, link);
  RETURN NULL;
END $$;

-- record_checkpoint keeps a head, at most one a minute.
CREATE FUNCTION record_checkpoint(of uuid, up_to bigint, its_head bytea) RETURNS void LANGUAGE sql SET search_path = public, pg_temp AS $$
  INSERT INTO checkpoints (chain, seq, head) SELECT of, up_to, its_head
    WHERE NOT EXISTS (SELECT FROM checkpoints WHERE chain = of AND at > clock_timestamp() - interval '1 minute')
$$;

-- record_open returns where a chain stands, and opens it if it is new: then it
-- goes on from the chain of the same spool before it, which is closed.
CREATE FUNCTION record_open(of uuid, from_spool uuid, OUT last bigint, OUT head bytea, OUT closed boolean) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE p chains;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('chartgate spool ' || from_spool, 0));
  SELECT c.last, c.head, c.closed INTO last, head, closed FROM chains c WHERE c.chain = of AND c.spool = from_spool;
  IF FOUND THEN RETURN; END IF;
  SELECT * INTO p FROM chains c WHERE c.spool = from_spool ORDER BY number DESC LIMIT 1 FOR UPDATE;
  last := 0;
  closed := false;
  head := sha256('chartgate record chain 1'::bytea || uuid_send(of) || uuid_send(coalesce(p.chain, '00000000-0000-0000-0000-000000000000'))
    || int8send(coalesce(p.last, 0)) || coalesce(p.head, decode(repeat('00', 32), 'hex')));
  UPDATE chains c SET closed = true WHERE c.chain = p.chain;
  INSERT INTO chains (chain, spool, head, parent, parent_last, parent_head) VALUES (of, from_spool, head, p.chain, p.last, p.head);
  INSERT INTO changes (actor, action, after) VALUES ('chartgate', 'record.chain',
    jsonb_build_object('chain', of, 'spool', from_spool, 'parent', p.chain, 'parent_last', p.last, 'parent_head', encode(p.head, 'hex')));
END $$;

-- record_ship moves the head of a chain in the transaction that brings the
-- entries: whoever expects another end has brought them twice, and fails.
CREATE FUNCTION record_ship(of uuid, expected bigint, new_last bigint, new_head bytea) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  UPDATE chains SET last = new_last, head = new_head WHERE chain = of AND spool IS NOT NULL AND last = expected AND new_last > expected AND NOT closed;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'chain % does not end at %, or is closed', of, expected USING ERRCODE = 'CG001';
  END IF;
  PERFORM record_checkpoint(of, new_last, new_head);
END $$;

-- record_gap says that entries of a chain are lost, up to and with up_to. It is
-- a change record, so the ledger chains it and verify finds it for ever.
CREATE FUNCTION record_gap(of uuid, expected bigint, up_to bigint, OUT head bytea) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  UPDATE chains c SET last = up_to, head = sha256(c.head || int8send(up_to) || 'g'::bytea || int8send(expected + 1))
    WHERE c.chain = of AND c.spool IS NOT NULL AND c.last = expected AND up_to > expected AND NOT c.closed RETURNING c.head INTO head;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'chain % does not end at %, or is closed', of, expected USING ERRCODE = 'CG001';
  END IF;
  INSERT INTO changes (actor, action, after) VALUES ('chartgate', 'record.gap', jsonb_build_object('chain', of, 'first', expected + 1, 'last', up_to));
END $$;

-- record_partitions makes a partition for each month from now until ahead
-- months later, and for each that the default partition holds rows of, which
-- move there. It returns how many it made.
CREATE FUNCTION record_partitions(ahead int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
DECLARE m timestamptz; name text; made int := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('chartgate record partitions', 0));
  FOR m IN
    SELECT generate_series(date_trunc('month', now()), date_trunc('month', now()) + make_interval(months => least(ahead, 120)), interval '1 month')
    UNION SELECT DISTINCT date_trunc('month', at) FROM decisions_default WHERE at BETWEEN now() - interval '10 years' AND now() + interval '1 year'
  LOOP
    name := to_char(m, '"decisions_"YYYY_MM');
    CONTINUE WHEN to_regclass(name) IS NOT NULL;
    LOCK TABLE decisions_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('CREATE TABLE %I (LIKE decisions INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
    EXECUTE format('WITH moved AS (DELETE FROM decisions_default WHERE at >= %L AND at < %L RETURNING *) INSERT INTO %I SELECT * FROM moved',
      m, m + interval '1 month', name);
    EXECUTE format('ALTER TABLE decisions ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, m, m + interval '1 month');
    made := made + 1;
  END LOOP;
  RETURN made;
END $$;

-- record_purge removes the decisions and changes of one month, and keeps their
-- links, so that the chains can still be followed past them. It refuses a month
-- that is not six years past (DOMAIN rule 125), whoever asks, and one with
-- entries under legal hold. What the chains themselves rest on is never purged:
-- changes record.chain, record.gap and record.purge, which name nobody.
CREATE FUNCTION record_purge(month_of timestamptz, OUT decisions bigint, OUT changes bigint) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
#variable_conflict use_column
DECLARE m timestamptz := date_trunc('month', month_of); e timestamptz := date_trunc('month', month_of) + interval '1 month';
  name text := to_char(month_of, '"decisions_"YYYY_MM'); held uuid; ledger_chain uuid; one timestamptz;
BEGIN
  IF e > now() - interval '6 years' THEN
    RAISE EXCEPTION 'entries of % are younger than six years', to_char(m, 'YYYY-MM') USING ERRCODE = 'CG002';
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('chartgate record partitions', 0));
  SELECT h.id INTO held FROM legal_holds h WHERE h.released_at IS NULL AND (
      EXISTS (SELECT FROM public.decisions d WHERE d.at >= m AND d.at < e AND d.practice = h.practice AND (h.client IS NULL OR d.client = h.client))
      OR EXISTS (SELECT FROM public.changes c WHERE c.at >= m AND c.at < e AND c.practice = h.practice AND (h.client IS NULL OR c.client = h.client)))
    LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'entries of % are under legal hold %', to_char(m, 'YYYY-MM'), held USING ERRCODE = 'CG003';
  END IF;
  SELECT chain INTO STRICT ledger_chain FROM chains WHERE spool IS NULL FOR UPDATE;

  INSERT INTO purged (chain, first, last, hash, month)
    SELECT chain, min(seq), max(seq), (array_agg(hash ORDER BY seq DESC))[1], m FROM (
      SELECT chain, seq, hash, seq - row_number() OVER (PARTITION BY chain ORDER BY seq) AS island
        FROM public.decisions WHERE at >= m AND at < e AND chain IS NOT NULL) s GROUP BY chain, island;
  WITH gone AS (
    DELETE FROM ledger l WHERE EXISTS (SELECT FROM public.changes c WHERE c.id = l.change AND c.at >= m AND c.at < e AND NOT record_lasts(c.action))
      OR (l.decided_at >= m AND l.decided_at < e) RETURNING seq, hash)
  INSERT INTO purged (chain, first, last, hash, month)
    SELECT ledger_chain, min(seq), max(seq), (array_agg(hash ORDER BY seq DESC))[1], m
      FROM (SELECT seq, hash, seq - row_number() OVER (ORDER BY seq) AS island FROM gone) s GROUP BY island;

  DELETE FROM public.changes WHERE at >= m AND at < e AND NOT record_lasts(action);
  GET DIAGNOSTICS changes = ROW_COUNT;
  SELECT count(*) INTO decisions FROM public.decisions WHERE at >= m AND at < e;
  IF to_regclass(name) IS NOT NULL THEN EXECUTE format('DROP TABLE %I', name); END IF;
  DELETE FROM public.decisions WHERE at >= m AND at < e; -- what lies in the default partition
  INSERT INTO public.changes (actor, action, after) SELECT 'chartgate', 'record.purge', jsonb_build_object('month', to_char(m, 'YYYY-MM'),
    'decisions', decisions, 'changes', changes, 'purged', record_purged_digest(m::date));
END $$;

CREATE FUNCTION record_lasts(action text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT action IN ('record.chain', 'record.gap', 'record.purge')
$$;

-- record_purged_digest is what a purge says of the links it left: the change
-- record of the purge holds it, and the ledger chains that.
CREATE FUNCTION record_purged_digest(of date) RETURNS text LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
  SELECT encode(sha256(coalesce(string_agg(uuid_send(chain) || int8send(first) || int8send(last) || hash, ''::bytea ORDER BY chain, first), ''::bytea)), 'hex')
    FROM purged WHERE month = of
$$;
-- +goose StatementEnd

CREATE CONSTRAINT TRIGGER chained AFTER INSERT ON changes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_written();
ALTER TABLE changes ENABLE ALWAYS TRIGGER chained;
CREATE CONSTRAINT TRIGGER chained AFTER INSERT ON decisions DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.chain IS NULL) EXECUTE FUNCTION ledger_written();
CREATE INDEX changes_time ON changes (at, id);
CREATE INDEX changes_actor ON changes (actor, at, id);

-- Changes of before are chained now.
-- +goose StatementBegin
DO $$
DECLARE c changes; l chains; link bytea;
BEGIN
  SELECT * INTO STRICT l FROM chains WHERE spool IS NULL;
  FOR c IN SELECT * FROM changes ORDER BY id LOOP
    l.last := l.last + 1;
    l.head := sha256(l.head || int8send(l.last) || 'c'::bytea || record_change_content(c));
    INSERT INTO ledger (seq, change, hash) VALUES (l.last, c.id, l.head);
  END LOOP;
  UPDATE chains SET last = l.last, head = l.head WHERE chain = l.chain;
END $$;
-- +goose StatementEnd

SELECT record_partitions(3);

REVOKE EXECUTE ON FUNCTION record_open, record_ship, record_gap, record_partitions, record_purge, record_checkpoint, ledger_written FROM PUBLIC;
GRANT EXECUTE ON FUNCTION record_open, record_ship, record_gap TO chartgate_sidecar, chartgate_control;
GRANT EXECUTE ON FUNCTION record_partitions, record_purge TO chartgate_control;
GRANT INSERT ON decisions, record_settings TO chartgate_sidecar, chartgate_control;
GRANT SELECT ON decisions, record_settings, chains, checkpoints, ledger, purged, legal_holds TO chartgate_control;
GRANT INSERT ON legal_holds TO chartgate_control;
GRANT UPDATE (released_by, released_at) ON legal_holds TO chartgate_control;

-- +goose Down
DROP TRIGGER chained ON changes;
DROP INDEX changes_time, changes_actor;
DROP TABLE decisions, record_settings, checkpoints, ledger, purged, legal_holds;
DROP FUNCTION record_open, record_ship, record_gap, record_partitions, record_purge, record_lasts, record_purged_digest, record_checkpoint, ledger_written, record_change_content, record_part;
DROP TABLE chains;
-- +goose StatementBegin
DO $$ BEGIN
  IF to_regclass('decisions_before_chains') IS NOT NULL THEN
    ALTER TABLE decisions_before_chains RENAME TO decisions;
    ALTER TABLE decisions RENAME CONSTRAINT decisions_before_chains_pkey TO decisions_pkey;
  ELSE
    CREATE TABLE decisions (
      id            uuid PRIMARY KEY,
      at            timestamptz NOT NULL,
      practice      text COLLATE "C",
      subject_type  text COLLATE "C" NOT NULL,
      subject_id    text COLLATE "C" NOT NULL,
      action        text COLLATE "C" NOT NULL,
      resource_type text COLLATE "C" NOT NULL,
      resource_id   text COLLATE "C" NOT NULL,
      client        text COLLATE "C",
      allow         boolean NOT NULL,
      code          text COLLATE "C" NOT NULL,
      bases         text[] NOT NULL,
      release       text NOT NULL,
      revision      text NOT NULL,
      request_id    text,
      facts         jsonb,
      digest        bytea,
      CHECK ((facts IS NULL) <> (digest IS NULL) OR code = 'unavailable')
    );
  END IF;
END $$;
-- +goose StatementEnd
CREATE INDEX decisions_at ON decisions (at, id);
CREATE INDEX decisions_client ON decisions (client, at);
CREATE INDEX decisions_subject ON decisions (subject_id, at);
GRANT INSERT ON decisions TO chartgate_sidecar;
GRANT SELECT, INSERT ON decisions TO chartgate_control;
