//! Suspects: callbacks that were delivered so often that one of them may be crashing workers.
//!
//! A crash counts against everything that the worker had prefetched, so nearly all of them are innocent. They are tried in
//! batches, then in small ones, then alone; each attempt is counted and committed before it begins, so that the one that
//! crashes a worker is found in three attempts and left to an operator.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Sweeper;
use super::decide::Rows;
use crate::store::due as store;
use crate::store::session::{DatabaseUnavailable, Failure, Session, with_timeout};

/// How many suspects are tried together at the first, the second and the third attempt.
const TOGETHER: [i64; 3] = [256, 16, 1];
/// After this many attempts a suspect is left to an operator.
pub(super) const ATTEMPTS_MAX: i32 = 3;
/// How long a sweep spends on suspects, because the other causes must not wait for them.
const TIME_MAX: Duration = Duration::from_secs(1);

impl Sweeper {
    /// Tries suspects for a while.
    ///
    /// # Errors
    /// When the database is unavailable. The next call takes back the attempt that was counted and not made.
    pub(super) async fn try_suspects(
        &self,
        session: &mut Session,
        claimed: &mut Vec<i64>,
        stop: &CancellationToken,
    ) -> Result<(), DatabaseUnavailable> {
        if !claimed.is_empty() {
            with_timeout(store::unclaim_suspects(session.conn().await?, claimed)).await?;
            claimed.clear();
        }
        let started = Instant::now();
        for (attempts, together) in (0..).zip(TOGETHER) {
            while started.elapsed() < TIME_MAX && !stop.is_cancelled() {
                *claimed = with_timeout(store::claim_suspects(session.conn().await?, attempts, together)).await?;
                if claimed.is_empty() {
                    break;
                }
                match self.decide(session, Rows::Suspects(claimed), None).await {
                    Err(Failure::Unavailable(error)) => return Err(error),
                    Err(Failure::Fault(_)) if together == 1 => {
                        self.decide_alone(session, Rows::Suspects(claimed)).await?;
                    }
                    Ok(_) | Err(Failure::Fault(_)) => {}
                }
                claimed.clear();
            }
        }
        Ok(())
    }
}
