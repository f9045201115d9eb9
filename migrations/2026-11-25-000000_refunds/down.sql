DROP TRIGGER refunds_legal_transition ON refunds;
DROP FUNCTION refunds_refuse_illegal_transition;
DROP INDEX refunds_refund_id_unique;
ALTER TABLE refunds DROP CONSTRAINT refunds_reported_has_id;
ALTER TABLE orders DROP CONSTRAINT orders_refunded_is_all;

CREATE OR REPLACE FUNCTION orders_refuse_illegal_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'order % (% %): % to % is not a legal change', OLD.id, OLD.mch_id, OLD.out_trade_no, OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = 'orders_legal_transition', TABLE = 'orders',
              HINT = 'pending -> paid | closed; closed -> pending; paid -> refunded; amount, numbers and transaction stay once paid';
END;
$$;

DROP TRIGGER orders_legal_transition ON orders;
CREATE TRIGGER orders_legal_transition BEFORE UPDATE ON orders FOR EACH ROW
WHEN (
    (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
        ('pending', 'paid'), ('pending', 'closed'), ('closed', 'pending'), ('paid', 'refunded')))
    OR (OLD.transaction_id IS NOT NULL AND (
        OLD.transaction_id IS DISTINCT FROM NEW.transaction_id OR OLD.paid_at IS DISTINCT FROM NEW.paid_at
        OR OLD.amount_minor <> NEW.amount_minor OR OLD.currency <> NEW.currency
        OR OLD.mch_id <> NEW.mch_id OR OLD.out_trade_no <> NEW.out_trade_no
        OR OLD.sub_mch_id IS DISTINCT FROM NEW.sub_mch_id OR OLD.app_id IS DISTINCT FROM NEW.app_id
        OR OLD.refunded_minor > NEW.refunded_minor))
)
EXECUTE FUNCTION orders_refuse_illegal_transition();
