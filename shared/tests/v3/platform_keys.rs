//! The platform keys of the merchants file: what counts as one, and under which serial.

use std::fs;

use shared::domain::ids::MchId;
use shared::merchants_file::{self, Program};
use shared::protocol::keys::{PlatformKey, PlatformKeyError};

use super::{
    CERTIFICATE_PEM, CERTIFICATE_SERIAL, CERTIFIED, CERTIFIED_PEM, KNOWN_BY_ID, PUBLIC_KEY_ID, PUBLIC_KEY_PEM,
    merchant, platform_entry,
};

const LEADING_ZERO_SERIAL: &str = "0A1B2C3D4E5F60718293A4B5C6D7E8F901234567";
const LEADING_ZERO_PEM: &str = include_str!("../keys/leading-zero.crt.pem");
const HIGH_BIT_SERIAL: &str = "F00DF00D11223344556677889900AABBCCDDEEFF";
const HIGH_BIT_PEM: &str = include_str!("../keys/high-bit.crt.pem");
const EC_CERTIFICATE_PEM: &str = include_str!("../keys/ec.crt.pem");
const EC_PEM: &str = include_str!("../keys/ec.pub.pem");
const RSA_1024_PEM: &str = include_str!("../keys/rsa-1024.pub.pem");
const PKCS1_PEM: &str = include_str!("../keys/pkcs1.pub.pem");

#[test]
fn a_certificate_and_a_public_key_verify_signatures_of_their_private_keys() {
    let signature_of = |key: &signer::PlatformKey| {
        use base64::Engine;
        base64::prelude::BASE64_STANDARD.decode(key.sign("1", "n", b"body").unwrap()).unwrap()
    };
    for (serial, pem, signer, stranger) in [
        (CERTIFICATE_SERIAL, CERTIFICATE_PEM, &CERTIFIED, &KNOWN_BY_ID),
        (PUBLIC_KEY_ID, PUBLIC_KEY_PEM, &KNOWN_BY_ID, &CERTIFIED),
    ] {
        let key = parse(serial, pem).unwrap();
        assert_eq!(key.signature_bytes(), 256);
        assert!(key.verifies(b"1\nn\nbody\n", &signature_of(signer)));
        assert!(!key.verifies(b"1\nn\nbody", &signature_of(signer)));
        assert!(!key.verifies(b"1\nn\nbody\n", &signature_of(stranger)));
    }
}

#[test]
fn a_public_key_may_stand_under_a_serial_in_hexadecimal() {
    assert!(parse("D7CE59D1F522D701", PUBLIC_KEY_PEM).unwrap().has_serial("d7ce59d1f522d701"));
}

#[test]
fn a_serial_is_itself_in_either_case_and_with_leading_zeros() {
    for (serial, pem) in [
        (CERTIFICATE_SERIAL, CERTIFICATE_PEM),
        (LEADING_ZERO_SERIAL, LEADING_ZERO_PEM),
        (HIGH_BIT_SERIAL, HIGH_BIT_PEM),
    ] {
        let bare = serial.trim_start_matches('0');
        let spellings =
            [serial.to_owned(), serial.to_lowercase(), bare.to_owned(), format!("00{serial}"), format!("0{bare}")];
        for in_file in &spellings {
            let key = parse(in_file, pem).unwrap_or_else(|error| panic!("{in_file}: {error}"));
            assert_eq!(key.id().name, bare);
            for in_header in &spellings {
                assert!(key.has_serial(in_header), "{in_file} in the file, {in_header} in the header");
            }
            for other in ["", "0", &bare[1..], &format!("{bare}0"), PUBLIC_KEY_ID] {
                assert!(!key.has_serial(other), "{in_file} is not {other}");
            }
        }
    }
    let key = parse(PUBLIC_KEY_ID, PUBLIC_KEY_PEM).unwrap();
    assert!(key.has_serial(PUBLIC_KEY_ID));
    assert!(!key.has_serial(PUBLIC_KEY_ID.strip_prefix("PUB_KEY_ID_").unwrap()));
    assert!(!key.has_serial("PUB_KEY_ID_119000001092026112500000000000001"), "its zeros are part of its name");
}

#[test]
fn a_serial_is_hexadecimal_or_the_id_of_a_public_key() {
    let too_long = "A".repeat(65);
    for serial in [
        "",
        " ",
        "PUB_KEY_ID_",
        "PUB_KEY_ID_01x",
        "PUB_KEY_ID_ 01",
        "pub_key_id_01",
        "KEY_01",
        "0x7C3E",
        "+7C3E",
        "-7C3E",
        "7C_3E",
        "7C:3E",
        "7C3E ",
        "７Ｃ",
        &too_long,
    ] {
        let refused = parse(serial, PUBLIC_KEY_PEM);
        assert!(matches!(refused, Err(PlatformKeyError::Serial)), "{serial:?}: {refused:?}");
    }
}

#[test]
fn a_certificate_of_another_serial_is_named() {
    for serial in [LEADING_ZERO_SERIAL, "7C3E5A1F09B2D4E6880112233445566778899AA", PUBLIC_KEY_ID] {
        let error = parse(serial, CERTIFICATE_PEM).unwrap_err();
        assert!(matches!(&error, PlatformKeyError::OtherSerial(found) if found == CERTIFICATE_SERIAL), "{error:?}");
        let told = error.to_string();
        assert!(told.contains(CERTIFICATE_SERIAL) && told.contains("the merchant's own"), "{told}");
    }
}

#[test]
fn only_rsa_keys_of_a_valid_length_are_accepted() {
    for (name, serial, pem) in [
        ("an elliptic curve", PUBLIC_KEY_ID, EC_PEM),
        ("a certificate of an elliptic curve", "4A5B6C7D", EC_CERTIFICATE_PEM),
        ("1024 bits", PUBLIC_KEY_ID, RSA_1024_PEM),
    ] {
        let refused = parse(serial, pem);
        assert!(matches!(refused, Err(PlatformKeyError::NotRsa)), "{name}: {refused:?}");
    }
}

#[test]
fn a_pem_of_something_else_is_refused_and_not_shown() {
    for pem in [CERTIFIED_PEM, PKCS1_PEM, &PUBLIC_KEY_PEM.replace("PUBLIC KEY", "EC PUBLIC KEY")] {
        let error = parse(PUBLIC_KEY_ID, pem).unwrap_err();
        assert!(matches!(error, PlatformKeyError::Label), "{error:?}");
    }
    for text in ["", "x", "file:/nowhere", "-----BEGIN PUBLIC KEY-----", &PUBLIC_KEY_PEM.replace('\n', " ")] {
        let refused = parse(PUBLIC_KEY_ID, text);
        assert!(matches!(refused, Err(PlatformKeyError::NotPem)), "{text:?}: {refused:?}");
    }
    let swapped = CERTIFICATE_PEM.replace("CERTIFICATE", "PUBLIC KEY");
    assert!(matches!(parse(PUBLIC_KEY_ID, &swapped), Err(PlatformKeyError::Damaged("public key"))));
    let swapped = PUBLIC_KEY_PEM.replace("PUBLIC KEY", "CERTIFICATE");
    assert!(matches!(parse(CERTIFICATE_SERIAL, &swapped), Err(PlatformKeyError::Damaged("certificate"))));
}

#[test]
fn a_pem_is_in_the_file_itself_or_in_another_one() {
    let folder = std::env::temp_dir().join(format!("platform-keys-test-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let certificate = folder.join("platform.pem");
    for text in [CERTIFICATE_PEM.to_owned(), CERTIFICATE_PEM.replace('\n', "\r\n")] {
        fs::write(&certificate, text).unwrap();
        let entry = |serial: &str, pem: &str| {
            format!("[[merchant.v3_platform_keys]]\nserial = \"{serial}\"\npem = \"{pem}\"\nretired = false\n")
        };
        let in_one_line = PUBLIC_KEY_PEM.replace('\n', "\\n");
        let text = merchant(
            &[
                entry(CERTIFICATE_SERIAL, &format!("file:{}", certificate.display())),
                entry(PUBLIC_KEY_ID, &in_one_line),
            ]
            .concat(),
        );
        assert_eq!(serials(&text), [CERTIFICATE_SERIAL, PUBLIC_KEY_ID]);
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_pem_may_be_in_the_environment() {
    let entry = |name: &str| {
        merchant(&format!("[[merchant.v3_platform_keys]]\nserial = \"{PUBLIC_KEY_ID}\"\npem = \"env:{name}\"\n"))
    };
    // Set for every test by cargo itself, and no PEM.
    assert_eq!(refusal(&entry("CARGO_PKG_NAME")), "merchant m: v3_platform_keys[0]: pem is not PEM");
    assert_eq!(
        refusal(&entry("NO_SUCH_VARIABLE")),
        "merchant m: v3_platform_keys[0]: the variable that it names is not set"
    );
}

#[test]
fn a_key_that_is_wrong_is_refused_with_the_place() {
    let good = platform_entry(CERTIFICATE_SERIAL, CERTIFICATE_PEM);
    let cases = [
        (platform_entry("xyz", PUBLIC_KEY_PEM), "[1]: serial is neither PUB_KEY_ID_... nor hexadecimal"),
        (
            platform_entry("0123", CERTIFICATE_PEM),
            &format!("[1]: pem holds the certificate {CERTIFICATE_SERIAL}, not that"),
        ),
        (platform_entry(PUBLIC_KEY_ID, CERTIFIED_PEM), "[1]: pem holds neither a CERTIFICATE nor a PUBLIC KEY"),
        (platform_entry(PUBLIC_KEY_ID, EC_PEM), "[1]: pem holds no RSA key of 2048 to 4096 bits"),
        (platform_entry(CERTIFICATE_SERIAL, CERTIFICATE_PEM), "[1]: its serial is listed twice"),
        (platform_entry(&format!("0{}", CERTIFICATE_SERIAL.to_lowercase()), CERTIFICATE_PEM), "is listed twice"),
        (
            "[[merchant.v3_platform_keys]]\nserial = \"01\"\npem = \"file:/nowhere/at/all\"\n".to_owned(),
            "[1]: the file that it names cannot be read: No such file",
        ),
    ];
    for (bad, expected) in cases {
        let told = refusal(&merchant(&[good.as_str(), &bad].concat()));
        assert!(told.starts_with("merchant m: v3_platform_keys[1]: "), "{told}");
        assert!(told.contains(expected), "{told:?} does not say {expected:?}");
        assert_eq!(told.lines().count(), 1, "{told:?} is more than one line");
    }
}

#[test]
fn two_merchants_may_have_the_same_platform_key() {
    let entry = platform_entry(CERTIFICATE_SERIAL, CERTIFICATE_PEM);
    let text = format!("{}[[merchant]]\nmch_id = \"n\"\n{entry}", merchant(&entry));
    let ring = merchants_file::parse(&text, Program::Ingest).unwrap();
    assert!(["m", "n"].iter().all(|mch_id| ring.merchant(mch_id).unwrap().platform_keys().count() == 1));
    // `check-config` warns of it: at the wrong merchant's address a callback would be taken, and could not be opened.
    assert_eq!(ring.shared_platform_keys(), [(CERTIFICATE_SERIAL, vec!["m", "n"])]);
    assert_eq!(merchants_file::parse(&merchant(&entry), Program::Ingest).unwrap().shared_platform_keys(), []);
}

#[test]
fn a_retired_platform_key_is_not_even_read() {
    let retired = |serial: &str, pem: &str| {
        format!("[[merchant.v3_platform_keys]]\nserial = \"{serial}\"\npem = \"{pem}\"\nretired = true\n")
    };
    let live = platform_entry(CERTIFICATE_SERIAL, CERTIFICATE_PEM);
    for old in [retired("not a serial", "not a PEM"), retired(CERTIFICATE_SERIAL, "file:/nowhere/at/all")] {
        assert_eq!(serials(&merchant(&[live.as_str(), &old].concat())), [CERTIFICATE_SERIAL]);
        assert_eq!(serials(&merchant(&[old.as_str(), &live].concat())), [CERTIFICATE_SERIAL]);
        assert_eq!(refusal(&merchant(&old)), "merchant m: has neither v2_keys nor v3_platform_keys");
    }
}

fn parse(serial: &str, pem: &str) -> Result<PlatformKey, PlatformKeyError> {
    PlatformKey::parse(&MchId::parse("m").unwrap(), serial, pem)
}

fn serials(text: &str) -> Vec<String> {
    let ring = merchants_file::parse(text, Program::Ingest).unwrap_or_else(|error| panic!("{error}: {text}"));
    ring.merchant("m").unwrap().platform_keys().map(|key| key.id().name.clone()).collect()
}

fn refusal(text: &str) -> String {
    match merchants_file::parse(text, Program::Ingest) {
        Ok(_) => panic!("taken: {text}"),
        Err(error) => error.to_string(),
    }
}
