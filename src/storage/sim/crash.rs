//! What a power cut leaves of the changes that were not synced.

use std::ops::Range;

use super::image::Image;
use super::medium::{Fate, Medium, Pending, Replay};
use super::random::Random;

/// The unit that a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// Which of the unsynced changes a power cut leaves.
///
/// The changes are numbered from 0 in the order in which they were made; a write and the growth
/// of the file that it causes are two changes, the growth first. Those that are kept are applied
/// in order: a system never writes an older version of a page over a newer one. A change that is
/// lost before one that is kept is how reordering looks afterwards.
///
/// A write whose growth was lost leaves nothing past the end; a growth whose write was lost leaves
/// zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimCrash {
    /// None.
    LoseAll,
    /// All.
    KeepAll,
    /// The first so many, whole: a disk that keeps the order.
    Prefix {
        /// How many.
        changes: usize,
    },
    /// The last so many, whole: a disk that turns the order around.
    Suffix {
        /// How many.
        changes: usize,
    },
    /// Those whose bit is set in the mask, bit 0 being the first; from the 65th on, none. For
    /// trying out all of a small number.
    Subset {
        /// The mask.
        mask: u64,
    },
    /// All changes before one, the first bytes of that one, and none after it.
    Torn {
        /// The number of the torn change.
        change: usize,
        /// How many of its bytes are kept.
        bytes: usize,
    },
    /// The written bytes and none of the changes of the length.
    OnlyWrites,
    /// The changes of the length and none of the written bytes.
    OnlyLengths,
    /// Each change whole, or not at all, as the seed says.
    Random {
        /// The seed; together with the disk's own.
        seed: u64,
    },
    /// Each sector of 512 bytes of each write, or not, as the seed says.
    Sectors {
        /// The seed; together with the disk's own.
        seed: u64,
    },
    /// Each change whole, not at all, or any one run of its bytes, as the seed says. Harsher
    /// than real disks, which write whole sectors.
    Bytes {
        /// The seed; together with the disk's own.
        seed: u64,
    },
}

impl SimCrash {
    /// What this power cut leaves of `medium`.
    pub(super) fn image(self, medium: &Medium, disk_seed: u64) -> Image {
        let mut random = match self {
            SimCrash::Random { seed } | SimCrash::Sectors { seed } | SimCrash::Bytes { seed } => {
                Random::derive(disk_seed, seed)
            }
            _ => Random::new(0),
        };
        let count = medium.pending.len();
        let mut image = medium.durable.clone();
        let mut replay = Replay::new(&mut image, false);
        for (number, change) in medium.pending.iter().enumerate() {
            replay.apply(change, self.fate(number, count, change, &mut random));
        }
        replay.finish();
        image
    }

    fn fate(self, number: usize, count: usize, change: &Pending, random: &mut Random) -> Fate {
        let is_write = matches!(change, Pending::Write { .. });
        let kept = match self {
            SimCrash::LoseAll => false,
            SimCrash::KeepAll => true,
            SimCrash::Prefix { changes } => number < changes,
            SimCrash::Suffix { changes } => count - number <= changes,
            SimCrash::Subset { mask } => number < 64 && mask >> number & 1 == 1,
            SimCrash::Torn {
                change: torn,
                bytes,
            } => match change {
                Pending::Write { bytes: all, .. } if number == torn => {
                    return Fate::Parts(std::iter::once(0..bytes.min(all.len())).collect());
                }
                _ => number < torn,
            },
            SimCrash::OnlyWrites => is_write,
            SimCrash::OnlyLengths => !is_write,
            SimCrash::Random { .. } => random.coin(),
            SimCrash::Sectors { .. } => match change {
                Pending::Write { offset, bytes } => {
                    return Fate::Parts(some_sectors(*offset, bytes.len(), random));
                }
                _ => random.coin(),
            },
            SimCrash::Bytes { .. } => match change {
                Pending::Write { bytes, .. } if random.coin() => {
                    return Fate::Parts(std::iter::once(some_run(bytes.len(), random)).collect());
                }
                _ => random.coin(),
            },
        };
        if kept { Fate::Kept } else { Fate::Lost }
    }
}

/// The parts of a write that its kept sectors hold.
fn some_sectors(offset: usize, length: usize, random: &mut Random) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    let mut coins = 0;
    let mut coins_left = 0;
    let mut start = 0;
    while start < length {
        let to_border = SECTOR_BYTES - (offset + start) % SECTOR_BYTES;
        let end = length.min(start + to_border);
        if coins_left == 0 {
            coins = random.next();
            coins_left = 64;
        }
        if coins & 1 == 1 {
            match parts.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => parts.push(start..end),
            }
        }
        coins >>= 1;
        coins_left -= 1;
        start = end;
    }
    parts
}

/// A run of bytes: half of the time from the start, as if the power went in the middle.
fn some_run(length: usize, random: &mut Random) -> Range<usize> {
    let start = if random.coin() {
        0
    } else {
        random.below(length)
    };
    let end = start + random.below(length - start + 1);
    start..end
}
