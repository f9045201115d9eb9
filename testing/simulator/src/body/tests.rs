//! The bodies are read with the pipeline's own protocol code: genuine callbacks contain what the plan states, and forged ones
//! are not authentic.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use rand::SeedableRng;
use secrecy::ExposeSecret;
use shared::domain::notification::{self, Notification, PaymentResult};
use shared::merchants_file::{self, Program};
use shared::protocol::keys::KeyRing;
use shared::protocol::v2::{payment, refund};
use shared::protocol::v3::headers::UnverifiedHeaders;
use shared::protocol::v3::{notification as v3_notification, resource};
use shared::protocol::{DecodeError, Part};

use super::*;
use crate::merchants::tests::merchants;
use crate::plan::{PayResult, PaymentClaim, Plan, RefundClaim, RefundResult, Run, draw};
use crate::scenarios::tests::mix;

fn plan() -> Plan {
    let run = Run { prefix: "SIM-".to_owned(), serial: 1, started_at: DateTime::UNIX_EPOCH };
    draw(run, 1_500, &merchants(), &mix(&[]), &mut StdRng::seed_from_u64(5))
}

fn ring(program: Program) -> KeyRing {
    let merchant = &merchants()[0];
    let keys = merchant.v3.as_ref().unwrap();
    let platform = keys.platform.iter().map(|key| {
        let (serial, pem) = (key.serial(), key.public_pem().unwrap());
        format!("[[merchant.v3_platform_keys]]\nserial = \"{serial}\"\npem = \"\"\"\n{pem}\"\"\"\n")
    });
    let text = format!(
        "[[merchant]]\nmch_id = \"{}\"\nv2_keys = [\"{}\"]\nv3_keys = [\"{}\"]\n{}",
        merchant.mch_id,
        merchant.key.expose_secret(),
        keys.key.expose_secret(),
        platform.collect::<Vec<_>>().concat()
    );
    merchants_file::parse(&text, program).unwrap()
}

/// What both programs together make of a letter; `None` when one of them refuses it.
fn read(signed: &SignedRequest, edge: &KeyRing, worker: &KeyRing) -> Option<Notification> {
    let body = signed.body.as_ref();
    match &signed.route {
        Route::V2Payment => {
            let payment = payment::authenticate(body, edge).ok()?;
            Some(the_one(payment::decode(&payment.content.unambiguous().unwrap(), payment.merchant)))
        }
        Route::V2Refund => Some(refund::decode(&refund::authenticate(body, edge).ok()?.content).unwrap()),
        Route::V3 { mch_id, signer } => {
            let merchant = edge.merchant(mch_id).unwrap();
            let headers: HashMap<_, _> = signer.headers(&signed.body).unwrap().into_iter().collect();
            let headers = UnverifiedHeaders::read(|name| headers.get(name).map(String::as_str)).ok()?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let now = DateTime::from_timestamp(i64::try_from(now).unwrap(), 0).unwrap();
            headers.verify(body, merchant, now).ok()?;
            let event = resource::open(body, mch_id, worker).unwrap();
            Some(the_one(v3_notification::decode(&event.content, event.merchant)))
        }
    }
}

fn the_one(parts: Result<Vec<Part>, DecodeError>) -> Notification {
    let [part] = parts.unwrap().try_into().unwrap();
    part.unwrap()
}

#[test]
fn genuine_letters_say_what_the_plan_says_and_forged_ones_are_refused() {
    let (plan, merchants) = (plan(), merchants());
    let (edge, worker) = (ring(Program::Ingest), ring(Program::Worker));
    let mut rng = StdRng::seed_from_u64(9);
    let mut seen: HashMap<(&str, bool), usize> = HashMap::new();
    for callback in &plan.callbacks {
        let order = &plan.orders[callback.order];
        let signed = write(callback, order, &merchants[order.merchant], &mut rng).unwrap();
        let notification = read(&signed, &edge, &worker);
        let api = if order.api == Api::V2 { "v2" } else { "v3" };
        *seen.entry((api, callback.forgery.is_some())).or_default() += 1;
        if callback.forgery.is_some() {
            assert_eq!(notification, None, "{callback:?}");
            continue;
        }
        match (&callback.claim, notification.unwrap()) {
            (Claim::Payment(claim), Notification::Payment(payment)) => assert_payment(claim, &payment, order),
            (Claim::Refund(claim), Notification::Refund(refund)) => assert_refund(claim, &refund, order),
            (Claim::NoOrder(_), Notification::Other(_)) => {}
            (claim, other) => panic!("{claim:?} is read as {other:?}"),
        }
    }
    assert!(seen.len() == 4 && seen.values().all(|letters| *letters > 10), "{seen:?}");
}

fn assert_payment(claim: &PaymentClaim, payment: &notification::Payment, order: &Order) {
    assert_eq!(payment.out_trade_no.as_ref().unwrap().as_str(), order.out_trade_no);
    assert_eq!(payment.sub_mch_id.as_ref().map(ToString::to_string).as_deref(), claim.sub_mch_id);
    let apps = [&payment.app_id, &payment.sub_app_id].into_iter().flatten();
    assert!(order.app_id.is_none_or(|app| apps.into_iter().any(|one| one.as_str() == app)));
    match &payment.result {
        PaymentResult::Success(success) => {
            assert_eq!(claim.result, PayResult::Success);
            assert_eq!(success.transaction_id.as_str(), claim.transaction_id);
            assert_eq!(success.total.amount_minor, claim.amount_minor);
            assert_eq!(success.total.currency.as_str(), claim.currency);
            assert_eq!(success.paid_at, claim.paid_at);
        }
        PaymentResult::NotSuccessful => assert_ne!(claim.result, PayResult::Success),
    }
}

fn assert_refund(claim: &RefundClaim, refund: &notification::ReportedRefund, order: &Order) {
    assert_eq!(refund.out_trade_no.as_str(), order.out_trade_no);
    assert_eq!(refund.sub_mch_id.as_ref().map(ToString::to_string).as_deref(), order.sub_mch_id);
    assert_eq!(refund.transaction_id.as_str(), claim.transaction_id);
    assert_eq!(refund.out_refund_no.as_str(), claim.out_refund_no);
    assert_eq!(refund.refund_id.as_str(), claim.refund_id);
    assert_eq!((refund.total_minor, refund.amount_minor), (claim.total_minor, claim.amount_minor));
    assert!(refund.currency.is_none_or(|currency| currency.as_str() == order.currency));
    let expected = match claim.result {
        RefundResult::Succeeded => notification::RefundResult::Succeeded(claim.succeeded_at),
        RefundResult::Abnormal => notification::RefundResult::Abnormal,
        RefundResult::Closed => notification::RefundResult::Closed,
    };
    assert_eq!(refund.result, expected);
}

#[test]
fn the_same_callback_written_twice_differs_by_its_nonce() {
    let (plan, merchants) = (plan(), merchants());
    let mut rng = StdRng::seed_from_u64(9);
    for callback in plan.callbacks.iter().take(50) {
        let order = &plan.orders[callback.order];
        let mut write = || write(callback, order, &merchants[order.merchant], &mut rng).unwrap().body;
        assert_ne!(write(), write());
    }
}
