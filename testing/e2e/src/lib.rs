//! Tests of the whole pipeline: the shipped programs on real servers. They are in `tests/pipeline`, one file per subject;
//! `tests/scripts.rs` tests `./dev`. `swaps/` holds known bugs, as patches, that these tests must catch (`./dev swaps`).
#![allow(missing_docs, clippy::missing_errors_doc, reason = "nothing here ships")]
