//! The headers of a v3 callback, as ingest reads them. The input is six lines: timestamp, nonce, serial, signature, its
//! type, and the body (which may have more lines); a line that is a lone `-` is a header that is not there.
#![no_main]

use chrono::DateTime;
use countersign_fuzz::keys::{SERIAL, edge_merchant, platform};
use countersign_fuzz::memory::bounded;
use libfuzzer_sys::{Corpus, fuzz_target};
use shared::protocol::v3::headers::{self, CLOCK_WINDOW_SECONDS, UnverifiedHeaders, VerifyError};

/// One callback: what it is signed over, and how.
#[derive(Clone, Copy)]
struct Callback<'a> {
    timestamp: Option<&'a str>,
    nonce: Option<&'a str>,
    serial: Option<&'a str>,
    signature: Option<&'a str>,
    signature_type: Option<&'a str>,
    body: &'a [u8],
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(callback) = split(data) else { return Corpus::Reject };
    bounded(data.len(), 4, || {
        as_it_is(callback);
    });
    signed_anew(callback);
    Corpus::Keep
});

fn split(data: &[u8]) -> Option<Callback<'_>> {
    let mut lines = data.splitn(6, |byte| *byte == b'\n');
    let mut header = || str::from_utf8(lines.next()?).ok().map(|line| Some(line).filter(|line| *line != "-"));
    Some(Callback {
        timestamp: header()?,
        nonce: header()?,
        serial: header()?,
        signature: header()?,
        signature_type: header()?,
        body: lines.next().unwrap_or_default(),
    })
}

impl<'a> Callback<'a> {
    fn read(self) -> Result<UnverifiedHeaders<'a>, VerifyError> {
        UnverifiedHeaders::read(|name| match name {
            headers::TIMESTAMP => self.timestamp,
            headers::NONCE => self.nonce,
            headers::SERIAL => self.serial,
            headers::SIGNATURE => self.signature,
            headers::SIGNATURE_TYPE => self.signature_type,
            other => panic!("{other} is no header of a callback"),
        })
    }

    fn verify(self) -> Result<(), VerifyError> {
        let headers = self.read()?;
        // Clocks are as far apart as the nonce is long, and now and then too far.
        let apart = self.nonce.unwrap_or_default().len() as i64 * 5;
        let signed_at: i64 = self.timestamp.unwrap_or_default().parse().expect("a timestamp that was read is one");
        let now = DateTime::from_timestamp(signed_at.saturating_sub(apart), 0).unwrap_or_default();
        let verified = headers.verify(self.body, edge_merchant(), now);
        let is_in_time = now.timestamp().abs_diff(signed_at) <= CLOCK_WINDOW_SECONDS;
        assert_eq!(matches!(verified, Err(VerifyError::ClockSkew(_))), !is_in_time);
        assert!(headers.evidence().iter().all(|(_, value)| value.bytes().all(|byte| byte.is_ascii_graphic())));
        assert!(verified.as_ref().is_ok_and(|authentic| authentic.content == self.body) || verified.is_err());
        verified.map(|_| ())
    }
}

/// Nobody but WeChat Pay signs: what verifies is what its key makes of just these bytes.
fn as_it_is(callback: Callback<'_>) {
    let Ok(headers) = callback.read() else { return };
    if callback.verify().is_ok() {
        let (timestamp, nonce) = (callback.timestamp.unwrap_or_default(), callback.nonce.unwrap_or_default());
        let sign = platform().sign(timestamp, nonce, callback.body).expect("it signs anything");
        assert_eq!(callback.signature, Some(sign.as_str()));
    }
    let _whichever = headers.was_altered(edge_merchant());
}

/// Signed by WeChat Pay's key, it verifies; with another body it does not, and is seen to have been altered.
fn signed_anew(callback: Callback<'_>) {
    let (timestamp, nonce) = (callback.timestamp.unwrap_or_default(), callback.nonce.unwrap_or_default());
    let readable = Callback { serial: Some(SERIAL), signature: Some("-"), ..callback };
    if readable.read().is_err() || matches!(readable.verify(), Err(VerifyError::ClockSkew(_))) {
        return;
    }
    let signature = platform().sign(timestamp, nonce, callback.body).expect("it signs anything");
    let genuine = Callback { signature: Some(&signature), ..readable };
    assert_eq!(genuine.verify(), Ok(()));

    let altered = [callback.body, b" "].concat();
    let altered = Callback { body: &altered, ..genuine };
    assert_eq!(altered.verify(), Err(VerifyError::SignatureDiffers));
    assert!(altered.read().is_ok_and(|headers| headers.was_altered(edge_merchant())));
}
