//! One merchant on both sides of the wire. The keys are made up, and the platform's are those of the tests.

use std::sync::LazyLock;

use shared::merchants_file::{self, Program};
use shared::protocol::keys::{KeyRing, Merchant};
use signer::PlatformKey;
pub use signer::keys::CERTIFICATE_SERIAL as SERIAL;
use signer::keys::{CERTIFICATE_PEM, CERTIFICATE_SERIAL, CERTIFIED};

/// The merchant's number.
pub const MERCHANT: &str = "1900000109";
/// Two at once, as while keys are rotated.
pub const V2_KEYS: [&str; 2] = ["k1d4rQn0QxR3bJc7TzW9uYvE1mLhA2sN", "k2d4rQn0QxR3bJc7TzW9uYvE1mLhA2sN"];
/// Two at once, as while keys are rotated.
pub const V3_KEYS: [&str; 2] = ["0123456789abcdefABCDEF9876543210", "fedcba98765432100123456789ABCDEF"];

static WORKER: LazyLock<KeyRing> = LazyLock::new(|| ring(Program::Worker));
static EDGE: LazyLock<KeyRing> = LazyLock::new(|| ring(Program::Ingest));

/// The ring of a worker.
pub fn worker() -> &'static KeyRing {
    &WORKER
}

/// The merchant as ingest knows it.
pub fn edge_merchant() -> &'static Merchant {
    EDGE.merchant(MERCHANT).expect("the ring has one merchant")
}

/// WeChat Pay's own half of the platform key.
pub fn platform() -> &'static PlatformKey {
    &CERTIFIED
}

fn ring(program: Program) -> KeyRing {
    let (serial, pem) = (CERTIFICATE_SERIAL, CERTIFICATE_PEM);
    let text = format!(
        "[[merchant]]\nmch_id = {MERCHANT:?}\nv2_keys = {V2_KEYS:?}\nv3_keys = {V3_KEYS:?}\n\
         [[merchant.v3_platform_keys]]\nserial = {serial:?}\npem = {pem:?}\n"
    );
    merchants_file::parse(&text, program).expect("a merchants file")
}
