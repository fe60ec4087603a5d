//! What goes wrong, and when.

use std::time::Duration;

use ottla::ErrorCode;
use ottla::testing::{Api, Fault};

use crate::worker::Break;
use crate::world::{Happening, Story, TROUBLE, World};

impl World {
    /// Chooses what happens in a run.
    pub fn plan(&mut self) {
        let bursts = 1 + self.below(25);
        for _ in 0..bursts {
            let at = self.within(TROUBLE);
            let caller = self.below(self.callers.len() as u64) as usize;
            self.at(at, Happening::Call(caller));
        }
        match self.story {
            Story::Any | Story::Logins => self.plan_faults(),
            Story::Anew => self.plan_anew(),
            Story::Stopped => self.plan_stops(),
        }
        self.at(TROUBLE + Duration::from_secs(9), Happening::Repair);
        // What is produced from now on has no reason to wait.
        self.at(TROUBLE + Duration::from_secs(12), Happening::LastCall);
        self.at(TROUBLE + Duration::from_secs(60) + 2 * self.client.socket_timeout, Happening::Settled);
    }

    fn plan_faults(&mut self) {
        if self.below(8) == 0 {
            let at = self.within(TROUBLE);
            self.at(at, Happening::Delete);
        }
        if self.below(4) == 0 {
            let at = self.within(TROUBLE);
            self.at(at, Happening::ShutDown(0));
            if self.below(3) == 0 && self.callers.len() > 1 {
                let later = self.within(Duration::from_secs(2));
                self.at(at + later, Happening::ShutDown(1));
            }
        }
        self.plan_panics();
        for _ in 0..self.below(12) {
            let at = self.within(TROUBLE);
            let node = 1 + self.below(self.brokers as u64) as i32;
            let happening = match self.below(14) {
                0..=3 => Happening::Cut,
                4 | 5 => {
                    let down = self.within(Duration::from_secs(8));
                    self.at(at + down, Happening::Start(node));
                    Happening::Stop(node)
                }
                6 | 7 => Happening::Move,
                8 if self.names => Happening::Elsewhere(node),
                9 => Happening::Awake,
                _ => Happening::Refuse,
            };
            self.at(at, happening);
        }
    }

    fn plan_panics(&mut self) {
        if self.below(6) > 0 {
            return;
        }
        let at = self.within(TROUBLE);
        // So many that the worker gives up.
        let times = if self.below(20) == 0 { 9 } else { 1 + self.below(2) };
        for _ in 0..times {
            let soon = self.within(Duration::from_millis(300));
            let how = match self.below(3) {
                0 => Break::AtOnce,
                1 => Break::InChunk(self.below(6) as usize),
                _ => Break::AtRequest(self.below(4) as usize),
            };
            self.at(at + soon, Happening::Break(how));
        }
    }

    pub fn refuse(&mut self) {
        /// Those that brokers answer a producer with.
        const USUAL: [i16; 22] = [-1, 2, 3, 5, 6, 7, 10, 13, 19, 20, 29, 32, 45, 47, 56, 59, 72, 74, 87, 89, 100, 9999];
        let api = match self.below(8) {
            2 if self.story == Story::Logins => Api::SaslAuthenticate,
            3 if self.story == Story::Logins => Api::SaslHandshake,
            0 => Api::Metadata,
            1 => Api::InitProducerId,
            _ => Api::Produce,
        };
        let mut fault = Fault::on(api).skip(self.below(4)).times(1 + self.below(3));
        if self.below(4) == 0 {
            fault = fault.node(1 + self.below(self.brokers as u64) as i32);
        }
        let code = match self.below(3) {
            0 => ErrorCode(self.below(ALL_CODES) as i16 - 1),
            _ => ErrorCode(USUAL[self.below(USUAL.len() as u64) as usize]),
        };
        fault = match self.below(12) {
            0 => fault.cut_before(),
            1 | 2 => fault.cut_after(),
            3 => fault.cut_inside(self.below(40) as usize),
            4 => fault.wrong_correlation(),
            5 => fault.delay(Duration::from_millis(self.below(9000))),
            6 => fault.throttle(Duration::from_millis(self.below(5000))),
            7 => fault.raw([0, 0, 0, 0]),
            // Only records that are wrong are refused as such.
            _ if self.compacted && matches!(code.0, 32 | 87) => fault.error(ErrorCode(9999)),
            // These say that the batch is there, and another fault may keep it out.
            _ if matches!(code, ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER) => fault.error(ErrorCode(9999)),
            _ if matches!(code.0, 3 | 6 | 7 | 20 | 56) && self.below(2) == 0 => fault.error_after(code),
            _ => fault.error(code),
        };
        self.tell(|| format!("{fault:?}"));
        self.cluster.inject(fault);
    }
}

/// As many as Kafka has, from -1 on, and some that it has not.
const ALL_CODES: u64 = 136;
