//! `MERCHANTS_FILE`: who the merchants are and which keys they have.
//!
//! Reading order: `parse` (TOML → key ring, each program only its own keys), `source` (a key in a file or a variable),
//! `reload` (the file in use, re-read on SIGHUP), `meter` (which keys are still used), `error`.

pub use self::error::{KeyProblem, MerchantsError};
pub use self::meter::MeteredKeyRing;
pub use self::parse::{Program, load, parse};
pub use self::reload::MerchantsFile;

mod error;
mod meter;
mod parse;
mod reload;
mod source;
