//! Every row of the decision table, from the HTTP request to the row that an operator reads.

use kit::TestResult;
use kit::callback::Callback;
use kit::merchants::{INSTITUTION, MERCHANT};
use kit::post::post;
use kit::test_env::TestEnv;
use serde_json::{Value, json};

/// A callback for an order of its own, and what must become of the two.
struct Case {
    /// Names the order too.
    order: &'static str,
    callback: fn(Callback) -> Callback,
    verdict: &'static str,
    /// What the operator sees of it; nothing when nothing is held.
    detail: Option<fn() -> Value>,
}

const PAID: &str = "4200000001";

const CASES: [Case; 13] = [
    Case { order: "pending", callback: |callback| callback, verdict: "applied", detail: None },
    Case {
        order: "failed",
        callback: |it| it.field("result_code", "FAIL"),
        verdict: "ignored not_successful",
        detail: None,
    },
    Case { order: "missing", callback: |it| it, verdict: "waiting for_order", detail: Some(|| json!({})) },
    Case { order: "of-a-shop", callback: |it| it, verdict: "waiting for_order", detail: Some(|| json!({})) },
    Case {
        order: "of-no-shop",
        callback: |it| it.field("sub_mch_id", "1900000300"),
        verdict: "waiting for_order",
        detail: Some(|| json!({})),
    },
    Case {
        order: "of-an-app",
        callback: |it| it,
        verdict: "quarantined app_id_mismatch",
        detail: Some(|| json!({"expected": "wx-other", "got": "wxd678efh567hg6787"})),
    },
    Case {
        order: "in-dollars",
        callback: |it| it,
        verdict: "quarantined currency_mismatch",
        detail: Some(|| json!({"expected": "USD", "got": "CNY"})),
    },
    Case {
        order: "dearer",
        callback: |it| it.amount(1998),
        verdict: "quarantined amount_mismatch",
        detail: Some(|| json!({"expected": "1999 CNY", "got": "1998 CNY"})),
    },
    Case { order: "paid", callback: |it| it.transaction(PAID), verdict: "duplicate", detail: None },
    Case { order: "refunded", callback: |it| it.transaction("4200000011"), verdict: "duplicate", detail: None },
    Case {
        order: "paid-before",
        callback: |it| it.transaction("4200000002"),
        verdict: "quarantined paid_twice",
        detail: Some(|| json!({"expected": "4200000012", "got": "4200000002"})),
    },
    Case {
        order: "closed",
        callback: |it| it.transaction("4200000003"),
        verdict: "quarantined paid_after_close",
        detail: Some(|| json!({"expected": "pending", "got": "4200000003"})),
    },
    Case {
        order: "undecodable",
        callback: |it| it.without("time_end"),
        verdict: "quarantined undecodable",
        detail: Some(|| json!({"problem": "time_end is missing"})),
    },
];

/// The orders of the cases: everything but state, shop, app and currency is what [`Callback::payment`] pays.
const ORDERS: &str = "INSERT INTO orders
    (mch_id, out_trade_no, state, sub_mch_id, app_id, currency, transaction_id, paid_at, refunded_minor, amount_minor)
    VALUES ($1, 'pending', 'pending', NULL, NULL, 'CNY', NULL, NULL, 0, 1999),
           ($1, 'failed', 'pending', NULL, NULL, 'CNY', NULL, NULL, 0, 1999),
           ($1, 'of-a-shop', 'pending', '1900000300', NULL, 'CNY', NULL, NULL, 0, 1999),
           ($1, 'of-no-shop', 'pending', NULL, NULL, 'CNY', NULL, NULL, 0, 1999),
           ($1, 'of-an-app', 'pending', NULL, 'wx-other', 'CNY', NULL, NULL, 0, 1999),
           ($1, 'in-dollars', 'pending', NULL, NULL, 'USD', NULL, NULL, 0, 1999),
           ($1, 'dearer', 'pending', NULL, NULL, 'CNY', NULL, NULL, 0, 1999),
           ($1, 'paid', 'paid', NULL, NULL, 'CNY', '4200000001', now(), 0, 1999),
           ($1, 'refunded', 'refunded', NULL, NULL, 'CNY', '4200000011', now(), 1999, 1999),
           ($1, 'paid-before', 'paid', NULL, NULL, 'CNY', '4200000012', now(), 0, 1999),
           ($1, 'closed', 'closed', NULL, NULL, 'CNY', NULL, NULL, 0, 1999),
           ($1, 'undecodable', 'pending', NULL, NULL, 'CNY', NULL, NULL, 0, 1999)";

/// All that a callback could change, but for the version, which counts each payment that an order refuses.
const ORDERS_AS_TEXT: &str =
    "SELECT string_agg(concat_ws(' ', out_trade_no, state, transaction_id, paid_at, refunded_minor), ';' ORDER BY id)
    FROM orders WHERE out_trade_no <> 'pending'";

/// What is on record about the payments that the cases report.
const PAYMENTS: &str = "SELECT string_agg(out_trade_no || ' ' || disposition, ', ' ORDER BY out_trade_no)
    FROM payments JOIN orders ON orders.id = order_id";

#[tokio::test]
async fn every_verdict_reaches_the_ledger_and_the_operator() -> TestResult {
    let env = TestEnv::start().await?;
    env.database.execute(ORDERS, &[&MERCHANT]).await?;
    let orders_before = env.value(ORDERS_AS_TEXT).await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;

    for case in &CASES {
        let body = (case.callback)(Callback::payment(case.order)).body();
        assert!(post(ingest.public(), body).await?.is_success(), "{}", case.order);
    }
    let ledger = env.until_ledger_has(CASES.len()).await?;

    for case in &CASES {
        let named = format!("<out_trade_no><![CDATA[{}]]></out_trade_no>", case.order).into_bytes();
        let row = ledger.iter().find(|row| row.body.windows(named.len()).any(|window| window == named)).unwrap();
        assert_eq!(row.verdict(), case.verdict, "{}", case.order);
        let select = "SELECT state, reason, detail FROM quarantine WHERE notification_id = $1";
        let held = env.database.query_opt(select, &[&row.id]).await?;
        let held = held.map(|row| (row.get(0), row.get(1), row.get(2)));
        let (outcome, reason) = case.verdict.split_once(' ').unwrap_or((case.verdict, ""));
        let rests = if outcome == "waiting" { "waiting" } else { "open" };
        let expected = case.detail.map(|detail| (rests.to_owned(), reason.to_owned(), detail()));
        assert_eq!(held, expected, "{}", case.order);
    }
    assert_eq!(env.order("pending").await?.state, "paid");
    assert_eq!(env.value(ORDERS_AS_TEXT).await?, orders_before, "what was refused has left a trace in orders");
    let recorded = "closed refused, dearer refused, in-dollars refused, of-an-app refused, paid accepted, \
                    paid-before refused, pending accepted, refunded accepted";
    assert_eq!(env.value(PAYMENTS).await?, recorded);
    let mut kinds: Vec<_> = env.until_events(6).await?.into_iter().filter_map(|event| event.kind).collect();
    kinds.sort();
    assert_eq!(kinds, [["order.paid"].as_slice(), &["payment.refused"; 5]].concat());
    Ok(())
}

#[tokio::test]
async fn one_merchants_callback_never_touches_anothers_order_of_the_same_number() -> TestResult {
    let env = TestEnv::start().await?;
    env.insert_order("order-1").await?;
    let insert =
        "INSERT INTO orders (mch_id, out_trade_no, amount_minor, currency) VALUES ($1, 'order-1', 1999, 'CNY')";
    env.database.execute(insert, &[&INSTITUTION]).await?;
    let ingest = env.start_ingest().await?;
    let _worker = env.start_worker().await?;

    assert!(post(ingest.public(), Callback::payment("order-1").body()).await?.is_success());
    env.until_paid("order-1").await?;
    let others = format!("SELECT state FROM orders WHERE mch_id = '{INSTITUTION}'");
    assert_eq!(env.value(&others).await?, "pending");
    Ok(())
}

#[tokio::test]
async fn what_is_not_wechat_pays_is_refused_at_the_door_and_stored_nowhere() -> TestResult {
    let env = TestEnv::start().await?;
    let ingest = env.start_ingest().await?;
    let altered = |from: &str, to: &str| {
        let body = String::from_utf8(Callback::payment("order-1").body()).unwrap();
        assert!(body.contains(from));
        body.replace(from, to).into_bytes()
    };
    let cases = [
        (Callback::payment("order-1").key("not the key").body(), 401),
        (altered("<total_fee>1999<", "<total_fee>1<"), 401),
        (altered("<sign>", "<signature>"), 400),
        (Callback::payment("order-1").field("mch_id", "1900009999").body(), 404),
        (Callback::payment("order-1").without("mch_id").body(), 400),
        (b"<!DOCTYPE xml><xml></xml>".to_vec(), 400),
        (Vec::new(), 400),
        (vec![b'x'; 64 * 1024 + 1], 413),
    ];
    for (body, status) in cases {
        let reply = post(ingest.public(), body.clone()).await?;
        assert_eq!(reply.status, status, "{}", String::from_utf8_lossy(&body));
        assert!(reply.body.contains("<return_code><![CDATA[FAIL]]></return_code>"), "{reply:?}");
        assert!(reply.body.len() < 200 && !reply.body.contains("1900009999"), "the reply reveals too much: {reply:?}");
    }
    assert_eq!(env.broker.depth(shared::messaging::topology::CALLBACKS_QUEUE).await?, 0);
    Ok(())
}
