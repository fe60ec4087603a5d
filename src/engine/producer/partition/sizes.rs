//! How the batches of a partition become smaller, because its broker refused one as too large. How small is learned for
//! the whole topic (`size`).

use super::{Freed, Partition};

impl Partition {
    /// The broker found the batch at `index` too large: puts smaller ones in its place.
    pub fn split(&mut self, index: usize) -> Freed {
        let most = self.rules.max_batch_bytes;
        self.replace(index, |batch| {
            // Whatever batches may have by now, the pieces are smaller than what was refused.
            let most = most.min(batch.len() - 1);
            batch.cut(most, |_| true).0
        })
    }

    /// Bytes that a batch may have from now on.
    pub fn limit_batches(&mut self, max_batch_bytes: usize) {
        self.rules.max_batch_bytes = max_batch_bytes;
    }

    /// Cuts the batch that goes next, if it was made when batches could be larger: it would be refused.
    pub fn cut_next(&mut self) {
        let most = self.rules.max_batch_bytes;
        if self.unsent.front().is_none_or(|batch| batch.len() <= most || batch.count() < 2) {
            return;
        }
        let pieces = self.unsent.pop_front().map_or_else(Vec::new, |batch| batch.cut(most, |_| true).0);
        for piece in pieces.into_iter().rev() {
            self.unsent.push_front(Box::new(piece));
        }
    }
}
