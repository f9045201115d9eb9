DROP TABLE order_events, quarantine, notifications, refunds, orders;
DROP FUNCTION notifications_make_months(timestamptz, integer), orders_refuse_illegal_transition();
