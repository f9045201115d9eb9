//! The table of `worker quarantine list`, and what may be done to a row.

use chrono::DateTime;

use super::*;

/// Wide enough for every cell, whatever terminal the test runs in.
const WIDTH: u16 = 300;

#[test]
fn the_table_has_one_line_per_group_and_escapes_text_from_outside() {
    let amount = Group {
        ids: vec![3, 5],
        transaction_id: Some("4200000001".to_owned()),
        paid: Some("99 CNY".to_owned()),
        detail: serde_json::json!({ "expected": "100 CNY", "got": "99 CNY" }),
        ..group(3, "open", "amount_mismatch")
    };
    let unreadable = Group {
        mch_id: None,
        out_trade_no: None,
        detail: serde_json::json!({ "problem": "time\u{1b}[2Jend" }),
        ..group(4, "waiting", "undecodable")
    };
    let printed = table(&[amount, unreadable]).set_width(WIDTH).to_string();
    let lines: Vec<String> =
        printed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "ID STATE REASON MERCHANT ORDER TRANSACTION REFUND PAID EXPECTED GOT TIMES SINCE",
            "3 open amount_mismatch 1900000109 order-7 4200000001 - 99 CNY 100 CNY 99 CNY 2 1970-01-01T00:00:00Z",
            "4 waiting undecodable - - - - - - time\\u{1b}[2Jend 1 1970-01-01T00:00:00Z",
        ]
    );
}

#[test]
fn an_operator_may_only_do_what_the_reason_allows() {
    let wait = Duration::from_mins(15);
    for (reason, allowed) in [
        ("for_order", [true, false, false, true]),
        ("undecodable", [true, false, false, true]),
        ("ambiguous_signature", [true, true, false, true]),
        ("amount_mismatch", [true, false, true, false]),
        ("refund_id_mismatch", [true, true, true, false]),
        ("message_dropped", [true, false, true, false]),
    ] {
        let deeds = [Deed::Replay(wait), Deed::Accept(wait), Deed::Resolve, Deed::Abandon];
        assert_eq!(deeds.map(|deed| check_deed(deed, &group(1, "open", reason)).is_ok()), allowed, "{reason}");
    }
}

fn group(id: i64, state: &str, reason: &str) -> Group {
    Group {
        id,
        ids: vec![id],
        state: state.to_owned(),
        reason: reason.to_owned(),
        mch_id: Some("1900000109".to_owned()),
        sub_mch_id: None,
        out_trade_no: Some("order-7".to_owned()),
        transaction_id: None,
        out_refund_no: None,
        paid: None,
        detail: serde_json::json!({}),
        first_received_at: DateTime::UNIX_EPOCH,
        last_received_at: DateTime::UNIX_EPOCH,
    }
}
