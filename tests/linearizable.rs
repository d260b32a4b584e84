//! Eight threads read, write, swap, count and delete the same few keys, through the hot tier and
//! past it, full and buffered, while checkpoints and compactions run: for each key there is an
//! order of the calls, within their times, in which each answer is the one that a plain variable
//! would give (Wing & Gong's search, with the memory of Lowe).

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use aurora::storage::{MemoryStorage, SimDisk, Storage};
use aurora::{Aurora, Durability, Swap};
use common::{Random, budget, repeatable};

const THREADS: u64 = 8;
const KEYS: u64 = 2;
/// Of each thread; all calls of one key must fit a mask of 64 bits.
const CALLS: u64 = 8;

/// A call, with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Read(Option<i64>),
    Write(i64),
    Delete(bool),
    Swap(Option<i64>, Option<i64>, bool),
    Increment(i64, i64),
}

/// A call, and when it began and ended, in steps of one clock for all.
#[derive(Debug, Clone, Copy)]
struct Event {
    call: Call,
    from: u64,
    to: u64,
}

impl Call {
    /// The state after it, if its answer fits the state before it.
    fn after(self, state: Option<i64>) -> Option<Option<i64>> {
        match self {
            Call::Read(found) => (found == state).then_some(state),
            Call::Write(value) => Some(Some(value)),
            Call::Delete(was) => (was == state.is_some()).then_some(None),
            Call::Swap(expected, new, done) => {
                let fits = (state == expected) == done;
                fits.then_some(if done { new } else { state })
            }
            Call::Increment(by, sum) => (state.unwrap_or(0) + by == sum).then_some(Some(sum)),
        }
    }
}

/// Whether there is an order of the calls that fits.
fn is_linearizable(events: &[Event], start: Option<i64>) -> bool {
    assert!(events.len() <= 64);
    let all = if events.len() == 64 {
        u64::MAX
    } else {
        (1 << events.len()) - 1
    };
    let mut seen = HashSet::new();
    let mut open = vec![(0u64, start)];
    while let Some((done, state)) = open.pop() {
        if done == all {
            return true;
        }
        let left = || (0..events.len()).filter(|i| done >> i & 1 == 0);
        // Nothing can come before what ended before it began.
        let first_end = left().map(|i| events[i].to).min().unwrap_or(0);
        for i in left().filter(|i| events[*i].from <= first_end) {
            if let Some(after) = events[i].call.after(state)
                && seen.insert((done | 1 << i, after))
            {
                open.push((done | 1 << i, after));
            }
        }
    }
    false
}

fn number(bytes: &[u8]) -> i64 {
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}

fn text(number: Option<i64>) -> Option<String> {
    number.map(|number| number.to_string())
}

fn call(db: &Aurora, key: &str, random: &mut Random) -> Call {
    let durability = match random.chance(2) {
        true => Durability::Full,
        false => Durability::Buffered,
    };
    // What is written once only tells most.
    let value = (random.next() >> 16) as i64;
    match random.below(12) {
        0..=2 => Call::Read(db.get(key).unwrap().map(|value| number(&value))),
        3 | 4 => {
            let snapshot = db.begin_read().unwrap();
            Call::Read(snapshot.get(key).unwrap().map(|value| number(&value)))
        }
        5 | 6 => {
            let mut tx = db.begin_write().unwrap();
            tx.set_durability(durability);
            tx.put(key, value.to_string(), None).unwrap();
            tx.commit().unwrap();
            Call::Write(value)
        }
        7 => {
            let mut tx = db.begin_write().unwrap();
            tx.set_durability(durability);
            let was = tx.delete(key).unwrap();
            tx.commit().unwrap();
            Call::Delete(was)
        }
        8 | 9 => {
            let sum = db.increment(key, 1).unwrap();
            Call::Increment(1, sum)
        }
        _ => {
            let expected = db.get(key).unwrap().map(|value| number(&value));
            let new = (!random.chance(5)).then_some(value);
            let (old, text) = (text(expected), text(new));
            let old = old.as_ref().map(|text| text.as_bytes());
            let text = text.as_ref().map(|text| text.as_bytes());
            let swap = db.compare_and_swap(key, old, text).unwrap();
            Call::Swap(expected, new, matches!(swap, Swap::Done))
        }
    }
}

/// One round on an open database; the histories of all keys.
fn round(db: &Aurora, seed: u64) -> Vec<Vec<Event>> {
    let clock = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    let start = Barrier::new(THREADS as usize + 1);
    let mut histories = vec![Vec::new(); KEYS as usize];
    std::thread::scope(|scope| {
        let (clock, start, is_over) = (&clock, &start, &is_over);
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut random = Random(seed << 8 | thread);
                    start.wait();
                    let mut events = Vec::new();
                    for _ in 0..CALLS {
                        let key = random.below(KEYS);
                        let from = clock.fetch_add(1, Ordering::SeqCst);
                        let call = call(db, &format!("key {key}"), &mut random);
                        let to = clock.fetch_add(1, Ordering::SeqCst);
                        events.push((key, Event { call, from, to }));
                    }
                    events
                })
            })
            .collect();
        let background = scope.spawn(move || {
            let mut random = Random(seed);
            start.wait();
            while !is_over.load(Ordering::Relaxed) {
                match random.below(3) {
                    0 => db.checkpoint().unwrap(),
                    1 => drop(db.compact().unwrap()),
                    // Pages come free and are used again.
                    _ => drop(db.tree("other").unwrap().put("k", vec![1; 9000]).unwrap()),
                }
            }
        });
        for thread in threads {
            for (key, event) in thread.join().unwrap() {
                histories[key as usize].push(event);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        background.join().unwrap();
    });
    histories
}

#[test]
fn single_keys_are_linearizable_under_eight_threads() {
    let (mut events, mut histories) = (0, 0);
    for run in 0..budget(16) {
        let storage: Arc<dyn Storage> = match run % 2 {
            0 => Arc::new(MemoryStorage::new()),
            _ => SimDisk::new(run).storage(),
        };
        let db = repeatable()
            .background(run % 4 < 2)
            .hot_limit(1 << 20)
            .open_storage(storage)
            .unwrap();
        for number in 0..40 {
            let seed = run * 1000 + number;
            for key in 0..KEYS {
                db.delete(format!("key {key}")).wait().unwrap();
            }
            for (key, history) in round(&db, seed).into_iter().enumerate() {
                events += history.len();
                histories += 1;
                assert!(
                    is_linearizable(&history, None),
                    "seed {seed}, key {key}:\n{}",
                    history
                        .iter()
                        .map(|e| format!("{:>3}..{:<3} {:?}\n", e.from, e.to, e.call))
                        .collect::<String>()
                );
            }
        }
    }
    println!("{histories} histories of {events} calls");
}

#[test]
fn the_check_finds_what_is_not_linearizable() {
    let event = |call, from, to| Event { call, from, to };
    // A read of the old value after a read of the new one.
    let stale = [
        event(Call::Write(1), 0, 1),
        event(Call::Write(2), 2, 9),
        event(Call::Read(Some(2)), 3, 4),
        event(Call::Read(Some(1)), 5, 6),
    ];
    assert!(!is_linearizable(&stale, None));
    // The other way round it is fine: the write is under way.
    let fresh = [
        stale[0],
        stale[1],
        event(Call::Read(Some(1)), 3, 4),
        event(Call::Read(Some(2)), 5, 6),
    ];
    assert!(is_linearizable(&fresh, None));
    // A lost update.
    let lost = [
        event(Call::Increment(1, 1), 0, 3),
        event(Call::Increment(1, 1), 1, 2),
    ];
    assert!(!is_linearizable(&lost, None));
    // A write that nobody sees after it was acknowledged.
    let gone = [event(Call::Write(1), 0, 1), event(Call::Read(None), 2, 3)];
    assert!(!is_linearizable(&gone, None));
    let swap = [
        event(Call::Write(1), 0, 1),
        event(Call::Swap(Some(1), None, false), 2, 3),
    ];
    assert!(!is_linearizable(&swap, None));
}

/// A transaction sees a removal that still waits for the disk, and answers by it. When it has
/// answered, nobody may find the old value any more.
#[test]
fn what_an_empty_buffered_commit_has_seen_is_visible() {
    let db = repeatable()
        .open_storage(Arc::new(MemoryStorage::new()))
        .unwrap();
    db.put("k", "1", None).unwrap();
    assert!(db.get("k").unwrap().is_some());
    let mut first = db.begin_write().unwrap();
    assert!(first.delete("k").unwrap());
    let waiting = first.commit_async().unwrap();
    assert!(db.get("k").unwrap().is_some(), "it is not on the disk yet");
    let mut second = db.begin_write().unwrap();
    second.set_durability(Durability::Buffered);
    assert!(!second.delete("k").unwrap());
    second.commit().unwrap();
    assert!(db.get("k").unwrap().is_none());
    assert!(!db.begin_read().unwrap().contains("k").unwrap());
    waiting.wait().unwrap();
}
