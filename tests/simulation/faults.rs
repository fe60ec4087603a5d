//! What goes wrong, and when.

use std::time::Duration;

use ottla::testing::{Api, Fault};

use crate::world::{Happening, TROUBLE, World};

impl World {
    /// Chooses what happens in a run.
    pub fn plan(&mut self) {
        let bursts = 1 + self.below(20);
        for _ in 0..bursts {
            let at = self.within(TROUBLE);
            self.at(at, Happening::Produce);
        }
        for rare in [Happening::Panic, Happening::Abandon, Happening::Delete] {
            if self.below(8) == 0 {
                let at = self.within(TROUBLE);
                self.at(at, rare);
            }
        }
        for _ in 0..self.below(12) {
            let at = self.within(TROUBLE);
            let node = 1 + self.below(self.brokers as u64) as i32;
            let happening = match self.below(12) {
                0..=3 => Happening::Cut,
                4 | 5 => {
                    let down = self.within(Duration::from_secs(8));
                    self.at(at + down, Happening::Start(node));
                    Happening::Stop(node)
                }
                6 | 7 => Happening::Move,
                8 => Happening::Purge,
                _ => Happening::Refuse,
            };
            self.at(at, happening);
        }
        self.at(TROUBLE + Duration::from_secs(9), Happening::Repair);
        // What is produced from now on has no reason to wait.
        self.at(TROUBLE + Duration::from_secs(12), Happening::Produce);
        self.at(TROUBLE + Duration::from_secs(60) + 2 * self.client.socket_timeout, Happening::Settled);
    }

    pub fn refuse(&mut self) {
        const CODES: [i16; 22] = [-1, 2, 3, 5, 6, 7, 10, 13, 19, 20, 29, 32, 45, 47, 56, 59, 72, 74, 87, 89, 100, 9999];
        let api = match self.below(8) {
            0 => Api::Metadata,
            1 => Api::InitProducerId,
            _ => Api::Produce,
        };
        let mut fault = Fault::on(api).skip(self.below(4)).times(1 + self.below(3));
        let code = CODES[self.below(CODES.len() as u64) as usize];
        fault = match self.below(12) {
            0 => fault.cut_before(),
            1 | 2 => fault.cut_after(),
            3 => fault.cut_inside(self.below(40) as usize),
            4 => fault.wrong_correlation(),
            5 => fault.delay(Duration::from_millis(self.below(9000))),
            6 => fault.throttle(Duration::from_millis(self.below(5000))),
            7 => fault.raw([0, 0, 0, 0]),
            _ if matches!(code, 3 | 6 | 7 | 20 | 56) && self.below(2) == 0 => fault.error_after(code),
            _ => fault.error(code),
        };
        self.tell(|| format!("{fault:?}"));
        self.cluster.inject(fault);
    }
}
