//! Other people's vectors: official examples, public SDKs' fixtures and an independent signer's callbacks.
//!
//! They are not ours to copy. They are read from `COUNTERSIGN_VECTORS`, or from `../shared/vectors` beside the checkout.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail like tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use secrecy::SecretString;
use serde_json::Value;
use shared::protocol::merchants::{KeyRing, Side};
use shared::protocol::v2::payment;
use shared::protocol::v2::signature::{SignType, sign_fields};
use shared::protocol::v2::xml;

#[test]
fn parameters_are_signed_as_others_sign_them() {
    each("v2_sign_params", |vector| {
        let parameters: BTreeMap<String, Value> = serde_json::from_slice(&vector.body()).unwrap();
        let parameters: BTreeMap<String, String> = parameters
            .into_iter()
            .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect();
        let fields = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let sign_type = SignType::parse(vector.text("sign_type")).unwrap();
        let sign = sign_fields(fields, &SecretString::from(vector.text("key")), sign_type);
        assert_eq!(sign, vector.text("expected_sign"), "{}", vector.name());
    });
}

#[test]
fn callbacks_are_accepted_and_refused_as_a_strict_receiver_should() {
    each("v2_notify_xml", |vector| {
        let body = vector.body();
        let Some(expected) = vector.0["expected_valid"].as_bool() else {
            // Signed with a key that nobody published: only its shape can be looked at.
            let fields = xml::read(&body).unwrap();
            assert_eq!(fields.claimed("sign"), vector.0["sign_in_body"].as_str(), "{}", vector.name());
            return;
        };
        let claimed = xml::read(&body).ok().and_then(|fields| fields.claimed("mch_id").map(str::to_owned));
        let mch_id = claimed.unwrap_or_else(|| "1900000109".to_owned());
        let ring = format!("[[merchant]]\nmch_id = \"{mch_id}\"\nv2_keys = [\"{}\"]", vector.text("key"));
        let ring = KeyRing::parse(&ring, Side::Edge).unwrap();
        let fields = payment::authenticate(&body, &ring);
        assert_eq!(fields.is_ok(), expected, "{}: {:?}", vector.name(), fields.err());
        let Ok(fields) = fields else { return };
        for (name, value) in vector.0["expected_fields"].as_object().into_iter().flatten() {
            assert_eq!(fields.get(name), value.as_str(), "{}: {name}", vector.name());
        }
        payment::decode(&fields).unwrap_or_else(|error| panic!("{}: {error}", vector.name()));
    });
}

#[test]
fn hostile_xml_is_refused() {
    each("xml_negative", |vector| {
        assert!(xml::read(&vector.body()).is_err(), "{} was read", vector.name());
    });
}

/// One entry of `vectors.json`.
struct Vector<'file>(&'file Value, &'file Path);

impl Vector<'_> {
    fn text(&self, member: &str) -> &str {
        self.0[member].as_str().unwrap_or_else(|| panic!("{} has no {member}", self.0["name"]))
    }

    fn name(&self) -> &str {
        self.text("name")
    }

    fn body(&self) -> Vec<u8> {
        fs::read(self.1.join(self.text("body_file"))).unwrap()
    }
}

/// Checks every vector of a kind and says how many there were.
fn each(kind: &str, check: impl Fn(&Vector)) {
    let Some(folder) = folder() else { return };
    let file: Value = serde_json::from_slice(&fs::read(folder.join("vectors.json")).unwrap()).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    let checked =
        vectors.iter().filter(|vector| vector["kind"] == kind).inspect(|vector| check(&Vector(vector, &folder)));
    let checked = checked.count();
    assert!(checked > 0, "{} has no vector of kind {kind}", folder.display());
    println!("{checked} vectors of kind {kind} checked");
}

fn folder() -> Option<PathBuf> {
    let named = env::var_os("COUNTERSIGN_VECTORS").map(PathBuf::from);
    let is_named = named.is_some();
    let folder = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"));
    if folder.join("vectors.json").exists() {
        return Some(folder);
    }
    assert!(!is_named, "COUNTERSIGN_VECTORS names {}, which has no vectors.json", folder.display());
    println!("NOT CHECKED: there are no vectors in {}; set COUNTERSIGN_VECTORS", folder.display());
    None
}
