//! What is done to the worker's turns: a message that breaks the engine, and bugs on the ways into it and out of it.

use std::collections::VecDeque;
use std::mem;

use crate::unthreaded::Meddler;
use ottla::engine::producer::BatchFate;
use ottla::fate::slot::Slot;
use ottla::queue::chunk::Chunk;
use ottla::queue::extras::{Extra, Extras};
use ottla::{DeliveryErrorKind, ErrorCode, Persistence};

use crate::planted::Bug;
use crate::worker::Break;

#[derive(Default)]
pub struct Meddling {
    bug: Option<Bug>,
    breaks: Option<Break>,
    cut: Option<Cut>,
    lost_below: u64,
    now_and_then: bool,
    /// Handles that are filled once more in the next turn.
    again: Vec<Extras>,
}

/// A message that was broken, so that the engine breaks on it, and where it really begins.
#[derive(Clone, Copy)]
pub struct Cut {
    pub first: u64,
    pub index: usize,
    pub start: u32,
}

impl Meddling {
    pub fn with(bug: Option<Bug>) -> Self {
        Self { bug, ..Self::default() }
    }

    /// What is done in the next turn. Bugs that lose what came before a message lose what is below `lost_below`; those
    /// that do not always show do so `now_and_then`.
    pub fn begin(&mut self, breaks: Option<Break>, lost_below: u64, now_and_then: bool) {
        (self.breaks, self.lost_below, self.now_and_then) = (breaks, lost_below, now_and_then);
    }

    /// The message that was broken in the last turn.
    pub fn take_cut(&mut self) -> Option<Cut> {
        self.cut.take()
    }

    fn fill_twice(&mut self, fate: &BatchFate) {
        mem::take(&mut self.again).iter().flat_map(Extras::slots).for_each(Slot::fill_again);
        for slot in fate.slots().filter(|_| fate.is_delivered()) {
            if self.now_and_then {
                slot.fill_again();
            } else {
                let mut kept = Extras::default();
                slot.enter();
                kept.push(0, &Extra { slot: Some(slot), ..Extra::default() });
                self.again.push(kept);
            }
        }
    }
}

impl Meddler for Meddling {
    fn chunks(&mut self, chunks: &mut VecDeque<Chunk>, closed: bool) {
        if closed && self.bug == Some(Bug::DropLastBatchAtShutdown) {
            chunks.pop_back();
        }
        chunks.retain(|chunk| chunk.first >= self.lost_below);
        let Some(Break::InChunk(index)) = self.breaks else { return };
        let Some(chunk) = chunks.front_mut().filter(|chunk| chunk.taken == 0 && !chunk.is_empty()) else { return };
        let index = index.min(chunk.len() - 1);
        self.cut = Some(Cut { first: chunk.first, index, start: chunk.break_at(index) });
    }

    fn fates(&mut self, fates: &mut VecDeque<BatchFate>) {
        match self.bug {
            Some(Bug::ForgetTooLarge) => fates.retain(|fate| !is_too_large(fate)),
            Some(Bug::CompleteTwice) => fates.iter().for_each(|fate| self.fill_twice(fate)),
            Some(Bug::FailForCertain) => {
                for fate in fates {
                    if let Err((_, persistence)) = fate.outcome_mut() {
                        *persistence = Persistence::No;
                    }
                }
            }
            Some(Bug::OffsetOfTheLast) => {
                for fate in fates {
                    let behind_first = fate.count() as i64 - 1;
                    if let Ok(ack) = fate.outcome_mut() {
                        ack.base_offset = ack.base_offset.map(|offset| offset - behind_first);
                    }
                }
            }
            _ => {}
        }
    }
}

fn is_too_large(fate: &BatchFate) -> bool {
    let kind = fate.error().map(|(kind, _)| &**kind);
    matches!(kind, Some(DeliveryErrorKind::Broker(error)) if error.code == ErrorCode::MESSAGE_TOO_LARGE)
}
