//! A simulated disk that loses power, tears writes, fails, fills up and lies, all from one seed.
//!
//! # Invariants
//!
//! 1. The same seed and the same calls give the same disk, on every platform: nothing depends on
//!    time, addresses or hashing. (Calls from several threads are as deterministic as their order.)
//! 2. The disk breaks no promise of [`Storage`] unless a fault is planned: what a sync covered is
//!    there after every power cut, and no write touches bytes outside of its range.
//! 3. Once the power is cut, nothing changes any more.

use std::io;
use std::sync::Arc;

use crate::locks::Mutex;

use super::Storage;
use super::lock::{LockTable, Opener};

mod blocks;
mod crash;
mod faults;
mod image;
mod medium;
mod random;
mod trace;

#[cfg(test)]
mod tests;

use blocks::Blocks;
use faults::FaultPlan;
use image::Image;
use medium::{Medium, Pending, partial_length};
use random::Random;
use trace::Trace;

pub use crash::SimCrash;
pub use faults::{SimFailedSync, SimFault, SimTarget};
pub use trace::{SimCounters, SimEvent, SimOperation, SimOutcome};

/// The longest simulated file: images are held in memory, and a wild offset should be an error
/// and not the end of the test process.
const MAX_LENGTH_BYTES: u64 = 1 << 30;

/// `EIO`, on the systems that have it by this number; elsewhere just some error.
const EIO: i32 = 5;

/// One file on a simulated disk that loses power, tears writes, fails, fills up and lies, all from
/// one seed: the same seed and the same calls give the same disk.
///
/// A crash test runs a program on it, cuts the power at some point, and opens what
/// [`SimDisk::crash_image`] says is left:
///
/// ```
/// use aurora::storage::{SimCrash, SimDisk, Storage};
///
/// let disk = SimDisk::new(42);
/// let storage = disk.storage();
/// storage.write_at(0, b"old state")?;
/// storage.sync_all()?;
/// storage.write_at(0, b"new")?; // not synced
///
/// // Either version of the first three bytes can be there after a power cut...
/// assert_eq!(disk.crash_image(SimCrash::LoseAll).image(), b"old state");
/// assert_eq!(disk.crash_image(SimCrash::KeepAll).image(), b"new state");
/// // ...but after a kill the operating system still has the write.
/// assert_eq!(disk.kill_image().image(), b"new state");
///
/// // Cut the power during the second change from now: the first is done, then all calls fail.
/// disk.crash_after(2);
/// storage.write_at(3, b"er")?;
/// assert!(storage.sync_all().is_err());
/// assert!(storage.length().is_err());
/// // Every seed is one of the ways in which the disk can be left.
/// let survivor = disk.crash_image(SimCrash::Sectors { seed: 7 });
/// survivor.storage().read_at(0, &mut [0; 9])?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// A clone is the same opener of the same file. [`storage`](SimDisk::storage) and
/// [`reopen`](SimDisk::reopen) are new openers: the lock that one holds keeps the others out.
/// Files are at most 1 GiB long.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    opener: Arc<Opener>,
}

struct State {
    seed: u64,
    medium: Medium,
    random: Random,
    faults: FaultPlan,
    failed_sync: SimFailedSync,
    capacity_bytes: u64,
    /// The room that the file takes, if it is limited.
    blocks: Option<Blocks>,
    /// How many more mutating calls are made with the power on, if it is to be cut.
    power_left: Option<u64>,
    power_off: bool,
    counters: SimCounters,
    trace: Trace,
    /// The disk in the middle of each mutating call, if they are recorded.
    moments: Option<Vec<Medium>>,
}

/// What a call is to do.
enum Verdict {
    /// As asked.
    Go,
    /// The power goes: what it would have done may or may not reach the disk.
    Cut,
    Fault(SimFault),
}

impl SimDisk {
    /// An empty file. The seed decides everything that is left to chance.
    pub fn new(seed: u64) -> Self {
        SimDisk::from_image(Vec::new(), seed)
    }

    /// A file with these bytes, all durable.
    pub fn from_image(image: Vec<u8>, seed: u64) -> Self {
        SimDisk::from_medium(Medium::new(Image::from_bytes(&image)), seed)
    }

    fn from_medium(medium: Medium, seed: u64) -> Self {
        let state = State {
            seed,
            medium,
            random: Random::derive(seed, 0),
            faults: FaultPlan::default(),
            failed_sync: SimFailedSync::default(),
            capacity_bytes: MAX_LENGTH_BYTES,
            blocks: None,
            power_left: None,
            power_off: false,
            counters: SimCounters::default(),
            trace: Trace::new(),
            moments: None,
        };
        SimDisk {
            state: Arc::new(Mutex::new(state)),
            opener: Arc::new(Opener::new(Arc::new(LockTable::default()))),
        }
    }

    /// Another opener of the same file, to give to what is tested.
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.reopen())
    }

    /// Another opener of the same file, which holds no lock yet.
    pub fn reopen(&self) -> SimDisk {
        SimDisk {
            state: Arc::clone(&self.state),
            opener: Arc::new(self.opener.another()),
        }
    }

    // --- Power -------------------------------------------------------------------------------

    /// Cuts the power during the `nth` mutating call from now (the first being 1; 0 is now). That
    /// call and all later ones fail. What it would have changed counts as unsynced: the variant
    /// given to [`crash_image`](SimDisk::crash_image) decides.
    ///
    /// The mutating calls are writes, syncs, `set_length` and `discard`.
    pub fn crash_after(&self, nth: u64) {
        let mut state = self.state.lock();
        state.power_left = nth.checked_sub(1);
        state.power_off = nth == 0;
    }

    /// Whether the power has been cut.
    pub fn has_crashed(&self) -> bool {
        self.state.lock().power_off
    }

    /// What could be left if the power were cut now, or is left if it was: a new disk, with no
    /// lock held, no faults planned, and all of its bytes durable.
    pub fn crash_image(&self, variant: SimCrash) -> SimDisk {
        let state = self.state.lock();
        let image = if state.medium.pending.is_empty() || variant == SimCrash::LoseAll {
            state.medium.durable.clone()
        } else {
            variant.image(&state.medium, state.seed)
        };
        SimDisk::from_medium(Medium::new(image), state.next_seed())
    }

    /// What is left if the process is killed: a new disk with all that was written, of which
    /// the unsynced part is still unsynced.
    pub fn kill_image(&self) -> SimDisk {
        let state = self.state.lock();
        SimDisk::from_medium(state.medium.clone(), state.next_seed())
    }

    /// Remembers the disk as it is in the middle of each mutating call from now on: with what the
    /// call changes, and before anything is durable by it. One run then gives the images of all
    /// power cuts in it, where [`crash_after`](SimDisk::crash_after) needs a run for each.
    pub fn record_moments(&self) {
        self.state.lock().moments = Some(Vec::new());
    }

    /// The moments since [`record_moments`](SimDisk::record_moments), or since the last call of
    /// this, in order. Each is a disk of its own, to take the images of power cuts from.
    pub fn take_moments(&self) -> Vec<SimDisk> {
        let mut state = self.state.lock();
        let seed = state.next_seed();
        let moments = state.moments.as_mut().map(std::mem::take);
        let moments = moments.unwrap_or_default().into_iter();
        moments
            .map(|medium| SimDisk::from_medium(medium, seed))
            .collect()
    }

    /// How many bytes each of the unsynced changes wrote; 0 for changes of the length.
    pub fn unsynced_bytes(&self) -> Vec<usize> {
        let state = self.state.lock();
        state.medium.pending.iter().map(Pending::bytes).collect()
    }

    /// The number of unsynced changes, for the variants of [`SimCrash`] that go by number.
    pub fn unsynced_changes(&self) -> usize {
        self.state.lock().medium.pending.len()
    }

    // --- Faults ------------------------------------------------------------------------------

    /// Plans a fault for the `nth` matching call from now, the first being 1.
    pub fn fail_once(&self, target: impl Into<SimTarget>, nth: u64, fault: SimFault) {
        let mut state = self.state.lock();
        state.faults.add(target.into(), nth, false, fault);
    }

    /// Plans a fault for the `nth` matching call from now, the first being 1, and for all that
    /// follow it.
    pub fn fail_from(&self, target: impl Into<SimTarget>, nth: u64, fault: SimFault) {
        let mut state = self.state.lock();
        state.faults.add(target.into(), nth, true, fault);
    }

    /// Forgets all planned faults.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// Says what syncs that fail leave behind, from now on.
    pub fn set_failed_sync(&self, behaviour: SimFailedSync) {
        self.state.lock().failed_sync = behaviour;
    }

    /// Lets the file grow to this many bytes and no further (`None`: to 1 GiB): then a write
    /// keeps the part that fits and fails with `StorageFull`, and `set_length` just fails. Bytes
    /// that the file has already can always be written.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        let capacity_bytes = capacity_bytes.unwrap_or(MAX_LENGTH_BYTES);
        self.state.lock().capacity_bytes = capacity_bytes.min(MAX_LENGTH_BYTES);
    }

    /// Lets the file take this many bytes of the disk, in blocks of 4096, and no more (`None`: as many as its length
    /// may have). A hole that `set_length` leaves takes none until it is written to or reserved; a write without room
    /// keeps the part that fits and fails with `StorageFull`. What the file has when it is limited first counts as
    /// taken, holes too.
    pub fn set_room(&self, room_bytes: Option<u64>) {
        let mut state = self.state.lock();
        let length = state.medium.length() as u64;
        match (&mut state.blocks, room_bytes) {
            (Some(blocks), Some(room)) => blocks.set_room(room),
            (blocks, room) => *blocks = room.map(|room| Blocks::new(length, room)),
        }
    }

    /// How many bytes of the disk the file takes; its length, if [`set_room`](SimDisk::set_room) has set no limit.
    pub fn taken_bytes(&self) -> u64 {
        let state = self.state.lock();
        let length = state.medium.length() as u64;
        state.blocks.as_ref().map_or(length, Blocks::taken_bytes)
    }

    /// Flips bit `bit` (0 to 7) of the byte at `offset`, in what is readable and what is durable.
    /// Returns false if the file has no such byte.
    pub fn flip_bit(&self, offset: u64, bit: u8) -> bool {
        usize::try_from(offset).is_ok_and(|offset| self.state.lock().medium.flip_bit(offset, bit))
    }

    /// Forgets what was readable only because the system had it in memory: after a failed sync,
    /// reads return what the disk really has.
    pub fn drop_cache(&self) {
        self.state.lock().medium.drop_cache();
    }

    // --- Looking at it -----------------------------------------------------------------------

    /// A copy of the bytes that reads return.
    pub fn image(&self) -> Vec<u8> {
        self.state.lock().medium.readable.to_vec()
    }

    /// A number that is the same for the same readable bytes, and hardly ever for others.
    pub fn fingerprint(&self) -> u64 {
        self.state.lock().medium.readable.fingerprint()
    }

    /// A copy of the bytes that are certainly there after a power cut.
    pub fn durable_image(&self) -> Vec<u8> {
        self.state.lock().medium.durable.to_vec()
    }

    /// How often each kind of call was made, through any opener.
    pub fn counters(&self) -> SimCounters {
        self.state.lock().counters
    }

    /// The last calls, oldest first: as many as [`set_trace_limit`](SimDisk::set_trace_limit)
    /// says, or 256.
    pub fn trace(&self) -> Vec<SimEvent> {
        self.state.lock().trace.to_vec()
    }

    /// Sets how many calls the trace remembers.
    pub fn set_trace_limit(&self, events: usize) {
        self.state.lock().trace.set_limit(events);
    }

    fn write(&self, operation: SimOperation, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        let verdict = state.begin(operation, offset, bytes.len() as u64)?;
        let written = state.write(operation, verdict, offset, bytes);
        state.end(operation, bytes.len() as u64, written)
    }
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock();
        f.debug_struct("SimDisk")
            .field("seed", &state.seed)
            .field("length_bytes", &state.medium.length())
            .field("unsynced_changes", &state.medium.pending.len())
            .field("calls", &state.counters.all_calls())
            .field("power_off", &state.power_off)
            .finish()
    }
}

fn power_cut() -> io::Error {
    io::Error::other("simulated power cut")
}

impl State {
    /// Counts a call, and decides what becomes of it.
    fn begin(
        &mut self,
        operation: SimOperation,
        offset: u64,
        length_bytes: u64,
    ) -> io::Result<Verdict> {
        self.counters.count_call(operation);
        let verdict = if self.power_off {
            None
        } else if operation.is_mutating() && self.power_left == Some(0) {
            self.power_off = true;
            Some(Verdict::Cut)
        } else {
            if operation.is_mutating() {
                self.power_left = self.power_left.map(|left| left - 1);
            }
            let fault = self.faults.meet(operation);
            Some(fault.map_or(Verdict::Go, Verdict::Fault))
        };
        let outcome = match verdict {
            None => SimOutcome::Off,
            Some(Verdict::Cut) => SimOutcome::Cut,
            Some(Verdict::Fault(_)) => SimOutcome::Lied, // until it fails
            Some(Verdict::Go) => SimOutcome::Done,
        };
        self.trace.push(SimEvent {
            number: self.counters.all_calls(),
            operation,
            offset,
            length_bytes,
            outcome,
        });
        verdict.ok_or_else(power_cut)
    }

    /// Notes how a call went.
    fn end<T>(
        &mut self,
        operation: SimOperation,
        bytes: u64,
        result: io::Result<T>,
    ) -> io::Result<T> {
        match &result {
            Ok(_) => self.counters.count_bytes(operation, bytes),
            Err(_) if self.power_off => {}
            Err(_) => self.trace.settle(SimOutcome::Failed),
        }
        result
    }

    fn record_moment(&mut self) {
        if let Some(moments) = &mut self.moments {
            moments.push(self.medium.clone());
        }
    }

    fn next_seed(&self) -> u64 {
        Random::derive(self.seed, 1).next()
    }

    fn write(
        &mut self,
        operation: SimOperation,
        verdict: Verdict,
        offset: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        let synced = operation == SimOperation::WriteSync;
        // Where the bytes are after this call, to sync them there.
        let mut landed = (offset, bytes.len());
        match verdict {
            Verdict::Go => self.write_all(offset, bytes)?,
            Verdict::Cut => {
                self.write_all(offset, bytes)?;
                return Err(power_cut());
            }
            Verdict::Fault(SimFault::Error(_) | SimFault::Eio) if !synced => {
                return Err(fault_error(verdict));
            }
            Verdict::Fault(SimFault::Error(_) | SimFault::Eio) => {
                self.write_all(offset, bytes)?;
                self.fail_sync(Some((offset, bytes.len() as u64)), self.failed_sync);
                return Err(fault_error(verdict));
            }
            Verdict::Fault(SimFault::Partial) => {
                let length = partial_length(&mut self.random, bytes.len());
                self.write_all(offset, &bytes[..length])?;
                return Err(fault_error(verdict));
            }
            Verdict::Fault(SimFault::Lost) => self.grow_for(offset, bytes)?,
            Verdict::Fault(SimFault::Misdirected { offset: elsewhere }) => {
                self.grow_for(offset, bytes)?;
                landed = self.write_inside(elsewhere, bytes);
            }
            Verdict::Fault(SimFault::Duplicated { offset: elsewhere }) => {
                self.write_all(offset, bytes)?;
                let (start, length) = self.write_inside(elsewhere, bytes);
                if synced {
                    self.sync_range(start, length as u64);
                }
            }
        }
        self.record_moment();
        if synced {
            self.sync_range(landed.0, landed.1 as u64);
        }
        Ok(())
    }

    /// Writes bytes as far as the disk has room for them.
    fn write_all(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut room = self.room_at(offset);
        if let Some(blocks) = &mut self.blocks {
            room = room.min(blocks.take(offset, room.min(bytes.len() as u64)));
        }
        if bytes.len() as u64 <= room {
            self.medium.write(offset as usize, bytes); // below 1 GiB, as `room` says
            return Ok(());
        }
        if room > 0 {
            self.medium.write(offset as usize, &bytes[..room as usize]);
        }
        Err(io::ErrorKind::StorageFull.into())
    }

    /// Does to the length what writing these bytes would do.
    fn grow_for(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > self.room_at(offset) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if !bytes.is_empty() {
            self.medium.grow(offset as usize + bytes.len());
        }
        Ok(())
    }

    fn write_inside(&mut self, offset: u64, bytes: &[u8]) -> (u64, usize) {
        match self.medium.write_inside(offset, bytes) {
            Some((start, length)) => (start as u64, length),
            None => (0, 0),
        }
    }

    /// How many bytes can be written from `offset` on.
    fn room_at(&self, offset: u64) -> u64 {
        let end = self.capacity_bytes.max(self.medium.length() as u64);
        end.saturating_sub(offset)
    }

    /// Makes a range durable, and returns how many bytes became so.
    fn sync_range(&mut self, offset: u64, length_bytes: u64) -> u64 {
        let (start, end) = clamp(offset, length_bytes);
        self.medium.sync_range(start, end)
    }

    /// A sync of a range, or of everything, that does not succeed.
    fn fail_sync(&mut self, range: Option<(u64, u64)>, behaviour: SimFailedSync) {
        let random = &mut self.random;
        let keep = |_: &Pending| behaviour == SimFailedSync::Partly && random.coin();
        match (behaviour, range) {
            (SimFailedSync::Kept, _) => {}
            (_, Some((offset, length_bytes))) => {
                let (start, end) = clamp(offset, length_bytes);
                self.medium.fail_sync_range(start, end, keep);
            }
            (_, None) => self.medium.fail_sync_all(keep),
        }
    }

    /// A sync of a range, or of everything. Returns how many bytes became durable.
    fn sync(&mut self, verdict: Verdict, range: Option<(u64, u64)>) -> io::Result<u64> {
        self.record_moment();
        match verdict {
            Verdict::Cut => Err(power_cut()),
            Verdict::Fault(SimFault::Error(_) | SimFault::Eio) => {
                self.fail_sync(range, self.failed_sync);
                Err(fault_error(verdict))
            }
            Verdict::Fault(SimFault::Partial) => {
                self.fail_sync(range, SimFailedSync::Partly);
                Err(fault_error(verdict))
            }
            Verdict::Fault(SimFault::Lost) => Ok(0),
            Verdict::Go | Verdict::Fault(_) => Ok(match range {
                Some((offset, length_bytes)) => self.sync_range(offset, length_bytes),
                None => self.medium.sync_all(),
            }),
        }
    }

    fn set_length(&mut self, verdict: Verdict, length_bytes: u64) -> io::Result<()> {
        match verdict {
            Verdict::Fault(SimFault::Error(_) | SimFault::Eio | SimFault::Partial) => {
                return Err(fault_error(verdict));
            }
            Verdict::Fault(SimFault::Lost) => return Ok(()),
            Verdict::Go | Verdict::Cut | Verdict::Fault(_) => {}
        }
        if length_bytes > self.capacity_bytes.max(self.medium.length() as u64) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.medium.set_length(length_bytes as usize);
        if let Some(blocks) = &mut self.blocks {
            blocks.cut(length_bytes);
        }
        self.record_moment();
        match verdict {
            Verdict::Cut => Err(power_cut()),
            _ => Ok(()),
        }
    }

    fn reserve(&mut self, verdict: Verdict, offset: u64, length_bytes: u64) -> io::Result<()> {
        if matches!(verdict, Verdict::Fault(SimFault::Lost)) {
            return Ok(());
        }
        check(verdict)?;
        if offset.saturating_add(length_bytes) > self.medium.length() as u64 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let blocks = self.blocks.as_mut();
        match blocks.map(|blocks| blocks.take(offset, length_bytes)) {
            Some(taken) if taken < length_bytes => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    /// Bytes become zeros, as far as the file goes.
    fn discard(&mut self, verdict: Verdict, offset: u64, length_bytes: u64) -> io::Result<()> {
        if matches!(verdict, Verdict::Fault(SimFault::Lost)) {
            return Ok(());
        }
        let is_cut = matches!(verdict, Verdict::Cut);
        check(verdict)?;
        let (start, end) = clamp(offset, length_bytes);
        self.medium.write_inside(offset, &vec![0; end - start]);
        if let Some(blocks) = &mut self.blocks {
            blocks.give_back(offset, length_bytes);
        }
        self.record_moment();
        match is_cut {
            true => Err(power_cut()),
            false => Ok(()),
        }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.saturating_add(buffer.len() as u64);
        if buffer.is_empty() {
            return Ok(());
        }
        if end > self.medium.length() as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.medium.readable.read(offset as usize, buffer);
        Ok(())
    }
}

/// The range as indexes; what lies past the longest file is cut off.
fn clamp(offset: u64, length_bytes: u64) -> (usize, usize) {
    let end = offset.saturating_add(length_bytes).min(MAX_LENGTH_BYTES);
    (offset.min(end) as usize, end as usize)
}

/// The error of a call that was told to fail.
fn fault_error(verdict: Verdict) -> io::Error {
    match verdict {
        Verdict::Fault(SimFault::Error(kind)) => io::Error::new(kind, "simulated failure"),
        Verdict::Cut => power_cut(),
        Verdict::Go | Verdict::Fault(_) => io::Error::from_raw_os_error(EIO),
    }
}

/// For calls that do all that they were asked for, or fail.
fn check(verdict: Verdict) -> io::Result<()> {
    match verdict {
        Verdict::Fault(SimFault::Error(_) | SimFault::Eio | SimFault::Partial) => {
            Err(fault_error(verdict))
        }
        Verdict::Go | Verdict::Cut | Verdict::Fault(_) => Ok(()),
    }
}

impl Storage for SimDisk {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        let length_bytes = buffer.len() as u64;
        let verdict = state.begin(SimOperation::Read, offset, length_bytes)?;
        let read = check(verdict).and_then(|()| state.read(offset, buffer));
        state.end(SimOperation::Read, length_bytes, read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(SimOperation::Write, offset, bytes)
    }

    fn sync_range(&self, offset: u64, length_bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let verdict = state.begin(SimOperation::SyncRange, offset, length_bytes)?;
        let synced = state.sync(verdict, Some((offset, length_bytes)));
        let bytes = *synced.as_ref().unwrap_or(&0);
        state.end(SimOperation::SyncRange, bytes, synced.map(drop))
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let verdict = state.begin(SimOperation::SyncAll, 0, 0)?;
        let synced = state.sync(verdict, None);
        let bytes = *synced.as_ref().unwrap_or(&0);
        state.end(SimOperation::SyncAll, bytes, synced.map(drop))
    }

    fn write_sync_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(SimOperation::WriteSync, offset, bytes)
    }

    fn reserve(&self, offset: u64, length_bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let verdict = state.begin(SimOperation::Reserve, offset, length_bytes)?;
        let reserved = state.reserve(verdict, offset, length_bytes);
        state.end(SimOperation::Reserve, 0, reserved)
    }

    fn discard(&self, offset: u64, length_bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let verdict = state.begin(SimOperation::Discard, offset, length_bytes)?;
        let discarded = state.discard(verdict, offset, length_bytes);
        state.end(SimOperation::Discard, 0, discarded)
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let verdict = state.begin(SimOperation::SetLength, 0, length_bytes)?;
        let set = state.set_length(verdict, length_bytes);
        state.end(SimOperation::SetLength, 0, set)
    }

    fn length(&self) -> io::Result<u64> {
        let mut state = self.state.lock();
        let verdict = state.begin(SimOperation::Length, 0, 0)?;
        let length = check(verdict).map(|()| state.medium.length() as u64);
        state.end(SimOperation::Length, 0, length)
    }

    fn lock(&self, exclusive: bool) -> io::Result<()> {
        let mut state = self.state.lock();
        let verdict = state.begin(SimOperation::Lock, 0, 0)?;
        let taken = check(verdict).and_then(|()| self.opener.take(exclusive));
        state.end(SimOperation::Lock, 0, taken)
    }

    /// Always `None`: bytes on a simulated disk have no fixed address.
    fn map(&self, length_bytes: u64) -> io::Result<Option<Arc<super::Map>>> {
        let mut state = self.state.lock();
        let verdict = state.begin(SimOperation::Map, 0, length_bytes)?;
        let map = check(verdict).map(|()| None);
        state.end(SimOperation::Map, 0, map)
    }
}
