-- The login role of the workers, countersign_worker: it reads and moves rows, and cannot change a table or rewrite evidence. And
-- countersign_shop, which no one logs in as: GRANT countersign_shop TO the role of the shop's checkout.
--
-- Run by the owner of the tables, who may create roles (CREATEROLE; no superuser is needed), after every `worker migrate`:
--   COUNTERSIGN_WORKER_PASSWORD=... psql -v ON_ERROR_STOP=1 -f roles.sql
-- with PGHOST, PGDATABASE, PGUSER and PGPASSWORD set, because every user of the machine can read a command line. It sets the
-- role's password each time; apart from that, running it again changes nothing.
--
-- Without the lines that begin with a backslash, and with the password in place of :'worker_password', it is plain SQL: the
-- tests run it so.
\if :{?worker_password}
\else
\set worker_password `printf %s "$COUNTERSIGN_WORKER_PASSWORD"`
\endif

BEGIN;

-- By a setting, because nothing can be put into the body of DO. Gone with the transaction.
SET LOCAL countersign.worker_password = :'worker_password';

DO $$
DECLARE
    password text := current_setting('countersign.worker_password');
    power    text;
    sequence regclass;
BEGIN
    IF password = '' THEN
        RAISE EXCEPTION 'the password of countersign_worker is empty'
            USING HINT = 'Put it into the environment variable COUNTERSIGN_WORKER_PASSWORD.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'countersign_worker') THEN
        CREATE ROLE countersign_worker;
    END IF;
    EXECUTE format('ALTER ROLE countersign_worker LOGIN PASSWORD %L', password);
    -- Only a superuser may take these away, so they are refused instead. A role is made without them.
    SELECT concat_ws(', ', CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
                     CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolreplication THEN 'REPLICATION' END,
                     CASE WHEN rolbypassrls THEN 'BYPASSRLS' END)
    INTO power FROM pg_roles WHERE rolname = 'countersign_worker';
    IF power <> '' THEN
        RAISE EXCEPTION 'countersign_worker has more power than a worker needs: %', power
            USING HINT = 'As a superuser, take it away with ALTER ROLE countersign_worker NO..., then run this again.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'countersign_shop') THEN
        CREATE ROLE countersign_shop NOLOGIN;
    END IF;
    -- Earlier versions granted all of them; identity columns need none.
    FOR sequence IN
        SELECT seqrelid FROM pg_sequence JOIN pg_class ON oid = seqrelid WHERE relnamespace = 'countersign'::regnamespace
        AND pg_has_role(relowner, 'USAGE') AND has_sequence_privilege('countersign_worker', seqrelid, 'USAGE')
    LOOP
        EXECUTE format('REVOKE ALL ON SEQUENCE %s FROM countersign_worker', sequence);
    END LOOP;
END;
$$;

GRANT USAGE ON SCHEMA countersign TO countersign_worker, countersign_shop;

-- Whatever earlier versions granted goes first. With a table's rights go those on its columns.
REVOKE ALL ON ALL TABLES IN SCHEMA countersign FROM countersign_worker, countersign_shop;

-- The shop's contract: it writes its orders, and its refunds before it asks WeChat Pay for them. Triggers protect what was paid.
GRANT SELECT, INSERT, UPDATE, DELETE ON countersign.orders, countersign.refunds TO countersign_shop;

-- Of an order, a worker may change only what a callback can move: never its number, amount or currency.
GRANT SELECT ON countersign.orders TO countersign_worker;
GRANT UPDATE (state, transaction_id, paid_at, refunded_minor, version, updated_at) ON countersign.orders TO countersign_worker;

-- What was reported about a payment stays what it was; what became of it may change.
GRANT SELECT, INSERT, UPDATE (disposition, returned_minor) ON countersign.payments TO countersign_worker;

-- A refund's order, number and amount stay what they were when its row was written.
GRANT SELECT, INSERT ON countersign.refunds TO countersign_worker;
GRANT UPDATE (refund_id, transaction_id, state, succeeded_at, accepted_by, accepted_at, reported_at, updated_at) ON countersign.refunds TO countersign_worker;

-- Evidence: what came, and when, is written once. What it was decided to mean may change.
GRANT SELECT, INSERT ON countersign.notifications TO countersign_worker;
GRANT UPDATE (kind, mch_id, sub_mch_id, out_trade_no, transaction_id, out_refund_no, key_fingerprint, outcome, reason,
              seen_version, seen_state, seen_amount_minor, seen_currency, event_id, event_type, event_version, earlier, handled_at)
    ON countersign.notifications TO countersign_worker;

-- Which callback a row is about stays.
GRANT SELECT, INSERT ON countersign.quarantine TO countersign_worker;
GRANT UPDATE (mch_id, sub_mch_id, out_trade_no, transaction_id, out_refund_no, amount_minor, currency, reason, detail, state,
              waits_until, opened_at, resolved_at, resolved_by, resolution, replay_requested_at, replay_requested_by,
              replay_why, replay_accepts, replay_pending, attempts)
    ON countersign.quarantine TO countersign_worker;

GRANT SELECT, INSERT, DELETE ON countersign.order_events TO countersign_worker;

-- UPDATE, because a worker that publishes the outbox locks the row.
GRANT SELECT, UPDATE ON countersign.relay TO countersign_worker;

COMMIT;
