//! A v2 refund as it comes in: the bytes themselves as the body; as the text of `req_info`; and encrypted by us into one,
//! so that the reader of the sealed part is reached.
#![no_main]

use countersign_fuzz::keys::{MERCHANT, V2_KEYS, worker};
use countersign_fuzz::memory::bounded;
use countersign_fuzz::{expect, wire};
use libfuzzer_sys::fuzz_target;
use secrecy::ExposeSecret;
use shared::protocol::v2::refund;
use shared::protocol::v2::xml::XmlError;
use shared::protocol::{AuthenticateError, SINGLE_BODY_BYTES_MAX, glance, reveal};
use signer::encrypt_req_info;

fuzz_target!(|data: &[u8]| {
    accept(data);
    if let Ok(text) = str::from_utf8(data) {
        accept(outer(text, data.len()).as_bytes());
    }
    encrypted(data);
});

/// Which key opened it, if any did.
fn accept(body: &[u8]) {
    bounded(body.len(), 12, || {
        let _ = (glance::v2_refund(body, worker()), reveal::v2_refund(body, worker()));
        if let Ok(authentic) = refund::authenticate(body, worker()) {
            assert!(body.len() <= SINGLE_BODY_BYTES_MAX);
            assert_eq!(authentic.content.mch_id(), MERCHANT);
            expect::fields(authentic.content.sealed());
            if let Ok(notification) = refund::decode(&authentic.content) {
                expect::notification(&notification);
            }
        }
    });
}

/// Only the key that encrypted it opens it, and it opens to what was encrypted.
fn encrypted(plain: &[u8]) {
    let key = plain.len() % V2_KEYS.len();
    let body = outer(&encrypt_req_info(V2_KEYS[key], plain), plain.len());
    accept(body.as_bytes());
    match refund::authenticate(body.as_bytes(), worker()) {
        Ok(authentic) => {
            let merchant = worker().merchant(MERCHANT).expect("the ring has one merchant");
            let opened_by = merchant.v2_keys().find(|candidate| candidate.id() == authentic.key);
            assert_eq!(opened_by.map(|opened_by| opened_by.secret().expose_secret()), Some(V2_KEYS[key]));
        }
        Err(error) => {
            let is_expected = matches!(error, AuthenticateError::NotOpened(refund::OpenError::NoKeyOpens))
                || matches!(error, AuthenticateError::Malformed(XmlError::Padded)) && body.len() > 2048
                || body.len() > SINGLE_BODY_BYTES_MAX;
            assert!(is_expected, "{error}");
        }
    }
}

fn outer(req_info: &str, style: usize) -> String {
    let fields = [("return_code", "SUCCESS"), ("mch_id", MERCHANT), ("req_info", req_info)];
    wire::write("xml", &fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into(), style)
}
