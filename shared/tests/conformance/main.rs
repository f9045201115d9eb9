//! Other people's vectors: official examples, public SDKs' fixtures and an independent signer's callbacks.
//!
//! They are not ours to copy. They are read from `COUNTERSIGN_VECTORS`, or from `../shared/vectors` beside the checkout.
//! Some are looser than WeChat Pay (keys of 16 bytes, nonces of 16): those must be refused, by the reason that is theirs.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail like tests")]

mod v2;
mod v3;

use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::Value;

/// Every kind of vector that is checked here, with how many there were when this was written.
const KINDS: [(&str, usize); 12] = [
    ("v2_sign_params", 8),
    ("v2_notify_xml", 12),
    ("v2_refund_notify_xml", 4),
    ("aes256_ecb_pkcs7", 3),
    ("xml_negative", 4),
    ("v3_signature", 6),
    ("v3_signature_negative", 1),
    ("v3_notify", 7),
    ("v3_aead", 9),
    ("v3_aead_negative", 2),
    ("rsa_sha256", 7),
    ("plaintext_fixture", 11),
];

#[test]
fn no_kind_of_vector_is_left_out() {
    let Some((_, vectors)) = vectors() else { return };
    let known = |kind: &str| KINDS.iter().any(|(known, _)| *known == kind);
    let left_out: Vec<&str> =
        vectors.iter().map(|vector| vector["kind"].as_str().unwrap()).filter(|kind| !known(kind)).collect();
    assert!(left_out.is_empty(), "nobody checks vectors of the kinds {left_out:?}");
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
        self.file("body_file")
    }

    /// The bytes of the file that `member` names.
    fn file(&self, member: &str) -> Vec<u8> {
        fs::read(self.1.join(self.text(member))).unwrap()
    }

    /// What must come out: the text of a member, or the bytes of a file.
    fn plaintext(&self) -> Vec<u8> {
        match self.0["expected_plaintext"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => self.file("plaintext_file"),
        }
    }
}

/// Checks every vector of a kind, and says how many there were.
#[track_caller]
fn each(kind: &str, check: impl Fn(&Vector)) {
    let (_, at_least) = KINDS.iter().find(|(known, _)| *known == kind).unwrap();
    let Some((folder, vectors)) = vectors() else { return };
    let of_kind: Vec<&Value> = vectors.iter().filter(|vector| vector["kind"] == kind).collect();
    assert!(of_kind.len() >= *at_least, "only {} of {at_least} vectors of kind {kind} are there", of_kind.len());
    for vector in &of_kind {
        check(&Vector(vector, &folder));
    }
    println!("{} vectors of kind {kind} checked", of_kind.len());
}

fn vectors() -> Option<(PathBuf, Vec<Value>)> {
    let folder = folder()?;
    let mut file: Value = serde_json::from_slice(&fs::read(folder.join("vectors.json")).unwrap()).unwrap();
    let Value::Array(vectors) = file["vectors"].take() else { panic!("vectors.json has no vectors") };
    Some((folder, vectors))
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
