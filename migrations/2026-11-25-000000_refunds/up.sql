-- Refund callbacks are handled from here on, so the database holds what they must leave behind. Running workers do not
-- write refunds yet, and are not affected. Older rows, which the shop may have written by hand, are checked when they are
-- changed next: before, mend what `SELECT id FROM orders WHERE (state = 'refunded') <> (refunded_minor = amount_minor)` and
-- `SELECT id FROM refunds WHERE state <> 'requested' AND refund_id IS NULL` find.

ALTER TABLE orders ADD CONSTRAINT orders_refunded_is_all
    CHECK ((state = 'refunded') = (refunded_minor = amount_minor)) NOT VALID;

ALTER TABLE refunds ADD CONSTRAINT refunds_reported_has_id
    CHECK (state = 'requested' OR refund_id IS NOT NULL) NOT VALID;

-- An order that is paid and refunded in full within one batch of callbacks is written once, from pending to refunded.
CREATE OR REPLACE FUNCTION orders_refuse_illegal_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'order % (% %): % to % is not a legal change', OLD.id, OLD.mch_id, OLD.out_trade_no, OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'orders_legal_transition', TABLE = 'orders',
              HINT = 'pending -> paid | closed | refunded; closed -> pending; paid -> refunded; amount, numbers and transaction stay once paid';
END;
$$;

DROP TRIGGER orders_legal_transition ON orders;
CREATE TRIGGER orders_legal_transition BEFORE UPDATE ON orders FOR EACH ROW
WHEN (
    (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
        ('pending', 'paid'), ('pending', 'closed'), ('pending', 'refunded'), ('closed', 'pending'), ('paid', 'refunded')))
    OR (OLD.transaction_id IS NOT NULL AND (
        OLD.transaction_id IS DISTINCT FROM NEW.transaction_id OR OLD.paid_at IS DISTINCT FROM NEW.paid_at
        OR OLD.amount_minor <> NEW.amount_minor OR OLD.currency <> NEW.currency
        OR OLD.mch_id <> NEW.mch_id OR OLD.out_trade_no <> NEW.out_trade_no
        OR OLD.sub_mch_id IS DISTINCT FROM NEW.sub_mch_id OR OLD.app_id IS DISTINCT FROM NEW.app_id
        OR OLD.refunded_minor > NEW.refunded_minor))
)
EXECUTE FUNCTION orders_refuse_illegal_transition();

-- One refund of WeChat Pay's is one refund, of one order.
CREATE UNIQUE INDEX refunds_refund_id_unique ON refunds (refund_id);

-- Whoever tries it, a shop's ORM saving a stale object included: a refund that has come to its end stays there, and what
-- WeChat Pay has reported stays what it was.
CREATE FUNCTION refunds_refuse_illegal_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'refund % of order % (%): % to % is not a legal change',
        OLD.out_refund_no, OLD.order_id, OLD.id, OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'refunds_legal_transition', TABLE = 'refunds',
              HINT = 'requested -> succeeded | abnormal | closed; abnormal -> succeeded | closed; numbers and amount stay once reported';
END;
$$;

CREATE TRIGGER refunds_legal_transition BEFORE UPDATE ON refunds FOR EACH ROW
WHEN (
    OLD.state <> 'requested' AND (
        (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (('abnormal', 'succeeded'), ('abnormal', 'closed')))
        OR OLD.order_id <> NEW.order_id OR OLD.out_refund_no <> NEW.out_refund_no
        OR OLD.refund_id IS DISTINCT FROM NEW.refund_id OR OLD.amount_minor <> NEW.amount_minor
        OR (OLD.state = NEW.state AND OLD.succeeded_at IS DISTINCT FROM NEW.succeeded_at))
)
EXECUTE FUNCTION refunds_refuse_illegal_transition();
