//! A v2 payment as it comes in: first the bytes themselves, then the fields in them, signed by us and written anew.
#![no_main]

use countersign_fuzz::keys::{V2_KEYS, worker};
use countersign_fuzz::memory::bounded;
use countersign_fuzz::{expect, wire};
use libfuzzer_sys::{Corpus, fuzz_target};
use shared::protocol::{AuthenticateError, BODY_BYTES_MAX, SINGLE_BODY_BYTES_MAX, glance, reveal};
use shared::protocol::keys::SignType;
use shared::protocol::v2::payment;
use shared::protocol::v2::xml::{self, XmlError};

fuzz_target!(|body: &[u8]| -> Corpus {
    bounded(body.len(), 4, || as_it_is(body));
    if let Ok(text) = str::from_utf8(body) {
        signed_anew(text);
    }
    Corpus::Keep
});

fn as_it_is(body: &[u8]) {
    if xml::read(body).is_ok() {
        assert!(body.len() <= BODY_BYTES_MAX);
    }
    if let Ok(authentic) = payment::authenticate(body, worker()) {
        expect::said_by(authentic);
    }
    let _ = (glance::v2_payment(body, worker()), reveal::v2_payment(body, worker()));
}

/// What is signed is accepted and reads as it was written; one other character in the signature, and it is not.
fn signed_anew(text: &str) {
    // Anything that the input decides will do.
    let choice = text.len();
    let sign_type = if choice.is_multiple_of(2) { SignType::Md5 } else { SignType::HmacSha256 };
    let key = choice / 2 % V2_KEYS.len();
    let fields = wire::signed(wire::careless_fields(text), V2_KEYS[key], sign_type, choice.is_multiple_of(3));
    let body = wire::write("xml", &fields, choice);
    let authentic = match payment::authenticate(body.as_bytes(), worker()) {
        Ok(authentic) => authentic,
        Err(AuthenticateError::Malformed(XmlError::TooLarge)) => return assert!(body.len() > SINGLE_BODY_BYTES_MAX),
        Err(AuthenticateError::Malformed(XmlError::Padded)) => return assert!(body.len() > 2048),
        Err(error) => panic!("what is signed is authentic: {error}"),
    };
    assert_eq!(expect::said_by(authentic), fields);

    let mut forged = fields;
    let sign = forged.get_mut("sign").expect("it is signed");
    let at = choice % sign.len();
    let other = if sign[at..].starts_with('0') { "1" } else { "0" };
    sign.replace_range(at..=at, other);
    let body = wire::write("xml", &forged, choice);
    assert!(payment::authenticate(body.as_bytes(), worker()).is_err(), "a forged signature was accepted");
}
