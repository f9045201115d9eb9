//! Keys change while callbacks arrive: nothing is lost, and no callback that either key signed is refused.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use kit::callback::{Callback, Refund};
use kit::merchants::{
    CERTIFICATE_PEM, CERTIFIED, KEY, KNOWN_BY_ID, MERCHANT, MerchantsFile, PUBLIC_KEY_PEM, V3_KEY, platform_entry,
};
use kit::post::{Post, post};
use kit::program::{Program, Signal};
use kit::test_env::TestEnv;
use kit::v3::Event;
use kit::{TestResult, until};
use tokio::task::JoinSet;

const NEXT_KEY: &str = "the-next-v2-key-0000000000000001";
const NEXT_V3_KEY: &str = "the-next-v3-key-0000000000000001";
/// Posting at the same time.
const CLIENTS: usize = 4;

/// Which generation of every key signs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    Old,
    Next,
}

/// One callback of each kind for an order of its own.
fn callbacks(order: &str, keys: Keys) -> [Post; 3] {
    let next = keys == Keys::Next;
    let (v2, v3) = if next { (NEXT_KEY, NEXT_V3_KEY) } else { (KEY, V3_KEY) };
    let event = Event::payment(&format!("{order}-v3")).key(v3);
    let payment = Callback::payment(&format!("{order}-v2")).key(v2);
    let refund = Refund::of(&format!("{order}-v2"), payment.get("transaction_id"), "refund").key(v2);
    [
        Post::from(payment.body()),
        Post::from(&refund),
        Post::from(&if next { event.platform(&KNOWN_BY_ID) } else { event }),
    ]
}

/// Posts callbacks signed with the old and the next keys in turn, until it is stopped; every answer must be SUCCESS.
async fn keep_posting(
    ingest: std::net::SocketAddr,
    client: usize,
    both: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    told: Arc<AtomicUsize>,
) -> Result<()> {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // No callback is signed with the next key before every program has it.
        let keys = if both.load(Ordering::Relaxed) && number % 2 == 1 { Keys::Next } else { Keys::Old };
        for callback in callbacks(&format!("order-{client}-{number}"), keys) {
            let kind = callback.kind;
            let reply = post(ingest, callback).await?;
            ensure!(reply.is_success(), "{kind:?} number {number}: {reply:?}");
            told.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn file(v2: &str, v3: &str, platform: &str) -> String {
    format!("[[merchant]]\nmch_id = \"{MERCHANT}\"\nv2_keys = [{v2}]\nv3_keys = [{v3}]\n{platform}")
}

async fn reload(merchants: &MerchantsFile, text: &str, program: &Program, reloads: usize) -> Result<()> {
    merchants.replace(text)?;
    program.send(Signal::Reload)?;
    until("the file is read again", async || {
        let lines = program.log()?.lines().filter(|line| line.contains("merchant 1900000109:")).count();
        ensure!(lines > reloads, "it was read {lines} times");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_under_load_loses_nothing_and_refuses_nothing_that_either_key_signed() -> TestResult {
    let env = TestEnv::start().await?;
    let certified = platform_entry(&CERTIFIED, CERTIFICATE_PEM);
    let both_platforms = format!("{certified}{}", platform_entry(&KNOWN_BY_ID, PUBLIC_KEY_PEM));
    let old = file(&format!("\"{KEY}\""), &format!("\"{V3_KEY}\""), &certified);
    let all = file(&format!("\"{NEXT_KEY}\", \"{KEY}\""), &format!("\"{NEXT_V3_KEY}\", \"{V3_KEY}\""), &both_platforms);
    env.merchants.replace(&old)?;
    let ingest = env.start_ingest().await?;
    let worker = env.start_worker().await?;

    let (both, stop, told) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(keep_posting(ingest.public(), client, both.clone(), stop.clone(), told.clone()));
    }
    let until_told = async |more: usize| {
        let target = told.load(Ordering::Relaxed) + more;
        until("callbacks are answered SUCCESS", async || {
            ensure!(told.load(Ordering::Relaxed) >= target, "not yet");
            Ok(())
        })
        .await
    };
    until_told(60).await?;
    // The worker first, so that it can open what ingest will take.
    reload(&env.merchants, &all, &worker, 1).await?;
    reload(&env.merchants, &all, &ingest, 1).await?;
    both.store(true, Ordering::Relaxed);
    for reloads in 2..6 {
        until_told(30).await?;
        reload(&env.merchants, &all, &worker, reloads).await?;
        reload(&env.merchants, &all, &ingest, reloads).await?;
    }
    until_told(60).await?;
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client??;
    }

    // No order exists: every callback answered SUCCESS waits for one, or for its payment, and nothing waits for a key.
    let told = told.load(Ordering::Relaxed);
    let ledger = env.until_ledger_has(told).await?;
    let waiting = env.outcomes().await?;
    let expected = ["waiting for_order", "waiting for_payment"];
    assert!(waiting.keys().eq(expected) && waiting.values().sum::<usize>() == told, "{waiting:?}");
    let bodies: HashSet<_> = ledger.iter().map(|row| row.body.as_slice()).collect();
    assert_eq!(bodies.len(), told);
    let refused = "outcome=\"not_authentic\"";
    assert_eq!(ingest.metric("ingest_callbacks_total", &[refused]).await?, 0);
    for (program, purpose) in [(&ingest, "v2"), (&ingest, "platform"), (&worker, "v2"), (&worker, "v3")] {
        let page = program.admin_page("/metrics").await?;
        let label = format!("purpose=\"{purpose}\"");
        let used = |line: &&str| line.starts_with("callback_key_uses_total") && line.contains(&label);
        let counts: Vec<u64> =
            page.lines().filter(used).filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        let last_used = program.metric("callback_key_last_used_seconds", &[&label]).await?;
        assert!(last_used > 1_700_000_000, "{purpose}: {last_used}");
        assert!(counts.len() == 2 && counts.iter().all(|uses| *uses > 0), "{purpose}: {counts:?}");
    }
    Ok(())
}
