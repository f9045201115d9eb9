//! The measurements. Each part has a scene of its own, and interleaves its rounds: what one rate is compared with was
//! measured seconds before or after it. (Growth cannot: a table of ten million rows is filled once.)

mod end_to_end;
mod growth;
mod ingest;
mod memory;
mod shapes;
mod worker;

use std::time::Instant;

use anyhow::{Context, Result};

use crate::config::{Options, Part};
use crate::figures::Figures;
use crate::report;

/// Runs the parts. As soon as one is done its table is shown and the files are written: a run takes long and may be broken
/// off.
pub async fn run(options: &Options) -> Result<Figures> {
    let mut all = Figures::default();
    for part in options.parts() {
        let started = Instant::now();
        let before = all.names();
        match part {
            Part::Ingest => ingest::run(options, &mut all).await,
            Part::Worker => worker::run(options, &mut all).await,
            Part::EndToEnd => end_to_end::run(options, &mut all).await,
            Part::Shapes => shapes::run(options, &mut all).await,
            Part::Memory => memory::run(&mut all).await,
            Part::Growth => growth::run(options, &mut all).await,
        }
        .with_context(|| format!("measuring {part:?}"))?;
        println!("{part:?}, {} s\n{}\n", started.elapsed().as_secs(), report::table(&all, &before));
        report::write(options, &all)?;
    }
    Ok(all)
}

/// A line that says how far a part has come.
fn progress(text: &str) {
    eprintln!("  {text}");
}
