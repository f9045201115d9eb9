//! Why a merchants file was rejected. Each text says where to look; none shows a key.

use std::io;

use crate::domain::ids::MchId;
use crate::protocol::keys::{KeyError, PlatformKeyError};

/// Why a merchants file was rejected.
#[derive(Debug, thiserror::Error)]
pub enum MerchantsError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// Not the documented TOML.
    #[error("{0}")]
    Shape(String),
    /// There is no merchant in it.
    #[error("has no [[merchant]]")]
    Empty,
    /// A malformed `mch_id`, of the merchant at this place in the file, from 0.
    #[error("merchant {0}: mch_id is malformed")]
    MchId(usize),
    /// A merchant is listed twice.
    #[error("merchant {0} is listed twice")]
    Repeated(MchId),
    /// A merchant without a key that could authenticate its callbacks.
    #[error("merchant {mch_id}: has neither v2_keys nor {v3_list}")]
    NoKey {
        /// The merchant.
        mch_id: MchId,
        /// The other list that would do.
        v3_list: &'static str,
    },
    /// Ingest would accept callbacks that no worker has a key to open.
    #[error("merchant {0}: has v3_platform_keys but no v3_keys to open what they verify")]
    NoV3Key(MchId),
    /// A key is missing or invalid.
    #[error("merchant {mch_id}: {list}[{index}]: {problem}")]
    Key {
        /// The merchant.
        mch_id: MchId,
        /// The list in the file.
        list: &'static str,
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong with it.
        problem: KeyProblem,
    },
    /// A merchant accepts no digest at all.
    #[error("merchant {0}: v2_sign_types is empty")]
    NoSignType(MchId),
    /// A digest that WeChat Pay does not have.
    #[error("merchant {mch_id}: v2_sign_types[{index}] is neither MD5 nor HMAC-SHA256")]
    SignType {
        /// The merchant.
        mch_id: MchId,
        /// Its place in the list, from 0.
        index: usize,
    },
    /// An entry of `combines` is malformed or listed twice.
    #[error("merchant {mch_id}: combines[{index}] is not a merchant number, or is listed twice")]
    Combines {
        /// The merchant.
        mch_id: MchId,
        /// Its place in the list, from 0.
        index: usize,
    },
}

/// What is wrong with one key. Never repeats where the key comes from: the text after `file:` or `env:` may be a key, when a
/// template was filled in at the wrong place.
#[derive(Debug, thiserror::Error)]
pub enum KeyProblem {
    /// `file:` names a file that cannot be read.
    #[error("the file that it names cannot be read: {0}")]
    Unreadable(io::Error),
    /// `env:` names a variable that is not set, or not UTF-8.
    #[error("the variable that it names is not set")]
    Unset,
    /// It cannot be an API key.
    #[error("{0}")]
    Secret(KeyError),
    /// It is not a platform key.
    #[error("{0}")]
    Platform(PlatformKeyError),
    /// Two platform keys of one merchant have the same serial.
    #[error("its serial is listed twice")]
    RepeatedSerial,
}
