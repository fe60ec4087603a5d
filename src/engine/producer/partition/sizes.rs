//! Makes the batches of a partition smaller, after its broker refused one as too large. `size` learns the largest size
//! for the whole topic.

use super::{Departures, Partition};

impl Partition {
    /// The broker found the batch at `index` too large: puts smaller ones in its place.
    pub fn split(&mut self, index: usize, out: &mut Departures) {
        let most = self.rules.max_batch_bytes;
        self.replace(index, out, |batch, _| {
            // The pieces are smaller than the refused batch, whatever size batches may have by now.
            let most = most.min(batch.len() - 1);
            batch.cut(most, |_| true).0
        });
    }

    /// Bytes that a batch may have from now on.
    pub fn limit_batches(&mut self, max_batch_bytes: usize) {
        self.rules.max_batch_bytes = max_batch_bytes;
    }

    /// Cuts the batch that goes next, if it was made when batches could be larger and would be refused, or if it has
    /// more than its link should carry at a time.
    #[inline]
    pub fn cut_next(&mut self, link: usize) {
        let most = self.rules.max_batch_bytes.min(link);
        if self.unsent.front().is_some_and(|batch| batch.len() > most && batch.count() > 1) {
            self.cut_front(most);
        }
    }

    fn cut_front(&mut self, most: usize) {
        let Some(batch) = self.unsent.pop_front() else { return };
        let held = batch.queued.bytes;
        let mut pieces = batch.cut(most, |_| true).0;
        // The bytes that it held beside its messages become free when the first of them goes.
        let beside = held.saturating_sub(pieces.iter().map(|piece| piece.queued.bytes).sum());
        if let Some(first) = pieces.first_mut() {
            first.queued.bytes += beside;
        }
        for piece in pieces.into_iter().rev() {
            self.unsent.push_front(Box::new(piece));
        }
    }
}
