//! Instructions, by callgrind: what timing cannot resolve.

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;

use heirloom::DrainPhase;
use tokio::runtime::Builder;

use crate::table::Table;
use crate::{Failure, Options, service};

const OPERATIONS: [(&str, &str); 4] = [
    ("guard", "guard, taken and dropped"),
    ("clone", "guard, cloned and dropped"),
    ("phase", "guard, phase looked at"),
    ("arc", "Arc, cloned and dropped"),
];
const FEW: u64 = 1_000;
const MANY: u64 = 101_000;

pub(crate) fn measure(_: &Options, table: &mut Table) -> Result<(), Failure> {
    table.part("instructions", "Instructions of one operation, by callgrind");
    if Command::new("valgrind").arg("--version").output().is_err() {
        table.skipped("valgrind is not installed");
        return Ok(());
    }
    for (operation, what) in OPERATIONS {
        let counted = collected(operation, FEW).and_then(|few| {
            let many = collected(operation, MANY)?;
            Ok(many.saturating_sub(few) as f64 / (MANY - FEW) as f64)
        });
        match counted {
            Ok(instructions) => table.line(what, instructions, ""),
            Err(why) => table.skipped(&why.to_string()),
        }
    }
    Ok(())
}

/// The instructions of a whole process that does an operation so many times.
fn collected(operation: &str, times: u64) -> Result<u64, Failure> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--count", operation, &times.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        // Before 3.21 valgrind does not know `pidfd_open(2)`, without which no service starts.
        let said = text.lines().find(|line| line.starts_with("steady:")).unwrap_or(&text);
        return Err(format!("under valgrind: {said}").into());
    }
    let collected = text.lines().find_map(|line| line.split("Collected : ").nth(1));
    Ok(collected.ok_or_else(|| format!("callgrind said: {text}"))?.trim().parse()?)
}

/// The process that callgrind looks at.
pub(crate) fn count(mut args: impl Iterator<Item = String>) -> Result<(), Failure> {
    let operation = args.next().ok_or("which operation?")?;
    let times: usize = args.next().ok_or("how often?")?.parse()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let running = runtime.block_on(async { Ok::<_, Failure>(service().await?.ready().await?) })?;
    let guards = running.guards("bench")?;
    let held = guards.take();
    let shared = Arc::new(0_u8);
    for _ in 0..times {
        match operation.as_str() {
            "guard" => drop(black_box(guards.take())),
            "clone" => drop(black_box(held.clone())),
            "phase" => assert_eq!(black_box(&held).phase(), DrainPhase::Serving),
            "arc" => drop(black_box(Arc::clone(&shared))),
            other => return Err(format!("no operation {other}").into()),
        }
    }
    Ok(())
}
