//! The merchants file: where keys come from, what is refused, and that no error ever shows a key.
#![expect(clippy::panic, reason = "helpers of tests fail like tests")]

use std::fs;

use secrecy::ExposeSecret;
use shared::domain::ids::MchId;
use shared::merchants_file::{self, Program};
use shared::protocol::keys::{Merchant, Purpose, SignType};

const SECRET: &str = "SECRETSECRETSECRETSECRETSECRET00";

#[test]
fn a_key_is_itself_or_in_a_file_or_in_the_environment() {
    let folder = std::env::temp_dir().join(format!("merchants-test-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("key");
    fs::write(&file, "from-a-file\r\n").unwrap();
    // Set for every test by cargo itself, and it would do as a key.
    let variable = "CARGO_PKG_NAME";
    let text = format!(
        "[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"literal\", \"file:{}\", \"env:{variable}\"]",
        file.display()
    );
    let ring = merchants_file::parse(&text, Program::Ingest).unwrap();
    assert_eq!(keys(ring.merchant("m").unwrap()), ["literal", "from-a-file", "shared"]);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn retired_keys_open_queued_callbacks_but_not_new_ones() {
    let text = "[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"new\"]\nv2_keys_retired = [\"old\", \"older\"]";
    let keys_of = |program| keys(merchants_file::parse(text, program).unwrap().merchant("m").unwrap());
    assert_eq!(keys_of(Program::Ingest), ["new"]);
    assert_eq!(keys_of(Program::Worker), ["new", "old", "older"]);
}

#[test]
fn a_merchant_accepts_both_digests_at_the_edge_unless_it_says_otherwise() {
    let accepts_at = |program, line: &str| {
        let text = format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\n{line}");
        let ring = merchants_file::parse(&text, program).unwrap();
        [SignType::Md5, SignType::HmacSha256].map(|sign_type| ring.merchant("m").unwrap().accepts(sign_type))
    };
    let accepts = |line| accepts_at(Program::Ingest, line);
    assert_eq!(accepts(""), [true, true]);
    assert_eq!(accepts("v2_sign_types = [\"MD5\", \"HMAC-SHA256\"]"), [true, true]);
    assert_eq!(accepts("v2_sign_types = [\"HMAC-SHA256\"]"), [false, true]);
    assert_eq!(accepts("v2_sign_types = [\"MD5\"]"), [true, false]);
    // What the edge took before its rule was tightened was answered SUCCESS.
    for line in ["", "v2_sign_types = [\"HMAC-SHA256\"]", "v2_sign_types = [\"MD5\"]"] {
        assert_eq!(accepts_at(Program::Worker, line), [true, true], "{line}");
    }
}

#[test]
fn a_merchant_combines_its_own_orders_and_those_that_the_file_names() {
    let text = "[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\ncombines = [\"n\", \"o\"]\n
                [[merchant]]\nmch_id = \"n\"\nv2_keys = [\"k\"]";
    for program in [Program::Ingest, Program::Worker] {
        let ring = merchants_file::parse(text, program).unwrap();
        let combines = |mch_id: &str| {
            ["m", "n", "o", "p"].map(|other| ring.merchant(mch_id).unwrap().combines(&MchId::parse(other).unwrap()))
        };
        assert_eq!(combines("m"), [true, true, true, false]);
        assert_eq!(combines("n"), [false, true, false, false]);
    }
}

#[test]
fn a_merchant_outside_the_file_is_unknown() {
    let ring = merchants_file::parse("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]", Program::Ingest).unwrap();
    assert!(ring.merchant("M").is_none());
    assert!(ring.merchant("").is_none());
    assert_eq!(ring.merchants().count(), 1);
}

#[test]
fn a_file_that_is_wrong_is_refused_with_the_place() {
    let too_long = "k".repeat(129);
    let cases = [
        ("", "has no [[merchant]]"),
        ("[[merchant]]\nv2_keys = [\"k\"]", "mch_id"),
        ("[[merchant]]\nmch_id = \"m\"", "merchant m: has neither v2_keys nor v3_keys"),
        ("[[merchant]]\nmch_id = \"m\"\nv2_keys = []", "merchant m: has neither v2_keys nor v3_keys"),
        (
            "[[merchant]]\nmch_id = \"m\"\nv2_keys = []\nv2_keys_retired = [\"k\"]",
            "merchant m: has neither v2_keys nor v3_keys",
        ),
        ("[[merchant]]\nmch_id = \"\"\nv2_keys = [\"k\"]", "merchant 0: mch_id is malformed"),
        (
            "[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\nv2_key = \"x\"",
            "line 4: unknown field, expected one of `mch_id`",
        ),
        ("[[merchants]]\nmch_id = \"m\"\nv2_keys = [\"k\"]", "line 1: unknown field, expected `merchant`"),
        ("[[merchant]]\nmch_id = 1900000109\nv2_keys = [\"k\"]", "line 2"),
        (
            "[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\n[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"l\"]",
            "merchant m is listed twice",
        ),
        (
            "[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\nv2_sign_types = [\"SHA1\"]",
            "merchant m: v2_sign_types[0] is neither MD5 nor HMAC-SHA256",
        ),
        ("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\nv2_sign_types = []", "v2_sign_types"),
        ("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\", \"\"]", "merchant m: v2_keys[1]: the key is empty"),
        (
            "[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\nv2_keys_retired = [\"a b\"]",
            "merchant m: v2_keys_retired[0]",
        ),
        (
            &format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"{too_long}\"]"),
            "merchant m: v2_keys[0]: the key is longer than 128 bytes",
        ),
        (
            "[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"file:/nowhere/at/all\"]",
            "merchant m: v2_keys[0]: the file that it names cannot be read: No such file",
        ),
        (
            "[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"env:NO_SUCH_VARIABLE\"]",
            "merchant m: v2_keys[0]: the variable that it names is not set",
        ),
        (
            "[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\ncombines = [\"n\", \"\"]",
            "merchant m: combines[1] is not a merchant number, or is listed twice",
        ),
        (
            "[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\ncombines = [\"n\", \"o\", \"n\"]",
            "merchant m: combines[2] is not a merchant number, or is listed twice",
        ),
        ("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\ncombines = \"n\"", "line 4: invalid type"),
    ];
    for (text, expected) in cases {
        let told = refusal(text);
        assert!(told.contains(expected), "{text:?} is refused with {told:?}");
        assert_eq!(told.lines().count(), 1, "{told:?} is more than one line");
    }
}

#[test]
fn a_file_that_is_not_there_is_said_to_be_unreadable() {
    let error = merchants_file::load("/nowhere/at/all".as_ref(), Program::Ingest).unwrap_err();
    assert!(error.to_string().starts_with("cannot be read"), "{error}");
}

#[test]
fn no_error_shows_a_key() {
    let texts = [
        // Not TOML at all, at every place of the line that holds the key.
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"{SECRET}]"),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [{SECRET}]"),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = {SECRET}"),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"{SECRET}\"\nv2_sign_types = []"),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"{SECRET}\"] {SECRET}"),
        // Of the wrong type.
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = \"{SECRET}\""),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = {{ key = \"{SECRET}\" }}"),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [[\"{SECRET}\"]]"),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = \"{SECRET}, expected \\\"{SECRET}\""),
        // Under a name that is not known.
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\nv2_key = \"{SECRET}\""),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\n{SECRET} = \"k\""),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\n\"{SECRET}`, expected `x\" = 1"),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\n{SECRET} = 1\n{SECRET} = 1"),
        format!("[[{SECRET}]]\nmch_id = \"m\""),
        format!("{SECRET} = 1"),
        // At the place of a variable, a file, a digest or a merchant: templates are filled in at the wrong place.
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"env:{SECRET}\"]"),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"file:{SECRET}\"]"),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\nv2_sign_types = [\"{SECRET}\"]"),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\ncombines = [\"{SECRET}\", \"{SECRET}\"]"),
        // With characters that no key has, or too long.
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"{SECRET} \"]"),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"{}\"]", SECRET.repeat(5)),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"k\"]\nv2_keys_retired = [\"{SECRET}中\"]"),
        // Next to a merchant that is listed twice.
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"{SECRET}\"]\n").repeat(2),
    ];
    for text in texts {
        let error = merchants_file::parse(&text, Program::Worker).unwrap_err();
        for told in [error.to_string(), format!("{error:?}")] {
            assert!(!told.contains("SECRET"), "{text}\nis refused with\n{told}");
        }
    }
}

#[test]
fn a_ring_that_is_logged_shows_no_key() {
    let text = format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"{SECRET}\"]\nv2_keys_retired = [\"{SECRET}\"]");
    let ring = merchants_file::parse(&text, Program::Worker).unwrap();
    assert!(!format!("{ring:?}").contains("SECRET"));
    let ids: Vec<_> = ring.merchant("m").unwrap().key_ids().collect();
    assert_eq!(ids.iter().map(|(_, is_retired)| *is_retired).collect::<Vec<_>>(), [false, true]);
    assert!(ids.iter().all(|(id, _)| id.name.len() == 8 && !SECRET.contains(id.name.as_str())), "{ids:?}");
    assert_eq!(ids[0].0.purpose, Purpose::V2);
}

fn keys(merchant: &Merchant) -> Vec<String> {
    merchant.v2_keys().map(|key| key.secret().expose_secret().to_owned()).collect()
}

fn refusal(text: &str) -> String {
    match merchants_file::parse(text, Program::Worker) {
        Ok(_) => panic!("taken: {text}"),
        Err(error) => error.to_string(),
    }
}
