DROP TABLE countersign.relay, countersign.order_events, countersign.quarantine, countersign.notifications, countersign.refunds,
    countersign.payments, countersign.orders;
DROP FUNCTION countersign.notifications_make_months(timestamptz, integer);
DROP FUNCTION countersign.orders_refuse_illegal_transition(), countersign.notifications_refuse_rewriting(),
    countersign.orders_refuse_delete(), countersign.orders_refuse_unwanted_payment(),
    countersign.payments_refuse_illegal_change(), countersign.payments_refuse_delete(),
    countersign.refunds_refuse_illegal_transition(), countersign.refunds_refuse_delete();
