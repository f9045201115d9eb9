//! Reading is never quadratic: twice the bytes take about twice the time, in the worst shapes that a sender can choose,
//! and the largest callback is read in milliseconds.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::SecretString;
use serde_json::json;
use shared::merchants_file::{self, Program};
use shared::messaging::envelope::Envelope;
use shared::protocol::keys::{KeyRing, SignType};
use shared::protocol::v2::signature::sign_fields;
use shared::protocol::v2::{payment, refund};
use shared::protocol::v3::headers::{self, UnverifiedHeaders};
use shared::protocol::v3::{notification, resource};
use shared::protocol::{BODY_BYTES_MAX, SINGLE_BODY_BYTES_MAX, glance, reveal};
use signer::{encrypt_req_info, seal_resource};

const MERCHANT: &str = "1900000109";
const KEY: &str = "k1d4rQn0QxR3bJc7TzW9uYvE1mLhA2sN";
const NONCE: &str = "nonce-of-12b";

/// What the largest callback may take: far above what it does take (under a millisecond, and twenty without optimisation),
/// far below what a person would notice.
const LONGEST: Duration = Duration::from_millis(if cfg!(debug_assertions) { 200 } else { 20 });
/// Four times the bytes are four times the time, or sixteen times if quadratic.
const GROWTH_MAX: u32 = 9;
/// Below this, the clock and the machine's other work are most of what is measured.
const NOISE: Duration = Duration::from_micros(200);
/// The best of this many runs is taken.
const RUNS: usize = 7;
/// A busy machine gets further chances; a quadratic reader uses none of them.
const TRIES: usize = 6;

static WORKER: LazyLock<KeyRing> = LazyLock::new(|| {
    let text = format!("[[merchant]]\nmch_id = {MERCHANT:?}\nv2_keys = [{KEY:?}]\nv3_keys = [{KEY:?}]\n");
    merchants_file::parse(&text, Program::Worker).unwrap()
});

/// Something hostile, of so many bytes.
type Shape = (&'static str, fn(usize) -> String);

#[test]
fn reading_xml_takes_time_in_proportion() {
    let shapes: [Shape; 24] = [
        ("entities in one value", |bytes| xml(&repeat("&lt;", bytes))),
        ("numeric references in one value", |bytes| xml(&repeat("&#60;", bytes))),
        ("a reference that never ends", |bytes| xml(&format!("&#{}", repeat("6", bytes)))),
        ("a numeric reference of zeros", |bytes| xml(&format!("&#{}60;", repeat("0", bytes)))),
        ("lone ampersands", |bytes| xml(&repeat("&", bytes))),
        ("text and entities in turns", |bytes| xml(&repeat("x&amp;", bytes))),
        ("empty CDATA sections", |bytes| xml(&repeat("<![CDATA[]]>", bytes))),
        ("CDATA sections of one byte", |bytes| xml(&repeat("<![CDATA[x]]>", bytes))),
        ("one CDATA section of brackets", |bytes| xml(&format!("<![CDATA[{}]]>", repeat("]]", bytes)))),
        ("CDATA that never ends", |bytes| xml(&format!("<![CDATA[{}", repeat("x", bytes)))),
        ("CDATA that begins over and over", |bytes| xml(&repeat("<![CDATA[", bytes))),
        ("128 fields with long names", |bytes| {
            fields(128, |place| repeat(&format!("f{place:03}"), bytes / 256 - 8), "")
        }),
        ("128 long values", |bytes| fields(128, |place| format!("f{place}"), &repeat("x", bytes / 128 - 16))),
        ("one name over and over", |bytes| fields(bytes / 8, |_| "a".to_owned(), "")),
        ("one long name", |bytes| fields(1, |_| repeat("a", bytes / 2), "")),
        ("attributes", |bytes| format!("<xml {}/>", repeat("a=\"1\" ", bytes))),
        ("one attribute over and over, in a field", |bytes| format!("<xml><a {}>1</a></xml>", repeat("a='' ", bytes))),
        ("nested elements", |bytes| xml(&repeat("<a>", bytes))),
        ("end tags", |bytes| format!("<xml><a>1</a></xml>{}", repeat("</xml>", bytes))),
        ("blanks between fields", |bytes| format!("<xml>{}<a>1</a></xml>", repeat(" \r\n\t", bytes))),
        ("blanks before the root", |bytes| format!("{}<xml><a>1</a></xml>", repeat("\n", bytes))),
        ("angle brackets", |bytes| repeat("<", bytes)),
        ("a comment that never ends", |bytes| format!("<xml><!--{}", repeat("-", bytes))),
        ("a DOCTYPE of brackets", |bytes| format!("<!DOCTYPE x [{}", repeat("[<!", bytes))),
    ];
    for shape in shapes {
        grows_in_proportion(shape, |body| {
            black_box(payment::authenticate(body.as_bytes(), &WORKER).is_ok());
        });
    }
}

#[test]
fn opening_a_v2_refund_takes_time_in_proportion() {
    let shapes: [Shape; 6] = [
        ("base64 that no key opens", |bytes| refund_of(&BASE64_STANDARD.encode(repeat("x", bytes * 3 / 4 / 16 * 16)))),
        ("base64 broken into lines of one character", |bytes| refund_of(&repeat("A\n", bytes))),
        ("blanks for base64", |bytes| refund_of(&repeat(" ", bytes))),
        ("a sealed part of entities", |bytes| sealed_refund(&repeat("&lt;", bytes * 3 / 4))),
        ("a sealed part of CDATA sections", |bytes| sealed_refund(&repeat("<![CDATA[x]]>", bytes * 3 / 4))),
        ("a sealed part of blanks", |bytes| sealed_refund(&repeat(" ", bytes * 3 / 4))),
    ];
    for shape in shapes {
        grows_in_proportion_to(SINGLE_BODY_BYTES_MAX, shape, |body| {
            black_box(refund::authenticate(body.as_bytes(), &WORKER).is_ok());
        });
    }
}

#[test]
fn reading_the_json_of_v3_takes_time_in_proportion() {
    let shapes: [Shape; 9] = [
        ("nested arrays", |bytes| format!("{{\"a\":{}", repeat("[", bytes))),
        ("nested objects", |bytes| repeat("{\"a\":", bytes)),
        ("escapes in one string", |bytes| format!("{{\"summary\":\"{}\"}}", repeat("\\u4e2d", bytes))),
        ("escapes in one name", |bytes| format!("{{\"{}\":1}}", repeat("\\n", bytes))),
        ("numbers in an array", |bytes| format!("{{\"a\":[{}1]}}", repeat("1,", bytes))),
        ("one long number", |bytes| format!("{{\"a\":{}}}", repeat("9", bytes))),
        ("one long fraction", |bytes| format!("{{\"a\":0.{}e-999}}", repeat("9", bytes))),
        ("one name over and over", |bytes| format!("{{{}\"a\":1}}", repeat("\"a\":1,", bytes))),
        ("a string that never ends", |bytes| format!("{{\"a\":\"{}", repeat("\\\"", bytes))),
    ];
    for (name, make) in shapes {
        grows_in_proportion((name, make), open_and_decode);
    }
    let sealed: [Shape; 7] = [
        ("a sealed array of numbers", |bytes| sealed(&format!("{{\"a\":[{}1]}}", repeat("1,", bytes * 3 / 4)))),
        ("a sealed long number", |bytes| sealed(&format!("{{\"a\":{}}}", repeat("9", bytes * 3 / 4)))),
        ("sealed members", |bytes| sealed(&format!("{{{}\"b\":1}}", members(bytes * 3 / 4)))),
        ("sealed escapes", |bytes| sealed(&format!("{{\"mchid\":\"{}\"}}", repeat("\\u4e2d", bytes * 3 / 4)))),
        ("sealed nesting", |bytes| sealed(&repeat("{\"a\":", bytes * 3 / 4))),
        ("sealed empty arrays", |bytes| sealed(&format!("{{\"a\":[{}1]}}", repeat("[],", bytes * 3 / 4)))),
        ("ciphertext that no key opens", |bytes| envelope(&BASE64_STANDARD.encode(repeat("x", bytes * 3 / 4)))),
    ];
    for shape in sealed {
        grows_in_proportion_to(SINGLE_BODY_BYTES_MAX, shape, open_and_decode);
    }
}

#[test]
fn envelopes_take_linear_time() {
    let headers: [Shape; 3] = [
        ("a header of letters", |bytes| repeat("A", bytes)),
        ("a header of digits", |bytes| repeat("1", bytes)),
        ("a header of zeros", |bytes| repeat("0", bytes)),
    ];
    for shape in headers {
        grows_in_proportion(shape, |long| {
            let every =
                [headers::TIMESTAMP, headers::NONCE, headers::SERIAL, headers::SIGNATURE, headers::SIGNATURE_TYPE];
            for hostile in every {
                let usual = |name| if name == headers::SIGNATURE_TYPE { None } else { Some("1") };
                let get = |name| if name == hostile { Some(long) } else { usual(name) };
                black_box(UnverifiedHeaders::read(get).is_ok());
            }
        });
    }
    let table: Shape = ("a delivery's headers", |bytes| repeat("x", bytes));
    grows_in_proportion(table, |text| {
        let headers = (0..text.len() / 8).map(|number| (format!("h{number}"), "\0".to_owned()));
        let envelope = Envelope::from_delivery(Some(text), Some(text), Some(text), headers, text.as_bytes());
        black_box(envelope.headers.len());
    });
}

#[track_caller]
fn grows_in_proportion(shape: Shape, work: impl Fn(&str)) {
    grows_in_proportion_to(BODY_BYTES_MAX, shape, work);
}

#[track_caller]
fn grows_in_proportion_to(bytes_max: usize, (name, make): Shape, work: impl Fn(&str)) {
    // A little room for what stands round the hostile part.
    let room = 512;
    let [small, large] = [bytes_max / 4, bytes_max].map(|bytes| make(bytes - room));
    assert!(large.len() <= bytes_max, "{name}: {} bytes would be refused unread", large.len());
    let mut tries = 0;
    loop {
        let (short, long) = (best(&small, &work), best(&large, &work));
        if long <= short * GROWTH_MAX + NOISE && long < LONGEST {
            println!("{name}: {short:?} for {} bytes, {long:?} for {}", small.len(), large.len());
            return;
        }
        tries += 1;
        assert!(tries < TRIES, "{name}: {short:?} for {} bytes, but {long:?} for {}", small.len(), large.len());
    }
}

fn best(body: &str, work: &impl Fn(&str)) -> Duration {
    let run = |_| {
        let start = Instant::now();
        work(black_box(body));
        start.elapsed()
    };
    (0..RUNS).map(run).min().unwrap()
}

#[test]
fn combined_and_ambiguous_callbacks_take_linear_time() {
    let signed: [Shape; 5] = [
        ("ampersands in a signed value", |bytes| signed("attach", &repeat("&", bytes))),
        ("names in a signed value", |bytes| signed("attach", &repeat("&coupon_fee_0_", bytes))),
        ("a list of sub-orders", |bytes| signed("sub_order_list", &list(&repeat("{},", bytes)))),
        ("members of a sub-order", |bytes| signed("sub_order_list", &list(&format!("{{{}\"b\":1}},", members(bytes))))),
        ("a nested list", |bytes| signed("sub_order_list", &repeat("{\"order_list\":[", bytes))),
    ];
    for shape in signed {
        grows_in_proportion(shape, |body| {
            let authentic = payment::authenticate(body.as_bytes(), &WORKER).unwrap();
            if let Ok(fields) = authentic.content.unambiguous() {
                black_box(payment::decode(&fields, authentic.merchant).is_ok());
            }
            black_box(glance::v2_payment(body.as_bytes(), &WORKER).len());
            black_box(reveal::v2_payment(body.as_bytes(), &WORKER).unwrap().len());
        });
    }
    let sealed: [Shape; 3] = [
        ("sealed sub-orders", |bytes| sealed(&format!("{{\"sub_orders\":[{}1]}}", repeat("{},", bytes * 3 / 4)))),
        ("sealed members", |bytes| sealed(&format!("{{\"sub_orders\":[{{{}\"b\":1}}]}}", members(bytes * 3 / 4)))),
        ("sealed escapes", |bytes| sealed(&format!("{{\"sub_orders\":[\"{}\"]}}", repeat("\\n", bytes * 3 / 4)))),
    ];
    for shape in sealed {
        grows_in_proportion(shape, |body| {
            open_and_decode(body);
            black_box(glance::v3(body.as_bytes(), MERCHANT, &WORKER).len());
            black_box(reveal::v3(body.as_bytes(), MERCHANT, &WORKER).is_ok());
        });
    }
}

/// A combined order with one more field, signed.
fn signed(name: &str, value: &str) -> String {
    let mut fields = vec![("combine_mch_id", MERCHANT), (name, value)];
    fields.sort_unstable();
    let sign = sign_fields(fields.iter().copied(), &SecretString::from(KEY), SignType::Md5);
    fields.push(("sign", &sign));
    let element = |(name, value): &(&str, &str)| format!("<{name}><![CDATA[{value}]]></{name}>");
    format!("<xml>{}</xml>", fields.iter().map(element).collect::<Vec<_>>().concat())
}

fn list(sub_orders: &str) -> String {
    format!("{{\"order_list\":[{}]}}", sub_orders.trim_end_matches(','))
}

fn open_and_decode(body: &str) {
    if let Ok(authentic) = resource::open(body.as_bytes(), MERCHANT, &WORKER) {
        black_box(notification::decode(&authentic.content, authentic.merchant).is_ok());
    }
}

/// As often as it fits into so many bytes.
fn repeat(text: &str, bytes: usize) -> String {
    text.repeat(bytes / text.len())
}

/// A callback of the merchant's with one more field, combined, so that it may be as long as any.
fn xml(value: &str) -> String {
    format!("<xml><combine_mch_id>{MERCHANT}</combine_mch_id><sign>{:032}</sign><a>{value}</a></xml>", 0)
}

fn fields(count: usize, name: impl Fn(usize) -> String, value: &str) -> String {
    let fields: Vec<String> = (0..count).map(|place| format!("<{0}>{value}</{0}>", name(place))).collect();
    format!("<xml>{}</xml>", fields.concat())
}

fn refund_of(req_info: &str) -> String {
    format!("<xml><mch_id>{MERCHANT}</mch_id><req_info>{req_info}</req_info></xml>")
}

fn sealed_refund(value: &str) -> String {
    let fields = ["transaction_id", "out_trade_no", "refund_id", "out_refund_no", "total_fee", "refund_fee"]
        .map(|name| format!("<{name}>1</{name}>"))
        .concat();
    let plain = format!("<root>{fields}<refund_status>{value}</refund_status></root>");
    refund_of(&encrypt_req_info(KEY, plain.as_bytes()))
}

fn members(bytes: usize) -> String {
    (0..bytes / 12).map(|number| format!("\"a{number:05}\":1,")).collect::<Vec<_>>().concat()
}

/// The resource of a payment.
fn sealed(plain: &str) -> String {
    envelope(&seal_resource(KEY, NONCE, "", plain.as_bytes()).unwrap())
}

fn envelope(ciphertext: &str) -> String {
    let resource = json!({
        "original_type": "transaction", "algorithm": "AEAD_AES_256_GCM", "ciphertext": ciphertext, "nonce": NONCE,
    });
    json!({ "event_type": "TRANSACTION.SUCCESS", "resource": resource }).to_string()
}
