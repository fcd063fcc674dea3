//! Bounds on the set of rows that match, and their algebra.

use roaring::RoaringBitmap;

/// `sure ⊆ truth ⊆ maybe`; exact when they are equal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hits {
    /// Rows that match.
    pub sure: RoaringBitmap,
    /// Rows outside of this do not match.
    pub maybe: RoaringBitmap,
}

impl Hits {
    /// No row matches.
    pub fn none() -> Self {
        Self::default()
    }

    /// Each of `rows` rows matches.
    pub fn all(rows: u32) -> Self {
        Self::exact(every(rows))
    }

    /// Nothing is known of `rows` rows.
    pub fn unknown(rows: u32) -> Self {
        Self { sure: RoaringBitmap::new(), maybe: every(rows) }
    }

    /// These rows match, and no other.
    pub fn exact(rows: RoaringBitmap) -> Self {
        Self { sure: rows.clone(), maybe: rows }
    }

    /// Whether the bounds meet, so that nothing is left to verify.
    pub fn is_exact(&self) -> bool {
        self.sure.len() == self.maybe.len()
    }

    /// The rows that have to be verified.
    pub fn unverified(&self) -> RoaringBitmap {
        &self.maybe - &self.sure
    }

    /// Rows that match both.
    pub fn and(mut self, other: &Hits) -> Self {
        self.sure &= &other.sure;
        self.maybe &= &other.maybe;
        self
    }

    /// Rows that match either.
    pub fn or(mut self, other: &Hits) -> Self {
        self.sure |= &other.sure;
        self.maybe |= &other.maybe;
        self
    }

    /// Those of `rows` rows that do not match: what is sure becomes impossible, what is impossible becomes sure.
    pub fn not(self, rows: u32) -> Self {
        let all = every(rows);
        Self { sure: &all - &self.maybe, maybe: all - self.sure }
    }
}

fn every(rows: u32) -> RoaringBitmap {
    let mut all = RoaringBitmap::new();
    all.insert_range(0..rows);
    all
}
