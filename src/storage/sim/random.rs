//! A small seeded generator (splitmix64): the same seed gives the same numbers on every platform
//! and in every release, which a failing seed in a bug report relies on.

#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// A generator for one purpose, told apart from the others of the same seed.
    pub(super) fn derive(seed: u64, purpose: u64) -> Self {
        let mut mixer = Random(seed ^ 0x6175_726f_7261_5f31);
        let first = mixer.next();
        Random(first ^ Random(purpose).next())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, or 0 if that is 0. The bias is far below what a test could see.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }
}
