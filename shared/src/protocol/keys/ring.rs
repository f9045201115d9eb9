//! The key ring: who our merchants are and which keys authenticate their callbacks.
//!
//! Every live key of a merchant is valid at once: that is how keys are rotated. Each program has the keys that it needs and
//! no others.

use std::collections::{BTreeMap, HashMap};

use super::id::KeyId;
use super::platform::PlatformKey;
use super::secret::Key;
use super::sign_type::SignType;
use crate::domain::ids::MchId;

/// All merchants by `mch_id`.
#[derive(Debug, Default)]
pub struct KeyRing(HashMap<String, Merchant>);

/// One merchant's keys.
#[derive(Debug)]
pub struct Merchant {
    pub(crate) mch_id: MchId,
    /// The merchants whose orders it may combine with its own.
    pub(crate) combines: Vec<MchId>,
    pub(crate) v2_keys: Vec<Key>,
    pub(crate) sign_types: Vec<SignType>,
    pub(crate) v3_keys: Vec<Key>,
    pub(crate) platform_keys: Vec<PlatformKey>,
}

impl KeyRing {
    /// Adds a merchant; gives back the one that had its number before.
    pub(crate) fn insert(&mut self, merchant: Merchant) -> Option<Merchant> {
        self.0.insert(merchant.mch_id.as_str().to_owned(), merchant)
    }

    /// Whether it has no merchant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The merchant with this number.
    #[must_use]
    pub fn merchant(&self, mch_id: &str) -> Option<&Merchant> {
        self.0.get(mch_id)
    }

    /// The platform keys that several merchants list, by serial, each with its merchants: ingest accepts a callback at the
    /// address of any of them, but only the right one's keys open it.
    #[must_use]
    pub fn shared_platform_keys(&self) -> Vec<(&str, Vec<&str>)> {
        let mut merchants: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for merchant in self.merchants() {
            for key in merchant.platform_keys() {
                merchants.entry(key.id().name.as_str()).or_default().push(merchant.mch_id.as_str());
            }
        }
        let mut shared: Vec<_> = merchants.into_iter().filter(|(_, mch_ids)| mch_ids.len() > 1).collect();
        for (_, mch_ids) in &mut shared {
            mch_ids.sort_unstable();
        }
        shared
    }

    /// Every merchant, in no order.
    pub fn merchants(&self) -> impl Iterator<Item = &Merchant> {
        self.0.values()
    }
}

impl Merchant {
    /// Its number.
    #[must_use]
    pub fn mch_id(&self) -> &MchId {
        &self.mch_id
    }

    /// Whether its combined orders may include one of `mch_id`: its own always may.
    #[must_use]
    pub fn combines(&self, mch_id: &MchId) -> bool {
        self.mch_id == *mch_id || self.combines.contains(mch_id)
    }

    /// Every key that may have signed a v2 payment or encrypted a v2 refund.
    pub fn v2_keys(&self) -> impl Iterator<Item = &Key> {
        self.v2_keys.iter()
    }

    /// Every key that may have sealed the resource of a v3 callback; none in ingest.
    pub fn v3_keys(&self) -> impl Iterator<Item = &Key> {
        self.v3_keys.iter()
    }

    /// Every key of WeChat Pay's that may have signed a v3 callback; none in the worker.
    pub fn platform_keys(&self) -> impl Iterator<Item = &PlatformKey> {
        self.platform_keys.iter()
    }

    /// Whether the merchant accepts v2 callbacks signed with this digest. Only ingest restricts it: the worker accepts both,
    /// because a callback may have been answered SUCCESS before the rule was tightened.
    #[must_use]
    pub fn accepts(&self, sign_type: SignType) -> bool {
        self.sign_types.contains(&sign_type)
    }

    /// The ids of its keys, and whether each is retired.
    pub fn key_ids(&self) -> impl Iterator<Item = (&KeyId, bool)> {
        let secrets = self.v2_keys.iter().chain(&self.v3_keys).map(|key| (key.id(), key.is_retired()));
        secrets.chain(self.platform_keys.iter().map(|key| (key.id(), false)))
    }
}
