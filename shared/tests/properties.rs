//! Whatever is signed, sealed or encrypted is accepted, and any single change to it is not: said of callbacks made at
//! random, by WeChat Pay's half of each method.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail like tests")]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::DateTime;
use proptest::prelude::*;
use proptest::sample::Index;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use shared::domain::notification::{Notification, PaymentResult};
use shared::merchants_file::{self, Program};
use shared::protocol::keys::{KeyRing, Merchant, SignType};
use shared::protocol::v2::signature::sign_fields;
use shared::protocol::v2::{payment, refund};
use shared::protocol::v3::headers::{self, UnverifiedHeaders, VerifyError};
use shared::protocol::v3::{notification, resource};
use shared::protocol::{AuthenticateError, BODY_BYTES_MAX};
use signer::keys::{CERTIFICATE_PEM, CERTIFICATE_SERIAL, CERTIFIED_PEM, KNOWN_BY_ID_PEM, PUBLIC_KEY_PEM};
use signer::{PlatformKey, encrypt_req_info, seal_resource};

const MERCHANT: &str = "1900000109";
/// Three keys at once, the last of them retired.
const V2_KEYS: [&str; 3] =
    ["k1d4rQn0QxR3bJc7TzW9uYvE1mLhA2sN", "k2d4rQn0QxR3bJc7TzW9uYvE1mLhA2sN", "k3d4rQn0QxR3bJc7TzW9uYvE1mLhA2sN"];
/// Three keys at once, the last of them retired.
const V3_KEYS: [&str; 3] =
    ["v1d4rQn0QxR3bJc7TzW9uYvE1mLhA2sN", "v2d4rQn0QxR3bJc7TzW9uYvE1mLhA2sN", "v3d4rQn0QxR3bJc7TzW9uYvE1mLhA2sN"];
/// In no ring.
const FOREIGN_KEY: &str = "f1d4rQn0QxR3bJc7TzW9uYvE1mLhA2sN";
const PUBLIC_KEY_SERIAL: &str = "PUB_KEY_ID_0119000001092025112500000000000001";

static WORKER: LazyLock<KeyRing> = LazyLock::new(|| ring(Program::Worker));
static EDGE: LazyLock<KeyRing> = LazyLock::new(|| ring(Program::Ingest));
static PLATFORM: LazyLock<[PlatformKey; 2]> = LazyLock::new(|| {
    [
        PlatformKey::from_pem(CERTIFICATE_SERIAL, CERTIFIED_PEM).unwrap(),
        PlatformKey::from_pem(PUBLIC_KEY_SERIAL, KNOWN_BY_ID_PEM).unwrap(),
    ]
});

/// Values by name: sorted as the signature wants them.
type Fields = BTreeMap<String, String>;

/// One change to a signed set of fields.
#[derive(Debug, Clone)]
enum Change {
    Value(Index, char),
    Name(Index),
    Drop(Index),
    Double(Index),
    Add(String),
    Sign(Index),
}

proptest! {
    #[test]
    fn signed_v2_fields_are_read_as_they_were_signed(fields in fields(), sign_type in sign_type(), key in 0..V2_KEYS.len()) {
        let fields = signed(fields, V2_KEYS[key], sign_type);
        let body = xml(fields.iter());
        let authentic = payment::authenticate(body.as_bytes(), &WORKER).unwrap();
        let content = authentic.content.accepted_by_operator();
        let read: Fields = content.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        prop_assert_eq!(read, fields);
        prop_assert_eq!(v2_key(authentic.key), V2_KEYS[key]);
    }

    #[test]
    fn any_single_change_breaks_a_v2_signature(fields in fields(), sign_type in sign_type(), change in change()) {
        let fields = signed(fields, V2_KEYS[0], sign_type);
        let body = xml(changed(&fields, &change).iter().map(|(name, value)| (name, value)));
        prop_assert!(payment::authenticate(body.as_bytes(), &WORKER).is_err(), "{}", body);
    }

    #[test]
    fn a_signature_by_another_key_is_refused(fields in fields(), sign_type in sign_type()) {
        let body = xml(signed(fields, FOREIGN_KEY, sign_type).iter());
        prop_assert!(payment::authenticate(body.as_bytes(), &WORKER).is_err());
    }

    #[test]
    fn a_v2_refund_opens_under_the_key_that_encrypted_it_and_under_no_other(
        values in proptest::collection::vec(value(), 7), key in 0..V2_KEYS.len(),
    ) {
        let names = [
            "out_refund_no", "out_trade_no", "refund_fee", "refund_id", "refund_status", "total_fee", "transaction_id",
        ];
        // None is empty: the refund is complete.
        let fields: Fields =
            names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), format!("{value}."))).collect();
        let plain = xml(fields.iter()).replace("xml>", "root>");

        let body = refund_of(&encrypt_req_info(V2_KEYS[key], plain.as_bytes()));
        let authentic = refund::authenticate(body.as_bytes(), &WORKER).unwrap();
        let read: Fields =
            authentic.content.sealed().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        prop_assert_eq!(read, fields);
        prop_assert_eq!(v2_key(authentic.key), V2_KEYS[key]);

        let body = refund_of(&encrypt_req_info(FOREIGN_KEY, plain.as_bytes()));
        let refused = refund::authenticate(body.as_bytes(), &WORKER);
        prop_assert!(matches!(refused, Err(AuthenticateError::NotOpened(refund::OpenError::NoKeyOpens))));
    }

    #[test]
    fn sealed_v3_resources_are_read_as_they_were_sealed(
        plain in plain_payment(), nonce in "[ -~]{12}", associated in "[ -~]{0,24}", key in 0..V3_KEYS.len(),
    ) {
        let (amount_minor, plain) = plain;
        let ciphertext = seal_resource(V3_KEYS[key], &nonce, &associated, plain.as_bytes()).unwrap();
        let body = envelope(&ciphertext, &nonce, &associated);
        let authentic = resource::open(body.as_bytes(), MERCHANT, &WORKER).unwrap();
        let opened_by = merchant(&WORKER).v3_keys().find(|key| key.id() == authentic.key).unwrap();
        prop_assert_eq!(opened_by.secret().expose_secret(), V3_KEYS[key]);
        let parts = notification::decode(&authentic.content, authentic.merchant).unwrap();
        let [Ok(Notification::Payment(payment))] = parts.as_slice() else { panic!("not a payment") };
        let PaymentResult::Success(success) = &payment.result else { panic!("not a success") };
        prop_assert_eq!(success.total.amount_minor, amount_minor);
    }

    #[test]
    fn any_single_change_breaks_a_v3_seal(
        plain in proptest::collection::vec(any::<u8>(), 0..1024), nonce in "[a-z]{12}", associated in "[a-z]{1,24}",
        at in any::<Index>(), bit in 0..8,
    ) {
        let opens = |ciphertext: &str, nonce: &str, associated: &str| {
            resource::open(envelope(ciphertext, nonce, associated).as_bytes(), MERCHANT, &WORKER).is_ok()
        };
        let ciphertext = seal_resource(V3_KEYS[0], &nonce, &associated, &plain).unwrap();
        prop_assert!(opens(&ciphertext, &nonce, &associated));

        let mut bytes = BASE64_STANDARD.decode(&ciphertext).unwrap();
        let place = at.index(bytes.len());
        bytes[place] ^= 1_u8 << bit;
        prop_assert!(!opens(&BASE64_STANDARD.encode(&bytes), &nonce, &associated));
        prop_assert!(!opens(&with_other_character(&ciphertext, at), &nonce, &associated));
        prop_assert!(!opens(&ciphertext, &with_other_character(&nonce, at), &associated));
        prop_assert!(!opens(&ciphertext, &nonce, &with_other_character(&associated, at)));
        prop_assert!(!opens(&ciphertext, &nonce, ""));
        let foreign = seal_resource(FOREIGN_KEY, &nonce, &associated, &plain).unwrap();
        prop_assert!(!opens(&foreign, &nonce, &associated));
    }
}

proptest! {
    // Each case signs, which is slow.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_single_change_breaks_a_v3_signature(
        body in proptest::collection::vec(any::<u8>(), 1..2048), timestamp in 1_000_000_000_u32..2_000_000_000,
        nonce in "[!-~]{1,64}", at in any::<Index>(), bit in 0..8, key in 0..2_usize,
    ) {
        let timestamp = timestamp.to_string();
        let signature = PLATFORM[key].sign(&timestamp, &nonce, &body).unwrap();
        let serial = PLATFORM[key].serial();
        let genuine = Signed { timestamp: &timestamp, nonce: &nonce, serial, signature: &signature, body: &body };
        prop_assert_eq!(genuine.verify(), Ok(()));

        let mut other_body = body.clone();
        let place = at.index(body.len());
        other_body[place] ^= 1_u8 << bit;
        for other in [&other_body, &body[1..], &[body.as_slice(), b"\n"].concat()] {
            prop_assert_eq!(Signed { body: other, ..genuine }.verify(), Err(VerifyError::SignatureDiffers));
        }
        let other_time = with_other_character(&timestamp, at);
        prop_assert_eq!(Signed { timestamp: &other_time, ..genuine }.verify(), Err(VerifyError::SignatureDiffers));
        let other_nonce = with_other_character(&nonce, at);
        prop_assert_eq!(Signed { nonce: &other_nonce, ..genuine }.verify(), Err(VerifyError::SignatureDiffers));
        let other_signature = with_other_character(&signature, at);
        let verified = Signed { signature: &other_signature, ..genuine }.verify();
        prop_assert_eq!(verified, Err(VerifyError::SignatureDiffers));
        let other_key = PLATFORM[1 - key].serial();
        prop_assert_eq!(Signed { serial: other_key, ..genuine }.verify(), Err(VerifyError::SignatureDiffers));
        let other_serial = with_other_character(serial, at);
        prop_assert_eq!(Signed { serial: &other_serial, ..genuine }.verify(), Err(VerifyError::UnknownSerial));
    }
}

/// A v3 callback as it arrives.
#[derive(Clone, Copy)]
struct Signed<'a> {
    timestamp: &'a str,
    nonce: &'a str,
    serial: &'a str,
    signature: &'a str,
    body: &'a [u8],
}

impl<'a> Signed<'a> {
    /// At the very second that the timestamp names, so that only the signature decides.
    fn verify(self) -> Result<(), VerifyError> {
        let now = DateTime::from_timestamp(self.timestamp.parse().unwrap(), 0).unwrap();
        let headers = UnverifiedHeaders::read(|name| self.header(name))?;
        headers.verify(self.body, merchant(&EDGE), now).map(|_| ())
    }

    fn header(self, name: &'static str) -> Option<&'a str> {
        match name {
            headers::TIMESTAMP => Some(self.timestamp),
            headers::NONCE => Some(self.nonce),
            headers::SERIAL => Some(self.serial),
            headers::SIGNATURE => Some(self.signature),
            _ => None,
        }
    }
}

fn fields() -> impl Strategy<Value = Fields> {
    proptest::collection::btree_map("f[a-z_]{0,9}[0-9]{0,2}", value(), 1..16)
}

/// Any text that XML can hold, the empty one and much markup among it.
fn value() -> impl Strategy<Value = String> {
    let allowed =
        |text: String| text.replace(|character: char| character.is_control(), "").replace(['\u{fffe}', '\u{ffff}'], "");
    prop_oneof!["[a-z0-9=&<>;'\"\\[\\]! \n]{0,12}", any::<String>().prop_map(allowed)]
}

fn sign_type() -> impl Strategy<Value = SignType> {
    prop_oneof![Just(SignType::Md5), Just(SignType::HmacSha256)]
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), prop::char::range('a', 'z')).prop_map(|(at, character)| Change::Value(at, character)),
        at().prop_map(Change::Name),
        at().prop_map(Change::Drop),
        at().prop_map(Change::Double),
        "[a-z]{1,8}".prop_map(Change::Add),
        at().prop_map(Change::Sign),
    ]
}

/// The amount, and a payment of it.
fn plain_payment() -> impl Strategy<Value = (i64, String)> {
    (0..=i64::MAX, any::<String>()).prop_map(|(amount_minor, attach)| {
        let payment = json!({
            "mchid": MERCHANT, "out_trade_no": "ORDER-1", "transaction_id": "4200000000202511250000000001",
            "trade_state": "SUCCESS", "success_time": "2025-11-25T16:24:13+08:00", "attach": attach,
            "amount": { "total": amount_minor, "payer_total": 1, "currency": "CNY" },
        });
        (amount_minor, payment.to_string())
    })
}

fn signed(mut fields: Fields, key: &str, sign_type: SignType) -> Fields {
    fields.insert("mch_id".to_owned(), MERCHANT.to_owned());
    let of_fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let sign = sign_fields(of_fields, &SecretString::from(key), sign_type);
    fields.insert("sign".to_owned(), sign);
    fields
}

/// The fields after one change. Which field it hits is chosen among those that are signed: not an empty one, not `sign`.
fn changed(fields: &Fields, change: &Change) -> Vec<(String, String)> {
    let owned = |(name, value): (&String, &String)| (name.clone(), value.clone());
    let (mut changed, kept): (Vec<_>, Vec<_>) =
        fields.iter().map(owned).partition(|(name, value)| name != "sign" && !value.is_empty());
    let place = |at: &Index| at.index(changed.len());
    match change {
        Change::Value(at, character) => {
            let place = place(at);
            changed[place].1.push(*character);
        }
        Change::Name(at) => {
            let place = place(at);
            changed[place].0.push('x');
        }
        Change::Drop(at) => {
            changed.remove(place(at));
        }
        Change::Double(at) => changed.push(changed[place(at)].clone()),
        Change::Add(value) => changed.push(("added".to_owned(), value.clone())),
        Change::Sign(at) => {
            let other = |(name, value): (String, String)| {
                let value = if name == "sign" { with_other_character(&value, *at) } else { value };
                (name, value)
            };
            return changed.into_iter().chain(kept).map(other).collect();
        }
    }
    changed.into_iter().chain(kept).collect()
}

/// ASCII text with one character replaced by another digit.
fn with_other_character(text: &str, at: Index) -> String {
    let at = at.index(text.len());
    let other = if text[at..].starts_with('1') { "2" } else { "1" };
    [&text[..at], other, &text[at + 1..]].concat()
}

fn xml<'a>(fields: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let escaped = |value: &str| value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let elements: Vec<String> = fields.map(|(name, value)| format!("<{name}>{}</{name}>", escaped(value))).collect();
    let xml = format!("<xml>{}</xml>", elements.concat());
    assert!(xml.len() <= BODY_BYTES_MAX);
    xml
}

fn refund_of(req_info: &str) -> String {
    format!("<xml><return_code>SUCCESS</return_code><mch_id>{MERCHANT}</mch_id><req_info>{req_info}</req_info></xml>")
}

fn envelope(ciphertext: &str, nonce: &str, associated_data: &str) -> String {
    let resource = json!({
        "original_type": "transaction", "algorithm": "AEAD_AES_256_GCM", "ciphertext": ciphertext,
        "associated_data": associated_data, "nonce": nonce,
    });
    json!({ "event_type": "TRANSACTION.SUCCESS", "resource": resource }).to_string()
}

fn ring(program: Program) -> KeyRing {
    let (certificate, public_key) = (CERTIFICATE_PEM, PUBLIC_KEY_PEM);
    let ([v2_keys @ .., v2_retired], [v3_keys @ .., v3_retired]) = (V2_KEYS, V3_KEYS);
    let text = format!(
        "[[merchant]]\nmch_id = {MERCHANT:?}\n\
         v2_keys = {v2_keys:?}\nv2_keys_retired = [{v2_retired:?}]\n\
         v3_keys = {v3_keys:?}\nv3_keys_retired = [{v3_retired:?}]\n\
         [[merchant.v3_platform_keys]]\nserial = {CERTIFICATE_SERIAL:?}\npem = {certificate:?}\n\
         [[merchant.v3_platform_keys]]\nserial = {PUBLIC_KEY_SERIAL:?}\npem = {public_key:?}\n"
    );
    merchants_file::parse(&text, program).unwrap()
}

fn merchant(ring: &'static KeyRing) -> &'static Merchant {
    ring.merchant(MERCHANT).unwrap()
}

fn v2_key(id: &shared::protocol::keys::KeyId) -> &'static str {
    merchant(&WORKER).v2_keys().find(|key| key.id() == id).unwrap().secret().expose_secret()
}
