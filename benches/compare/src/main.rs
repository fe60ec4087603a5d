//! ottla beside rdkafka, which is librdkafka, on this machine.
//!
//!     cargo run --release --manifest-path benches/compare/Cargo.toml
//!     cargo run --release --manifest-path benches/compare/Cargo.toml -- --runs 2 --count 500000 --size 1024
//!
//! Both produce the same messages with the same settings to a broker that acknowledges at once and keeps nothing, so
//! that the client is what is measured. Each run of each client is a process of its own, and so is the broker; the
//! clients take turns. README.md says what the figures mean.
#![expect(clippy::disallowed_methods, reason = "a program has threads, and looks at the clock")]

mod clients;
mod measure;
mod sink;

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};

use measure::Figures;

const USAGE: &str = "\
Compares ottla with rdkafka on this machine.

usage: compare [options]

  --runs N      of each, by turns; the table has the medians (default 5)
  --count N     how many messages are measured in each run (default 3000000)
  --size BYTES  the size of a message (default 100)
  --help        this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("--help") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        // What this program calls itself with.
        Some("sink") => sink::serve().map_err(Into::into),
        Some(peer) if PEERS.contains(&peer) => Load::parse(&arguments[1..]).map_err(Into::into).and_then(|load| {
            println!("{}", clients::run(peer, &load)?);
            Ok(())
        }),
        _ => Load::parse(&arguments).map_err(Into::into).and_then(|load| compare(&load)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is produced, how often, and where.
struct Load {
    runs: usize,
    count: u64,
    size: usize,
    bootstrap: String,
}

impl Load {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut load = Self { runs: 5, count: 3_000_000, size: 100, bootstrap: String::new() };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else { return Err(format!("{} needs a value", pair[0])) };
            let number = || value.parse::<u64>().map_err(|_| format!("{name} {value}: not a number"));
            match &**name {
                "--runs" => load.runs = number()?.max(1) as usize,
                "--count" => load.count = number()?.max(1),
                "--size" => load.size = number()?.clamp(1, 900_000) as usize,
                "--bootstrap" => load.bootstrap.clone_from(value),
                _ => return Err(format!("there is no option {name}; --help lists them")),
            }
        }
        Ok(load)
    }
}

fn compare(load: &Load) -> Result<(), Box<dyn Error>> {
    let mut figures: [Vec<Figures>; 2] = Default::default();
    for run in 1..=load.runs {
        for (peer, figures) in PEERS.iter().zip(&mut figures) {
            let found = run_apart(peer, load)?;
            eprintln!("run {run} of {}, {peer}: {found}", load.runs);
            figures.push(found);
        }
    }
    let [theirs, ours] = figures.map(measure::medians);
    println!("{} messages of {} bytes, medians of {} runs\n", load.count, load.size, load.runs);
    println!("{:<28} {:>12} {:>18} {:>14}", "", "messages/s", "CPU us/message", "peak memory");
    for (name, found) in [(clients::rdkafka_version(), &theirs), (clients::ottla_version(), &ours)] {
        println!(
            "{name:<28} {:>12.0} {:>18.3} {:>11.1} MB",
            found.messages_per_second, found.cpu_us_per_message, found.peak_mb
        );
    }
    println!(
        "{:<28} {:>11.2}x {:>17.2}x {:>13.2}x",
        "ottla to rdkafka",
        ours.messages_per_second / theirs.messages_per_second,
        ours.cpu_us_per_message / theirs.cpu_us_per_message,
        ours.peak_mb / theirs.peak_mb
    );
    Ok(())
}

/// One run of one client, in a process of its own and against a broker of its own.
fn run_apart(peer: &str, load: &Load) -> Result<Figures, Box<dyn Error>> {
    let mut sink = Sink(myself(&["sink"])?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
    let bootstrap = sink.first_line()?;
    let [count, size] = [load.count.to_string(), load.size.to_string()];
    let client = myself(&[peer, "--bootstrap", &bootstrap, "--count", &count, "--size", &size])?
        .stderr(Stdio::inherit())
        .output()?;
    if !client.status.success() {
        return Err(format!("{peer} ended with {}", client.status).into());
    }
    Ok(String::from_utf8(client.stdout)?.trim().parse()?)
}

fn myself(arguments: &[&str]) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments);
    Ok(command)
}

/// The process of a broker, which ends with this.
struct Sink(Child);

impl Sink {
    fn first_line(&mut self) -> Result<String, Box<dyn Error>> {
        let output = self.0.stdout.take().ok_or("the broker has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // If it has ended already, that is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In the order of the table.
const PEERS: [&str; 2] = ["rdkafka", "ottla"];
