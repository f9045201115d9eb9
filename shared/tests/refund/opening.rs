//! What opens a refund, and what opens under no key of the merchant's.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use shared::merchants_file::{self, Program};
use shared::protocol::v2::refund::{OpenError, authenticate};
use shared::protocol::{AuthenticateError, BODY_BYTES_MAX};
use signer::encrypt_req_info;

use super::{Callback, KEYS, MERCHANT, OTHER_KEY, OTHER_MERCHANT, RETIRED_KEY, decoded, not_opened, ring};

/// Without one of these a refund is not a refund.
const COMPLETE: [&str; 7] =
    ["transaction_id", "out_trade_no", "refund_id", "out_refund_no", "total_fee", "refund_fee", "refund_status"];

#[test]
fn every_live_key_of_the_merchant_opens_and_is_named() {
    for program in [Program::Ingest, Program::Worker] {
        let ring = ring(program);
        let keys: Vec<_> = ring.merchant(MERCHANT).unwrap().v2_keys().collect();
        for (place, key) in KEYS.into_iter().enumerate() {
            let body = Callback::new().key(key).body();
            assert_eq!(authenticate(&body, &ring).unwrap().key, keys[place].id());
        }
    }
}

#[test]
fn a_retired_key_opens_queued_callbacks_but_not_new_ones() {
    let body = Callback::new().key(RETIRED_KEY).body();
    assert_eq!(not_opened(&body, Program::Ingest), OpenError::NoKeyOpens);
    let ring = ring(Program::Worker);
    let retired = ring.merchant(MERCHANT).unwrap().v2_keys().find(|key| key.is_retired()).unwrap();
    assert_eq!(authenticate(&body, &ring).unwrap().key, retired.id());
}

#[test]
fn an_unknown_key_or_another_merchants_does_not_open_a_refund() {
    for key in ["not the key", OTHER_KEY, "KEY-OF-THE-FIRST-MERCHANT-000001"] {
        assert_eq!(not_opened(&Callback::new().key(key).body(), Program::Worker), OpenError::NoKeyOpens, "{key}");
    }
    // Whoever changes the merchant outside changes whose keys are tried.
    let stolen = Callback::new().open("mch_id", OTHER_MERCHANT).body();
    assert_eq!(not_opened(&stolen, Program::Worker), OpenError::NoKeyOpens);
}

#[test]
fn a_wrong_key_never_makes_a_refund_however_often_it_is_tried() {
    let ring = ring(Program::Ingest);
    // One wrong key in 256 leaves a right padding: nonsense all the same.
    for number in 0..2_000 {
        let body = Callback::new().key(&format!("wrong-{number}")).body();
        let refused = authenticate(&body, &ring).unwrap_err();
        assert!(matches!(refused, AuthenticateError::NotOpened(OpenError::NoKeyOpens)), "{number}: {refused}");
    }
}

#[test]
fn each_cause_of_a_refusal_has_its_own_error() {
    let ring = ring(Program::Ingest);
    let failure = |body: &[u8]| authenticate(body, &ring).unwrap_err();
    assert!(matches!(failure(b"not XML"), AuthenticateError::Malformed(_)));
    assert!(matches!(failure(&Callback::new().open("mch_id", "").body()), AuthenticateError::NoMerchant));
    let stranger = Callback::new().open("mch_id", "1900009999").body();
    assert!(matches!(failure(&stranger), AuthenticateError::UnknownMerchant(id) if id == "1900009999"));
    let failed = b"<xml><return_code>FAIL</return_code><mch_id>1900000109</mch_id></xml>";
    assert!(matches!(failure(failed), AuthenticateError::NotOpened(OpenError::NoReqInfo)));
    let empty = Callback::new().req_info("");
    assert!(matches!(failure(&empty), AuthenticateError::NotOpened(OpenError::NoReqInfo)));
}

#[test]
fn an_incomplete_refund_under_the_right_key_is_not_authentic() {
    for name in COMPLETE {
        for callback in [Callback::new().without(name), Callback::new().sealed(name, "")] {
            assert_eq!(not_opened(&callback.body(), Program::Ingest), OpenError::NoKeyOpens, "{name}");
        }
    }
    for name in ["success_time", "settlement_refund_fee", "refund_recv_accout", "refund_account"] {
        let body = Callback::new().without(name).body();
        assert!(authenticate(&body, &ring(Program::Ingest)).is_ok(), "{name} says nothing about who sent it");
    }
}

#[test]
fn the_sealed_part_is_flat_xml_under_its_own_root() {
    let inner = Callback::new().inner();
    let others = [
        inner.replace("root>", "xml>"),
        format!("<!DOCTYPE root>{inner}"),
        format!("{inner}<root></root>"),
        format!("{inner}x"),
        inner.replace("</root>", "<refund_fee>1</refund_fee></root>"),
        inner.replace("<root>", "<root a=\"1\">"),
        inner.replace("<root>", "<root><more><refund_fee>1</refund_fee></more>"),
        "not XML".to_owned(),
        String::new(),
    ];
    for other in others {
        let body = Callback::new().req_info(&encrypt_req_info(KEYS[0], other.as_bytes()));
        assert_eq!(not_opened(&body, Program::Ingest), OpenError::NoKeyOpens, "{other}");
    }
    let not_utf8 = encrypt_req_info(KEYS[0], &[inner.as_bytes(), b"\xff"].concat());
    assert_eq!(not_opened(&Callback::new().req_info(&not_utf8), Program::Ingest), OpenError::NoKeyOpens);
}

#[test]
fn a_padding_that_is_not_pkcs7_does_not_open() {
    // The last block is the padding alone, when the text fills its blocks.
    let mut callback = Callback::new();
    while !callback.inner().len().is_multiple_of(16) {
        let longer = format!("{}x", callback.get("refund_recv_accout"));
        callback = callback.sealed("refund_recv_accout", &longer);
    }
    let encrypted = BASE64_STANDARD.decode(encrypt_req_info(KEYS[0], callback.inner().as_bytes())).unwrap();
    assert_eq!(encrypted.len(), callback.inner().len() + 16);
    assert!(
        authenticate(&Callback::new().req_info(&BASE64_STANDARD.encode(&encrypted)), &ring(Program::Ingest)).is_ok()
    );

    let unpadded = &encrypted[..encrypted.len() - 16];
    let first_again = [&encrypted[..], &encrypted[..16]].concat();
    let padded_twice = [&encrypted[..], &encrypted[encrypted.len() - 16..]].concat();
    for other in [unpadded, &first_again, &padded_twice, &[0; 16], &[0; 1600]] {
        let body = Callback::new().req_info(&BASE64_STANDARD.encode(other));
        assert_eq!(not_opened(&body, Program::Ingest), OpenError::NoKeyOpens);
    }
}

#[test]
fn altered_or_dropped_blocks_break_the_sealed_part() {
    let encrypted = BASE64_STANDARD.decode(Callback::new().encrypted()).unwrap();
    let opens = |bytes: &[u8]| {
        authenticate(&Callback::new().req_info(&BASE64_STANDARD.encode(bytes)), &ring(Program::Ingest)).is_ok()
    };
    assert!(opens(&encrypted));
    for at in 0..encrypted.len() {
        let mut altered = encrypted.clone();
        altered[at] ^= 1;
        // One block becomes noise, which is neither UTF-8 nor XML (but for the odd chance, fixed with the key).
        assert!(!opens(&altered), "byte {at}");
    }
    assert!(!opens(&encrypted[16..]), "the first block was dropped");
    assert!(!opens(&encrypted[..encrypted.len() - 16]), "the last block was dropped");
}

#[test]
fn req_info_is_base64_of_whole_blocks() {
    let genuine = Callback::new().encrypted();
    let url_safe = genuine.replace('+', "-").replace('/', "_");
    assert_ne!(url_safe, genuine);
    for other in
        ["!!!", "AAA", "AAAA", "====", "支付", &url_safe, &genuine[4..], &format!("{genuine}AAAA"), &genuine[1..]]
    {
        assert_eq!(not_opened(&Callback::new().req_info(other), Program::Ingest), OpenError::Malformed, "{other}");
    }
    assert_eq!(
        not_opened(&Callback::new().req_info(" \n "), Program::Ingest),
        OpenError::Malformed,
        "nothing is no block"
    );
}

#[test]
fn req_info_may_be_broken_into_lines() {
    let genuine = Callback::new().encrypted();
    for (width, line_end) in [(64, "\n"), (76, "\r\n"), (1, "\n"), (64, " \t\n")] {
        let lines: Vec<&str> =
            genuine.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let broken = format!("\n{}\n", lines.join(line_end));
        let ring = ring(Program::Ingest);
        assert!(authenticate(&Callback::new().req_info(&broken), &ring).is_ok(), "lines of {width}");
    }
}

#[test]
fn req_info_may_be_longer_than_documented() {
    let callback = Callback::new().sealed("refund_recv_accout", &"招商银行信用卡0403".repeat(40));
    assert!(callback.encrypted().len() > 1024);
    assert_eq!(decoded(&callback).amount_minor, 500);
    let too_long = Callback::new().sealed("refund_recv_accout", &"x".repeat(BODY_BYTES_MAX));
    let refused = authenticate(&too_long.body(), &ring(Program::Ingest)).unwrap_err();
    assert!(matches!(refused, AuthenticateError::Malformed(_)), "{refused}");
}

#[test]
fn the_open_part_of_a_refund_is_bounded() {
    let refused = |body: &[u8]| authenticate(body, &ring(Program::Ingest)).err().map(|error| error.to_string());
    let (long, blanks) = ("y".repeat(3000), " ".repeat(3000));
    let (start, end) = (Callback::new().encrypted(), "</xml>");
    let whole = String::from_utf8(Callback::new().body()).unwrap();
    for body in [
        Callback::new().open("nonce_str", &long).body(),
        Callback::new().open("a_field_that_nobody_knows", &long).body(),
        Callback::new().req_info(&start.replacen('=', &format!("{blanks}="), 1)),
        Callback::new().req_info(&format!("{blanks}{start}")),
        whole.replace(end, &format!("{blanks}{end}")).into_bytes(),
    ] {
        let told = refused(&body).unwrap_or_default();
        assert!(told.contains("blanks, empty fields and markup"), "{told}");
    }
    // Base64 in lines, as some encoders write it, and a few more fields.
    let lines: Vec<_> = start.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
    assert_eq!(refused(&Callback::new().open("sub_appid", "wx-shop").req_info(&lines.join("\r\n"))), None);
}

/// Made by `openssl enc -aes-256-ecb -a -A -K`, under the hexadecimal of the MD5's 32 digits.
#[test]
fn a_key_whose_md5_begins_with_zeros_opens_openssls_output() {
    for (key, req_info) in [
        // MD5 00411460f7c92d2124a67ea0f4cb5f85
        ("363", include_str!("../keys/refund-under-363.txt")),
        // MD5 02e74f10e0327ad868d138f2b4fdd6f0
        ("27", include_str!("../keys/refund-under-27.txt")),
    ] {
        let text = format!("[[merchant]]\nmch_id = \"{MERCHANT}\"\nv2_keys = [\"{key}\"]");
        let ring = merchants_file::parse(&text, Program::Ingest).unwrap();
        let body = Callback::new().req_info(req_info);
        let opened = authenticate(&body, &ring).unwrap();
        assert_eq!(opened.content.sealed().get("out_refund_no"), Some("refund-1"));
    }
}
