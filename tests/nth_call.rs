//! For every n: the n-th read, write, sync, change of length, map, lock of a workload fails, once or
//! from then on. The error surfaces, what the open database shows is one of the states that it had,
//! nothing that was acknowledged is lost, and a reopen is clean, whether the process went on, was
//! killed, or the power went.

mod common;

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

use aurora::Error;
use aurora::storage::{SimCrash, SimDisk, SimFailedSync, SimFault, SimOperation};
use common::cuts::verify;
use common::ops::{History, Op, Work, base};
use common::world::{SetClock, World, difference, observe, set_now};
use common::{budget, each};

const START_MS: u64 = 1_750_000_000_000;

/// All operations, with those that write much early enough that others come after them.
const WORKLOAD: [Op; 31] = [
    Op::Put,
    Op::Run,
    Op::Buffered,
    Op::PutBlob,
    Op::Insert,
    Op::Checkpoint,
    Op::Overflow,
    Op::Large,
    Op::Update,
    Op::CreateIndex,
    Op::AppendBlob,
    Op::PutTtl,
    Op::Savepoint,
    Op::DeleteRange,
    Op::CompactStep,
    Op::CreateTree,
    Op::Expire,
    Op::RolledBack,
    Op::RenameTree,
    Op::DropIndex,
    Op::Replace,
    Op::Reopen,
    Op::Mixed,
    Op::DeleteDocument,
    Op::NewCollection,
    Op::DeleteBlob,
    Op::DropTree,
    Op::DeleteCollection,
    Op::Delete,
    Op::Large,
    Op::Checkpoint,
];

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
struct Case {
    operation: SimOperation,
    nth: u64,
    lasts: bool,
    fault: SimFault,
    failed_sync: SimFailedSync,
}

/// An error that a fault of the disk may come out as.
fn is_expected(error: &Error) -> bool {
    error.is_io()
        || error.is_poisoned()
        || error.is_disk_full()
        || matches!(error, Error::TransactionFailed)
}

/// Runs the workload; returns how many calls failed.
fn run(image: &[u8], world: &World, case: Case) -> u64 {
    let what = || format!("{case:?}");
    let clock = SetClock::at(START_MS);
    set_now(START_MS);
    let disk = SimDisk::from_image(image.to_vec(), 3);
    disk.set_failed_sync(case.failed_sync);
    if case.lasts {
        disk.fail_from(case.operation, case.nth, case.fault);
    } else {
        disk.fail_once(case.operation, case.nth, case.fault);
    }
    let history = History::new(world.clone());
    let mut errors = 0;
    let mut work = match Work::start(disk.clone(), clock.clone(), history.clone()) {
        Ok(work) => work,
        Err(error) => {
            assert!(is_expected(&error), "{}: open: {error}", what());
            // The fault was in the open: without it all is there.
            disk.clear_faults();
            verify(&disk.kill_image(), &history.states, START_MS, &what);
            return 1;
        }
    };
    for (number, op) in WORKLOAD.iter().enumerate() {
        let Err(error) = work.step(*op, number as u64) else {
            continue;
        };
        errors += 1;
        assert!(is_expected(&error), "{}: {op:?}: {error}", what());
        if work.db.is_none() {
            break; // it failed to close, or to open
        }
        let is_poisoned = work.db().flush().is_err();
        if case.lasts {
            break;
        }
        set_now(clock.now());
        let found = observe(work.db())
            .unwrap_or_else(|error| panic!("{}: reading after {op:?}: {error}", what()));
        let states = &work.history.states;
        let from = work.history.acknowledged;
        let shown = (from..states.len())
            .rev()
            .find(|index| states[*index].at(clock.now()) == found)
            .unwrap_or_else(|| {
                let last = &states[states.len() - 1].at(clock.now());
                panic!("{}: after {op:?}: {}", what(), difference(&found, last))
            });
        if is_poisoned {
            break;
        }
        // It says that what failed did not happen, and goes on from there.
        work.history.states.truncate(shown + 1);
    }
    let now_ms = clock.now();
    let possible = work.history.possible().to_vec();
    let killed = disk.kill_image();
    let lost = disk.crash_image(SimCrash::LoseAll);
    let torn = disk.crash_image(SimCrash::Sectors { seed: case.nth });
    drop(work);
    disk.clear_faults();
    verify(&killed, &possible, now_ms, &|| {
        format!("{}, killed", what())
    });
    verify(&lost, &possible, now_ms, &|| format!("{}, lost", what()));
    verify(&torn, &possible, now_ms, &|| format!("{}, torn", what()));
    verify(&disk.kill_image(), &possible, now_ms, &|| {
        format!("{}, closed", what())
    });
    errors
}

fn cases(image: &[u8], world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    // How many calls of each kind there are, without a fault.
    let disk = SimDisk::from_image(image.to_vec(), 3);
    let clock = SetClock::at(START_MS);
    let mut work = Work::start(disk.clone(), clock, History::new(world.clone())).unwrap();
    for (number, op) in WORKLOAD.iter().enumerate() {
        work.step(*op, number as u64).unwrap();
    }
    drop(work);
    let counters = disk.counters();
    for operation in SimOperation::ALL {
        let calls = counters.calls(operation);
        println!("{calls} calls of {operation:?}");
        let faults: &[SimFault] = match operation {
            SimOperation::Write | SimOperation::WriteSync => &[
                SimFault::Eio,
                SimFault::Partial,
                SimFault::Error(ErrorKind::StorageFull),
            ],
            SimOperation::SetLength => &[SimFault::Eio, SimFault::Error(ErrorKind::StorageFull)],
            _ => &[SimFault::Eio],
        };
        let failed_syncs: &[SimFailedSync] = match operation.is_sync() {
            true => &[
                SimFailedSync::Lost,
                SimFailedSync::Kept,
                SimFailedSync::Partly,
            ],
            false => &[SimFailedSync::Lost],
        };
        for nth in 1..=calls {
            for &fault in faults {
                for &failed_sync in failed_syncs {
                    for lasts in [false, true] {
                        cases.push(Case {
                            operation,
                            nth,
                            lasts,
                            fault,
                            failed_sync,
                        });
                    }
                }
            }
        }
    }
    cases
}

#[test]
fn whichever_call_fails_nothing_acknowledged_is_lost() {
    let clock = SetClock::at(START_MS);
    let mut runs = 0;
    for is_closed in [true, false] {
        let (image, world) = base(is_closed, &clock);
        let cases = cases(&image, &world);
        // The second file is for what differs: its open.
        let stride = if is_closed {
            1
        } else {
            (16 / budget(1)).max(1)
        };
        let cases: Vec<Case> = cases.into_iter().step_by(stride as usize).collect();
        let failed = AtomicU64::new(0);
        each(&cases, |case| {
            let errors = run(&image, &world, *case);
            failed.fetch_add(u64::from(errors > 0), Ordering::Relaxed);
        });
        runs += cases.len();
        println!(
            "{} runs, in {failed:?} of them something failed",
            cases.len()
        );
        assert!(failed.into_inner() > cases.len() as u64 / 2);
    }
    println!("{runs} runs, four images each");
}
