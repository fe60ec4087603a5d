//! The logger and the panic hook of this process: each does what it is armed with, once, on a thread with this name.

use std::panic;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;

use log::{LevelFilter, Log, Metadata, Record};

type Trap = (&'static str, Box<dyn FnOnce() + Send>);

static LOGGER: Mutex<Option<Trap>> = Mutex::new(None);
static PANIC_HOOK: Mutex<Option<Trap>> = Mutex::new(None);

/// The next line of the log that comes from a thread of this name runs this.
pub fn arm_logger(thread: &'static str, run: impl FnOnce() + Send + 'static) {
    *lock(&LOGGER) = Some((thread, Box::new(run)));
}

/// The next panic of a thread of this name runs this.
pub fn arm_panic_hook(thread: &'static str, run: impl FnOnce() + Send + 'static) {
    *lock(&PANIC_HOOK) = Some((thread, Box::new(run)));
}

/// One test at a time: what is armed is one for all. Installs both.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        log::set_logger(&Spy).unwrap();
        log::set_max_level(LevelFilter::Debug);
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !spring(&PANIC_HOOK) {
                usual(panic);
            }
        }));
    });
    lock(&TURN)
}

struct Spy;

impl Log for Spy {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.target().starts_with("ottla") {
            spring(&LOGGER);
        }
    }

    fn flush(&self) {}
}

/// Runs what is armed for this thread, with nothing locked.
fn spring(trap: &Mutex<Option<Trap>>) -> bool {
    let here = thread::current();
    let armed = lock(trap).take_if(|(thread, _)| here.name() == Some(thread));
    armed.map(|(_, run)| run()).is_some()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
