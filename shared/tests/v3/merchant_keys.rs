//! `v3_keys` in the merchants file, which program reads what, and that nothing ever shows a key.

use std::fs;

use secrecy::ExposeSecret;
use shared::merchants_file::{self, Program};
use shared::protocol::keys::{Merchant, Purpose};

use super::{
    CERTIFICATE_PEM, CERTIFICATE_SERIAL, CERTIFIED_PEM, KEY, OTHER_KEY, PUBLIC_KEY_ID, PUBLIC_KEY_PEM, SECOND_KEY,
    merchant, platform_entry,
};

const SECRET: &str = "SECRETSECRETSECRETSECRETSECRET00";
const BOTH: [Program; 2] = [Program::Ingest, Program::Worker];

#[test]
fn a_v3_key_is_itself_or_in_a_file_or_in_the_environment() {
    let folder = std::env::temp_dir().join(format!("v3-keys-test-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("key");
    fs::write(&file, format!("{SECOND_KEY}\r\n")).unwrap();
    let text = merchant(&format!("v3_keys = [\"{KEY}\", \"file:{}\"]\n", file.display()));
    assert_eq!(v3_keys(&text, Program::Worker), [KEY, SECOND_KEY]);
    fs::remove_dir_all(folder).unwrap();
    // Set for every test by cargo itself, and of another length: so it was read.
    assert_eq!(
        refusal(&merchant("v3_keys = [\"env:CARGO_PKG_NAME\"]\n"), Program::Worker),
        "merchant m: v3_keys[0]: an APIv3 key has 32 bytes, this one has 6"
    );
}

#[test]
fn retired_v3_keys_come_after_the_live_ones() {
    let lists = format!("v3_keys_retired = [\"{OTHER_KEY}\"]\nv3_keys = [\"{KEY}\", \"{SECOND_KEY}\"]\n");
    let ring = merchants_file::parse(&merchant(&lists), Program::Worker).unwrap();
    let keys: Vec<_> = ring.merchant("m").unwrap().v3_keys().collect();
    assert_eq!(keys.iter().map(|key| key.secret().expose_secret()).collect::<Vec<_>>(), [KEY, SECOND_KEY, OTHER_KEY]);
    assert_eq!(keys.iter().map(|key| key.is_retired()).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn a_v3_key_has_32_bytes() {
    for length in [1, 16, 31, 33, 64] {
        for list in ["v3_keys", "v3_keys_retired"] {
            let text = merchant(&format!("v2_keys = [\"k\"]\n{list} = [\"{}\"]\n", "k".repeat(length)));
            let expected = format!("merchant m: {list}[0]: an APIv3 key has 32 bytes, this one has {length}");
            assert_eq!(refusal(&text, Program::Worker), expected);
        }
    }
    for (key, problem) in [
        ("", "the key is empty"),
        (&"k".repeat(129), "the key is longer than 128 bytes"),
        (" 2345678901234567890123456789012", "the key contains characters that no API key has"),
        ("中文中文中文中文中文12", "the key contains characters that no API key has"),
    ] {
        let text = merchant(&format!("v3_keys = [\"{KEY}\", \"{key}\"]\n"));
        assert_eq!(refusal(&text, Program::Worker), format!("merchant m: v3_keys[1]: {problem}"));
    }
}

#[test]
fn the_edge_never_reads_a_v3_key() {
    let platform = platform_entry(CERTIFICATE_SERIAL, CERTIFICATE_PEM);
    for lists in [
        "v3_keys = [\"file:/nowhere/at/all\"]\n",
        "v3_keys = [\"env:NO_SUCH_VARIABLE\"]\nv3_keys_retired = [\"file:/nowhere/at/all\"]\n",
        "v3_keys = [\"too short\"]\n",
        "",
    ] {
        let text = merchant(&[lists, platform.as_str()].concat());
        assert_eq!(v3_keys(&text, Program::Ingest), Vec::<String>::new(), "{lists}");
    }
}

#[test]
fn the_edge_never_reads_a_retired_key() {
    let text = merchant("v2_keys = [\"k\"]\nv2_keys_retired = [\"file:/nowhere/at/all\"]\n");
    assert_eq!(merchants_file::parse(&text, Program::Ingest).unwrap().merchant("m").unwrap().v2_keys().count(), 1);
    assert!(
        refusal(&text, Program::Worker)
            .starts_with("merchant m: v2_keys_retired[0]: the file that it names cannot be read")
    );
}

#[test]
fn the_worker_never_reads_a_platform_key() {
    let lists = format!("v3_keys = [\"{KEY}\"]\n");
    let unreadable = "[[merchant.v3_platform_keys]]\nserial = \"not a serial\"\npem = \"file:/nowhere/at/all\"\n";
    let text = merchant(&[lists.as_str(), unreadable].concat());
    let ring = merchants_file::parse(&text, Program::Worker).unwrap();
    assert_eq!(ring.merchant("m").unwrap().platform_keys().count(), 0);
    assert!(refusal(&text, Program::Ingest).starts_with("merchant m: v3_platform_keys[0]: "));
}

#[test]
fn each_side_needs_something_to_authenticate_with() {
    let platform = platform_entry(CERTIFICATE_SERIAL, CERTIFICATE_PEM);
    let v3 = format!("v3_keys = [\"{KEY}\"]\n");
    let only_retired = format!("v3_keys_retired = [\"{KEY}\"]\n");
    let edge = "merchant m: has neither v2_keys nor v3_platform_keys";
    let worker = "merchant m: has neither v2_keys nor v3_keys";
    for (lines, program, expected) in [
        ("", Program::Ingest, edge),
        ("", Program::Worker, worker),
        (&v3, Program::Ingest, edge),
        (&only_retired, Program::Worker, worker),
        ("v2_keys = []\nv3_keys = []\n", Program::Worker, worker),
        (&platform, Program::Worker, "merchant m: has v3_platform_keys but no v3_keys to open what they verify"),
    ] {
        assert_eq!(refusal(&merchant(lines), program), expected, "{lines:?}");
    }
    let with_v2 = merchant(&format!("v2_keys = [\"k\"]\n{platform}"));
    assert!(merchants_file::parse(&with_v2, Program::Ingest).is_ok());
    assert_eq!(
        refusal(&with_v2, Program::Worker),
        "merchant m: has v3_platform_keys but no v3_keys to open what they verify"
    );
    for lines in ["v2_keys = [\"k\"]\n", &[v3.as_str(), &platform].concat()] {
        for program in BOTH {
            assert!(merchants_file::parse(&merchant(lines), program).is_ok(), "{lines:?}");
        }
    }
}

#[test]
fn retired_platform_keys_ask_for_no_v3_key() {
    let retired = platform_entry(CERTIFICATE_SERIAL, CERTIFICATE_PEM) + "retired = true\n";
    for program in BOTH {
        assert!(merchants_file::parse(&merchant(&format!("v2_keys = [\"k\"]\n{retired}")), program).is_ok());
    }
}

#[test]
fn a_file_that_is_wrong_is_refused_with_the_place_on_either_side() {
    let entry = |lines: &str| merchant(&format!("v2_keys = [\"k\"]\n[[merchant.v3_platform_keys]]\n{lines}"));
    let cases = [
        (entry("serial = \"01\"\n"), "missing field `pem`"),
        (entry("pem = \"x\"\n"), "missing field `serial`"),
        (entry("serial = \"01\"\npem = \"x\"\nold = true\n"), "line 7: unknown field, expected one of `serial`"),
        (entry("serial = \"01\"\npem = \"x\"\nretired = \"yes\"\n"), "line 7: invalid type"),
        (entry("serial = 1\npem = \"x\"\n"), "line 5: invalid type"),
        (merchant("v3_key = [\"k\"]\n"), "line 3: unknown field, expected one of `mch_id`"),
        (merchant("v3_keys = \"k\"\n"), "line 3: invalid type"),
    ];
    for (text, expected) in cases {
        for program in BOTH {
            let told = refusal(&text, program);
            assert!(told.contains(expected), "{text:?} is refused with {told:?}");
        }
    }
}

#[test]
fn a_key_is_identified_by_merchant_purpose_and_name() {
    let lines = format!("v2_keys = [\"k\"]\nv3_keys = [\"{KEY}\"]\nv3_keys_retired = [\"{SECOND_KEY}\"]\n");
    let text = merchant(
        &[
            lines.as_str(),
            &platform_entry(CERTIFICATE_SERIAL, CERTIFICATE_PEM),
            &platform_entry(PUBLIC_KEY_ID, PUBLIC_KEY_PEM),
        ]
        .concat(),
    );
    let ids = |program| {
        let ring = merchants_file::parse(&text, program).unwrap();
        let ids = ring.merchant("m").unwrap().key_ids();
        ids.map(|(id, is_retired)| (id.mch_id.to_string(), id.purpose, id.name.clone(), is_retired)).collect::<Vec<_>>()
    };
    let id = |purpose, name: &str, is_retired| ("m".to_owned(), purpose, name.to_owned(), is_retired);
    // The first digits of `printf %s KEY | sha256sum`.
    let v2 = id(Purpose::V2, "8254c329", false);
    assert_eq!(
        ids(Program::Worker),
        [v2.clone(), id(Purpose::V3, "3be3e06b", false), id(Purpose::V3, "881d373b", true)]
    );
    let platform = [CERTIFICATE_SERIAL, PUBLIC_KEY_ID].map(|serial| id(Purpose::Platform, serial, false));
    assert_eq!(ids(Program::Ingest), [vec![v2], platform.to_vec()].concat());
}

#[test]
fn no_error_shows_a_key() {
    let private: String = CERTIFIED_PEM.replace("\n-", &format!("\n{SECRET}\n-"));
    let entry = |serial: &str, pem: &str| format!("[[merchant.v3_platform_keys]]\nserial = {serial}\npem = {pem}\n");
    let texts = [
        // Not TOML at all.
        merchant(&format!("v3_keys = [\"{SECRET}]\n")),
        merchant(&format!("v3_keys = [{SECRET}]\n")),
        merchant(&format!("v3_keys = {SECRET}\n")),
        merchant(&format!("v3_keys = [\"{KEY}\"] {SECRET}\n")),
        merchant(&entry("\"01\"", &format!("\"\"\"\n{private}"))),
        merchant(&entry("\"01\"", &format!("\"{private}\""))),
        // Of the wrong type.
        merchant(&format!("v3_keys = \"{SECRET}\"\n")),
        merchant(&format!("v3_keys = [[\"{SECRET}\"]]\n")),
        merchant(&format!("v3_keys_retired = \"{SECRET}\"\n")),
        merchant(&format!("v3_platform_keys = \"{SECRET}\"\n")),
        merchant(&format!("v3_platform_keys = [\"{SECRET}\"]\n")),
        merchant(&entry("\"01\"", &format!("[\"{SECRET}\"]"))),
        merchant(&format!("{}retired = \"{SECRET}\"\n", entry("\"01\"", "\"x\""))),
        // Under a name that is not known.
        merchant(&format!("v2_keys = [\"k\"]\nv3_key = \"{SECRET}\"\n")),
        // Of another length, or with characters that no key has.
        merchant(&format!("v3_keys = [\"{SECRET}0\"]\n")),
        merchant(&format!("v3_keys = [\"{SECRET} \"]\n")),
        merchant(&format!("v3_keys = [\"{KEY}\"]\nv3_keys_retired = [\"{SECRET}中\"]\n")),
        // A private key, or a secret, where a public key should be.
        merchant(&format!("v3_keys = [\"too short\"]\n{}", platform_entry(PUBLIC_KEY_ID, &private))),
        merchant(&format!("v3_keys = [\"too short\"]\n{}", entry("\"01\"", &format!("\"{SECRET}\"")))),
        // Next to a merchant that is listed twice.
        merchant(&format!("v2_keys = [\"k\"]\nv3_keys = [\"{SECRET}\"]\n")).repeat(2),
    ];
    for text in texts {
        let mut refused = 0;
        for error in BOTH.into_iter().filter_map(|program| merchants_file::parse(&text, program).err()) {
            for told in [error.to_string(), format!("{error:?}")] {
                assert!(!told.contains("SECRET"), "{text}\nis refused with\n{told}");
                assert!(!told.contains("PRIVATE KEY-"), "{text}\nis refused with\n{told}");
            }
            refused += 1;
        }
        assert!(refused > 0, "taken by both sides: {text}");
    }
}

#[test]
fn a_ring_that_is_logged_shows_no_key() {
    let lists = format!("v2_keys = [\"{SECRET}\"]\nv3_keys = [\"{SECRET}\"]\nv3_keys_retired = [\"{SECRET}\"]\n");
    let text = merchant(&[lists.as_str(), &platform_entry(CERTIFICATE_SERIAL, CERTIFICATE_PEM)].concat());
    for program in BOTH {
        let ring = merchants_file::parse(&text, program).unwrap();
        assert!(!format!("{ring:?} {ring:#?}").contains("SECRET"));
    }
}

fn v3_keys(text: &str, program: Program) -> Vec<String> {
    let ring = merchants_file::parse(text, program).unwrap_or_else(|error| panic!("{error}: {text}"));
    let keys = |merchant: &Merchant| merchant.v3_keys().map(|key| key.secret().expose_secret().to_owned()).collect();
    keys(ring.merchant("m").unwrap())
}

fn refusal(text: &str, program: Program) -> String {
    match merchants_file::parse(text, program) {
        Ok(_) => panic!("taken: {text}"),
        Err(error) => error.to_string(),
    }
}
