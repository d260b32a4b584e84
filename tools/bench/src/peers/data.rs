//! The entries: made of their number, the same in every run and in every process.

use aurora_bench::Random;

pub const KEY_BYTES: usize = 24;
pub const VALUE_BYTES: usize = 150;
/// What an entry of the common workload weighs.
pub const ENTRY_BYTES: u64 = (KEY_BYTES + VALUE_BYTES) as u64;

pub type Key = [u8; KEY_BYTES];

/// Entries of different purposes have numbers of different families, so that they never meet.
pub const fn family(number: u64) -> u64 {
    number << 40
}

/// The key of the n-th entry: random, so that the order of numbers is no order of keys.
pub fn key(n: u64) -> Key {
    let mut random = Random::new(n.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let mut key = [0; KEY_BYTES];
    for chunk in key.chunks_exact_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes());
    }
    key
}

/// A key whose order is the order of its number.
pub fn ordered_key(n: u64) -> Key {
    let mut key = key(n);
    key[..8].copy_from_slice(&n.to_be_bytes());
    key
}

/// Fills a value of any length for the n-th entry.
pub fn fill(n: u64, value: &mut [u8]) {
    let mut random = Random::new(!n.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let mut chunks = value.chunks_exact_mut(8);
    for chunk in &mut chunks {
        chunk.copy_from_slice(&random.next().to_le_bytes());
    }
    let rest = chunks.into_remainder();
    rest.copy_from_slice(&random.next().to_le_bytes()[..rest.len()]);
}

pub fn value(n: u64) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    fill(n, &mut value);
    value
}

/// A sum over all bytes of what was read. Engines that read the same have the same sum, in
/// whatever order threads read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    pub sum: u64,
    pub count: u64,
}

impl Sum {
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut sum = bytes.len() as u64;
        for word in words {
            sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
        for (place, byte) in rest.iter().enumerate() {
            sum = sum.wrapping_add(u64::from(*byte) << (8 * place));
        }
        self.sum = self.sum.wrapping_add(sum);
        self.count += 1;
    }

    pub fn join(&mut self, other: Sum) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.count += other.count;
    }

    /// One number for both.
    pub fn digest(&self) -> u64 {
        self.sum.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.count
    }
}

/// How the numbers that are read are chosen.
#[derive(Debug, Clone, Copy)]
pub enum Choice {
    Uniform,
    /// 90 % of the reads are of 1 % of the entries.
    NinetyOfOne,
    /// Zipf's law with an exponent of 0.99.
    Zipf,
}

/// Draws numbers below a limit.
pub struct Draw {
    random: Random,
    limit: u64,
    choice: Choice,
    zipf: (f64, f64, f64),
}

impl Draw {
    pub fn new(choice: Choice, limit: u64, seed: u64) -> Self {
        let zipf = match choice {
            Choice::Zipf => zipf_constants(limit),
            _ => (0.0, 0.0, 0.0),
        };
        Draw {
            random: Random::new(seed ^ 0xa076_1d64_78bd_642f),
            limit,
            choice,
            zipf,
        }
    }

    pub fn next(&mut self) -> u64 {
        match self.choice {
            Choice::Uniform => self.random.below(self.limit),
            Choice::NinetyOfOne => match self.random.below(10) {
                0 => self.random.below(self.limit),
                _ => self.random.below((self.limit / 100).max(1)),
            },
            Choice::Zipf => self.zipf(),
        }
    }

    /// Gray and others, "Quickly generating billion-record synthetic databases" (1994).
    fn zipf(&mut self) -> u64 {
        let (zeta, eta, alpha) = self.zipf;
        let u = self.random.fraction();
        let scaled = u * zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(THETA) {
            return 1.min(self.limit - 1);
        }
        let rank = self.limit as f64 * (eta * u - eta + 1.0).powf(alpha);
        (rank as u64).min(self.limit - 1)
    }
}

const THETA: f64 = 0.99;

fn zipf_constants(limit: u64) -> (f64, f64, f64) {
    let zeta: f64 = (1..=limit).map(|n| (n as f64).powf(-THETA)).sum();
    let zeta_of_two = 1.0 + 0.5f64.powf(THETA);
    let shrink = (2.0 / limit as f64).powf(1.0 - THETA);
    let eta = (1.0 - shrink) / (1.0 - zeta_of_two / zeta);
    (zeta, eta, 1.0 / (1.0 - THETA))
}
