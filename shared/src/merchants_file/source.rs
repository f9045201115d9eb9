//! Where a key comes from: `file:PATH`, `env:NAME`, or the key itself.

use secrecy::{ExposeSecret, SecretString};

use super::error::KeyProblem;

/// The text that `source` stands for. Of a file, trailing line ends are dropped.
pub(super) fn resolve(source: &SecretString) -> Result<SecretString, KeyProblem> {
    let source = source.expose_secret();
    if let Some(path) = source.strip_prefix("file:") {
        let text = std::fs::read_to_string(path).map_err(KeyProblem::Unreadable)?;
        Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
    } else if let Some(name) = source.strip_prefix("env:") {
        Ok(SecretString::from(std::env::var(name).map_err(|_| KeyProblem::Unset)?))
    } else {
        Ok(SecretString::from(source))
    }
}
