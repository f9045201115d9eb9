# shellcheck shell=bash
# Measures the worker beside the database's own limit: a backlog drained in batches, and pgbench with one transaction
# per payment, in turns on the same server, fsync on. Only their ratio means something; the rates are information.

BENCH_ROUNDS=3
BENCH_CLIENTS=(4 16 32)
# The simulator's scenarios besides the plain payment: all off.
BENCH_SHARES=(
    repeats concurrent-repeats forgeries wrong-amount wrong-currency wrong-sub-mch-id unknown-order late-order
    second-transaction closed-order not-successful full-refund partial-refunds part-only refund-first abnormal-then-end
    refund-closed forged-refund wrong-refund-amount refund-too-much surplus-refunded no-order v3
)

bench() {
    local orders=50000 round rate best clients drained=() one_by_one=() ratios=()
    while [[ $# -gt 0 ]]; do
        case $1 in
            --orders) [[ $# -ge 2 ]] || die 64 "--orders needs a number"; orders=$2; shift 2 ;;
            *) die 64 "usage: ./dev bench [--orders N]" ;;
        esac
    done
    prepare_to_run
    WORKERS=1 start_pipeline
    export_environment
    prepare_pgbench "$orders"
    for ((round = 1; round <= BENCH_ROUNDS; round++)); do
        rate=$(drain_backlog "$orders")
        best=0
        for clients in "${BENCH_CLIENTS[@]}"; do best=$(larger "$best" "$(pgbench_rate "$clients" "$orders")"); done
        drained+=("$rate") one_by_one+=("$best") ratios+=("$(ratio "$rate" "$best")")
        printf 'round %d: worker %s payments/s, pgbench %s payments/s (best of %s clients), ratio %s\n' \
            "$round" "$rate" "$best" "${BENCH_CLIENTS[*]}" "${ratios[-1]}"
    done
    printf 'median ratio %s (from %s to %s)\n' \
        "$(sorted "${ratios[@]}" | sed -n "$(((BENCH_ROUNDS + 1) / 2))p")" \
        "$(sorted "${ratios[@]}" | head -n 1)" "$(sorted "${ratios[@]}" | tail -n 1)"
}

# Stops the worker, lets plain payments pile up, starts it and waits until the simulator's audit balances. The rate is
# that of the commits, from the first payment of the run to its last.
drain_backlog() { # ORDERS
    local orders=$1 report=$STATE/bench.json simulator prefix none=()
    local share
    for share in "${BENCH_SHARES[@]}"; do none+=("--$share" 0); done
    {
        stop_process worker-1
        "$BIN/simulator" run --orders "$orders" --drain-seconds 300 --json "$report" "${none[@]}" &
        simulator=$!
        with_progress "piling up $orders callbacks" await_backlog "$simulator" "$orders"
        start_program worker-1
        wait "$simulator" || die 1 "the books of the benchmark do not balance"
    } >"$(log_file bench)" 2>&1
    prefix=$(sed -n 's/.*"run": "\([^"]*\)".*/\1/p' "$report")
    administrators_psql <<SQL
\\pset tuples_only on
\\pset format unaligned
SELECT round(count(*) / extract(epoch FROM max(updated_at) - min(updated_at))) FROM orders
WHERE state = 'paid' AND out_trade_no LIKE '$prefix%';
SQL
}

await_backlog() { # PID ORDERS
    local deadline=$((SECONDS + 300)) messages=0
    until ((messages >= $2)); do
        kill -0 "$1" 2>/dev/null || die 1 "the simulator ended early; $(last_lines bench)"
        ((SECONDS <= deadline)) || die 1 "the backlog did not build up: $messages of $2"
        sleep 0.5
        messages=$("$RABBITMQCTL" -q list_queues --no-table-headers messages name | sed -n 's/^\([0-9]*\)\twechatpay.callbacks.v1$/\1/p')
    done
}

# Orders for pgbench, and the transaction that a payment would be without batches: lock, change, note, tell.
prepare_pgbench() { # ORDERS
    administrators_psql <<SQL
INSERT INTO orders (mch_id, out_trade_no, amount_minor, currency)
SELECT 'pgbench', 'PGBENCH' || n, 100, 'CNY' FROM generate_series(1, $1) AS n ON CONFLICT DO NOTHING;
SQL
    cat >"$STATE/payment.sql" <<'SQL'
\set n random(1, :orders)
BEGIN;
SELECT id, amount_minor, state, version FROM orders
    WHERE mch_id = 'pgbench' AND out_trade_no = 'PGBENCH' || :n FOR NO KEY UPDATE;
UPDATE orders SET state = 'paid', transaction_id = '4200000000000000000000000001', paid_at = '2026-01-01',
    version = version + 1, updated_at = now() WHERE mch_id = 'pgbench' AND out_trade_no = 'PGBENCH' || :n;
INSERT INTO notifications (id, received_at, kind, mch_id, out_trade_no, transaction_id, outcome, handled_at, body, headers)
    VALUES (gen_random_uuid(), now(), 'payment', 'pgbench', 'PGBENCH' || :n, '4200000000000000000000000001', 'applied',
    now(), convert_to(repeat('0123456789abcdef', 75), 'UTF8'), '{"type": "wechatpay.v2.payment"}');
INSERT INTO order_events (id, type, order_id, payload) VALUES (gen_random_uuid(), 'order.paid', :n, '{"order_id": 1}');
COMMIT;
SQL
}

# Payments a second with so many clients. What it left in the outbox is not for the merchant, so the relay must not run.
pgbench_rate() { # CLIENTS ORDERS
    stop_process worker-1 >&2
    pgbench --no-vacuum --protocol=prepared --client="$1" --jobs=2 --time=5 --define=orders="$2" \
        --file="$STATE/payment.sql" "$DATABASE_URL" 2>/dev/null | sed -n 's/^tps = \([0-9]*\).*/\1/p'
    administrators_psql <<'SQL' >/dev/null
DELETE FROM order_events;
DELETE FROM notifications WHERE mch_id = 'pgbench';
CHECKPOINT;
SQL
}

larger() {
    if (($1 > $2)); then echo "$1"; else echo "$2"; fi
}

ratio() {
    awk -v over="$1" -v under="$2" 'BEGIN { printf "%.1f", over / under }'
}

sorted() {
    printf '%s\n' "$@" | sort -n
}
