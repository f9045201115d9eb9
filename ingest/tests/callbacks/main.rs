//! What one callback gets for an answer, from the shipped binary on a real broker: SUCCESS for stored, and nothing else.
//!
//! [`outcomes`]: what is in the callback, and what the broker makes of it. [`v3`]: what else is in those that are not v2
//! payments. [`refusals`]: what an operator hears of those that are refused. [`clients`]: how it is sent. [`heads`]: how long
//! a head may take. [`limits`]: how many at once. [`wire`]: the client of these tests, which can say anything.

use std::time::Duration;

use anyhow::Result;
use kit::broker::Broker;
use kit::merchants::MerchantsFile;
use kit::program::Launch;
use kit::servers::Servers;
use shared::messaging::topology::CALLBACKS_QUEUE;

mod clients;
mod heads;
mod limits;
mod outcomes;
mod refusals;
mod v3;
mod wire;

/// WeChat Pay hangs up after 5 s; every answer must come well before that.
const ANSWERED_WITHIN: Duration = Duration::from_secs(4);

/// A broker and a merchants file, for one test.
struct Stage {
    broker: Broker,
    merchants: MerchantsFile,
}

impl Stage {
    async fn set() -> Result<Self> {
        let broker = Broker::create(&Servers::from_environment()?).await?;
        Ok(Self { broker, merchants: MerchantsFile::write()? })
    }

    fn ingest(&self) -> Result<Launch> {
        Launch::ingest(self.broker.ingest_url().as_str(), self.merchants.path())
    }

    async fn depth(&self) -> Result<u32> {
        self.broker.depth(CALLBACKS_QUEUE).await
    }
}
