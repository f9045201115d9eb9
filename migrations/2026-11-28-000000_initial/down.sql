DROP TABLE relay, order_events, quarantine, notifications, refunds, payments, orders;
DROP FUNCTION notifications_make_months(timestamptz, integer);
DROP FUNCTION orders_refuse_illegal_transition(), notifications_refuse_rewriting(), orders_refuse_delete(), orders_refuse_unwanted_payment(), payments_refuse_illegal_change(),
    payments_refuse_delete(), refunds_refuse_illegal_transition(), refunds_refuse_delete();
