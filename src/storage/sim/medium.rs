//! The bytes of a simulated disk: what is readable, what is durable, and what is in between.
//!
//! # Invariants
//!
//! 1. `readable` is what the calls so far left; `durable` is what a power cut certainly leaves,
//!    if none of `pending` reaches the disk.
//! 2. `pending` holds every change that is readable and not yet durable, in the order in which
//!    it was made. The growth of the file by a write is a change of its own, because a file
//!    system may lose either of the two.
//! 3. Only after a sync failed or lied, or a bit rotted, do `durable` and all of `pending`
//!    together differ from `readable`.

use super::image::Image;
use super::random::Random;

/// A change that a power cut can undo.
#[derive(Debug, Clone)]
pub(super) enum Pending {
    /// These bytes were written at `offset`.
    Write { offset: usize, bytes: Vec<u8> },
    /// The file grew to this length, if it was shorter.
    Grow(usize),
    /// The file was cut to this length.
    Cut(usize),
}

impl Pending {
    /// How many bytes it wrote.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Pending::Write { bytes, .. } => bytes.len(),
            Pending::Grow(_) | Pending::Cut(_) => 0,
        }
    }
}

/// What a power cut, or a sync, does with one change.
pub(super) enum Fate {
    Lost,
    Kept,
    /// Of a write, only these ranges of its bytes are kept; a change of the length is lost.
    Parts(Vec<std::ops::Range<usize>>),
}

/// Applies changes to an image.
///
/// Bytes written past the length are remembered until the end, because a later change may still
/// grow the file over them.
pub(super) struct Replay<'a> {
    image: &'a mut Image,
    length: usize,
    /// Whether a write that is kept also keeps the growth that it needs, as a sync does.
    writes_grow: bool,
}

impl<'a> Replay<'a> {
    pub(super) fn new(image: &'a mut Image, writes_grow: bool) -> Self {
        let length = image.len();
        Replay {
            image,
            length,
            writes_grow,
        }
    }

    pub(super) fn apply(&mut self, change: &Pending, fate: Fate) {
        match (change, fate) {
            (_, Fate::Lost) => {}
            (Pending::Write { offset, bytes }, Fate::Kept) => self.write(*offset, bytes),
            (Pending::Write { offset, bytes }, Fate::Parts(parts)) => {
                for part in parts {
                    self.write(offset + part.start, &bytes[part]);
                }
            }
            (Pending::Grow(length), Fate::Kept) => self.length = self.length.max(*length),
            (Pending::Cut(length), Fate::Kept) => {
                let kept = self.image.len().min(*length);
                self.image.resize(kept);
                self.length = *length;
            }
            (Pending::Grow(_) | Pending::Cut(_), Fate::Parts(_)) => {}
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.image.overwrite(offset, bytes);
        if self.writes_grow {
            self.length = self.length.max(offset + bytes.len());
        }
    }

    pub(super) fn finish(self) {
        self.image.resize(self.length);
    }
}

/// The state of the disk. A copy is cheap until one of the two changes.
#[derive(Debug, Clone)]
pub(super) struct Medium {
    pub(super) durable: Image,
    pub(super) readable: Image,
    pub(super) pending: Vec<Pending>,
}

impl Medium {
    /// A disk on which everything is durable.
    pub(super) fn new(image: Image) -> Self {
        Medium {
            durable: image.clone(),
            readable: image,
            pending: Vec::new(),
        }
    }

    pub(super) fn length(&self) -> usize {
        self.readable.len()
    }

    /// Writes bytes, growing the file where it ends before.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.grow(offset + bytes.len());
        self.readable.overwrite(offset, bytes);
        self.pending.push(Pending::Write {
            offset,
            bytes: bytes.to_vec(),
        });
    }

    /// Writes the bytes that fall inside of the file as it is.
    pub(super) fn write_inside(&mut self, offset: u64, bytes: &[u8]) -> Option<(usize, usize)> {
        let offset = usize::try_from(offset).ok()?;
        let room = self.length().checked_sub(offset)?;
        let length = bytes.len().min(room);
        self.write(offset, &bytes[..length]);
        Some((offset, length))
    }

    /// Grows the file to `length`, if it is shorter.
    pub(super) fn grow(&mut self, length: usize) {
        if length > self.length() {
            self.readable.resize(length);
            self.pending.push(Pending::Grow(length));
        }
    }

    pub(super) fn set_length(&mut self, length: usize) {
        if length < self.length() {
            self.readable.resize(length);
            self.pending.push(Pending::Cut(length));
        } else {
            self.grow(length);
        }
    }

    /// Makes everything durable. Returns the number of bytes that became so.
    pub(super) fn sync_all(&mut self) -> u64 {
        let changes = std::mem::take(&mut self.pending);
        self.harden(&changes, |_| true)
    }

    /// A `sync_all` that failed: the changes are no longer pending, and `keep` says which became
    /// durable on the way.
    pub(super) fn fail_sync_all(&mut self, keep: impl FnMut(&Pending) -> bool) {
        let changes = std::mem::take(&mut self.pending);
        self.harden(&changes, keep);
    }

    /// Makes `start..end` durable, as far as the file goes, and nothing else that can be helped.
    /// Returns the number of bytes that became so.
    pub(super) fn sync_range(&mut self, start: usize, end: usize) -> u64 {
        let end = end.min(self.length());
        if start >= end {
            return 0;
        }
        self.settle_cuts(end);
        if self.durable.len() < end {
            self.durable.resize(end);
        }
        let changes = self.take_range(start, end);
        self.harden(&changes, |_| true)
    }

    /// A `sync_range` that failed; see [`Medium::fail_sync_all`].
    pub(super) fn fail_sync_range(
        &mut self,
        start: usize,
        end: usize,
        keep: impl FnMut(&Pending) -> bool,
    ) {
        // A write that became durable before a pending cut below it would survive the cut's
        // later arrival, so the cuts go first here too.
        let end = end.min(self.length());
        if start >= end {
            return;
        }
        self.settle_cuts(end);
        let changes = self.take_range(start, end);
        self.harden(&changes, keep);
    }

    /// What the system reads once it has forgotten its cache: the disk, and what is on its way.
    pub(super) fn drop_cache(&mut self) {
        let mut image = self.durable.clone();
        let mut replay = Replay::new(&mut image, true);
        for change in &self.pending {
            replay.apply(change, Fate::Kept);
        }
        replay.finish();
        self.readable = image;
    }

    /// Flips one bit wherever the byte is; false if there is no such byte.
    pub(super) fn flip_bit(&mut self, offset: usize, bit: u8) -> bool {
        let durable = self.durable.flip_bit(offset, bit);
        self.readable.flip_bit(offset, bit) || durable
    }

    fn harden(&mut self, changes: &[Pending], mut keep: impl FnMut(&Pending) -> bool) -> u64 {
        if changes.is_empty() {
            return 0;
        }
        let mut bytes_kept = 0;
        let mut replay = Replay::new(&mut self.durable, true);
        for change in changes {
            if keep(change) {
                replay.apply(change, Fate::Kept);
                if let Pending::Write { bytes, .. } = change {
                    bytes_kept += bytes.len() as u64;
                }
            }
        }
        replay.finish();
        bytes_kept
    }

    /// Takes the parts inside of `start..end` out of the pending writes, in order. The parts
    /// outside stay pending.
    fn take_range(&mut self, start: usize, end: usize) -> Vec<Pending> {
        let overlaps = |change: &Pending| matches!(change, Pending::Write { offset, bytes } if *offset < end && offset + bytes.len() > start);
        // Most often only the last write is inside: leave what comes before it where it is.
        let Some(first) = self.pending.iter().position(overlaps) else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        for change in self.pending.split_off(first) {
            match change {
                Pending::Write { offset, mut bytes }
                    if offset < end && offset + bytes.len() > start =>
                {
                    let right = bytes.split_off(bytes.len().min(end - offset));
                    let inside = bytes.split_off(start.saturating_sub(offset));
                    if !bytes.is_empty() {
                        self.pending.push(Pending::Write { offset, bytes });
                    }
                    if !right.is_empty() {
                        self.pending.push(Pending::Write {
                            offset: end,
                            bytes: right,
                        });
                    }
                    taken.push(Pending::Write {
                        offset: offset.max(start),
                        bytes: inside,
                    });
                }
                other => self.pending.push(other),
            }
        }
        taken
    }

    /// Makes pending cuts below `end` durable, with every change of the length before them: bytes
    /// that are about to become durable must not be lost to an older cut that reaches the disk
    /// later. (File systems journal their metadata in order, so a sync carries these along.)
    fn settle_cuts(&mut self, end: usize) {
        let Some(last) = self
            .pending
            .iter()
            .rposition(|change| matches!(change, Pending::Cut(length) if *length < end))
        else {
            return;
        };
        let rest = self.pending.split_off(last + 1);
        let mut settled = std::mem::take(&mut self.pending);
        let durable = &mut self.durable;
        for change in &settled {
            match change {
                Pending::Cut(length) => durable.resize(*length),
                Pending::Grow(length) if *length > durable.len() => durable.resize(*length),
                Pending::Grow(_) | Pending::Write { .. } => {}
            }
        }
        // What the cuts removed of the writes before them is gone for good.
        let mut lowest = usize::MAX;
        for change in settled.iter_mut().rev() {
            match change {
                Pending::Cut(length) => lowest = lowest.min(*length),
                Pending::Write { offset, bytes } => bytes.truncate(lowest.saturating_sub(*offset)),
                Pending::Grow(_) => {}
            }
        }
        settled
            .retain(|change| matches!(change, Pending::Write { bytes, .. } if !bytes.is_empty()));
        settled.extend(rest);
        self.pending = settled;
    }
}

/// Where a seeded partial write stops: at least one byte short, if it has any.
pub(super) fn partial_length(random: &mut Random, length: usize) -> usize {
    random.below(length)
}
