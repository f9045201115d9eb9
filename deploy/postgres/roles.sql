-- The login role of the workers: it reads and moves rows, and cannot change a table.
--
-- Run by an administrator of the database after every `worker migrate`; running it again changes nothing else:
--   psql -v ON_ERROR_STOP=1 -v worker_password=... -f roles.sql "$DATABASE_URL"
-- Apart from that one variable it is plain SQL, which the tests run without psql.
--
-- Of an order, a worker may change only what a callback can move: never its number, amount or currency.
-- Before PostgreSQL 15 every role may create tables in the schema public; there, an administrator who minds says
-- REVOKE CREATE ON SCHEMA public FROM PUBLIC, which is not done here because other programs may rely on it.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'countersign_worker') THEN
        CREATE ROLE countersign_worker;
    END IF;
END;
$$;

ALTER ROLE countersign_worker
    LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'worker_password';

BEGIN;

REVOKE ALL ON orders, payments, refunds, notifications, quarantine, order_events, relay FROM countersign_worker;

GRANT USAGE ON SCHEMA public TO countersign_worker;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO countersign_worker;

GRANT SELECT ON orders TO countersign_worker;
GRANT UPDATE (state, transaction_id, paid_at, refunded_minor, version, updated_at) ON orders TO countersign_worker;

GRANT SELECT, INSERT, UPDATE (disposition, returned_minor) ON payments TO countersign_worker;

GRANT SELECT, INSERT, UPDATE ON refunds, notifications, quarantine TO countersign_worker;

-- UPDATE, because the relay locks the rows that it publishes.
GRANT SELECT, INSERT, UPDATE, DELETE ON order_events TO countersign_worker;

-- UPDATE, because a worker that publishes the outbox locks the row.
GRANT SELECT, UPDATE ON relay TO countersign_worker;

COMMIT;
