//! Starts the example programs, and reads what `pipe` says at its end.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

pub fn pipe(bootstrap: &str, topic: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut pipe = start_pipe(bootstrap, topic, arguments);
    let mut stdin = pipe.stdin.take().expect("piped");
    stdin.write_all(input).expect("pipe reads");
    drop(stdin);
    pipe.wait_with_output().expect("pipe ends")
}

pub fn start_pipe(bootstrap: &str, topic: &str, arguments: &[&str]) -> Child {
    Command::new(example("pipe"))
        .args(["--bootstrap", bootstrap, "--topic", topic])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pipe starts")
}

/// read, accepted, delivered, failed, undelivered, overflowed: from the last line, and they add up.
pub fn account(output: &Output) -> [u64; 6] {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().expect("a last line");
    let fields = line.strip_prefix('{').and_then(|line| line.strip_suffix('}')).expect("a JSON object");
    let names = ["read", "accepted", "delivered", "failed", "undelivered", "overflowed"];
    let counts: Vec<u64> = fields
        .split(',')
        .zip(names)
        .map(|(field, name)| {
            let number = field.strip_prefix(&format!("\"{name}\":"));
            number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line}"))
        })
        .collect();
    let counts = <[u64; 6]>::try_from(counts).expect("six counts");
    let [read, accepted, delivered, failed, undelivered, overflowed] = counts;
    assert_eq!(read, delivered + failed + undelivered + overflowed, "{line}");
    assert!(accepted <= read && delivered <= accepted, "{line}");
    counts
}

pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().expect("kill exists");
    assert!(sent.success());
}

/// A file that does not exist yet.
pub fn fresh_file(name: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("undelivered-{name}-{}", std::process::id()));
    let _ = fs::remove_file(&file);
    file
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// An example, built once, as `cargo test` builds them.
pub fn example(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        // tmp is in the target folder.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
        let tls = [
            (cfg!(feature = "tls"), "tls"),
            (cfg!(feature = "tls-ring"), "tls-ring"),
            (cfg!(feature = "tls-aws-lc-rs"), "tls-aws-lc-rs"),
        ];
        let built = Command::new(env!("CARGO"))
            .args(["build", "--profile", "test", "--examples", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(target)
            .args(tls.iter().filter(|(is_on, _)| *is_on).flat_map(|(_, name)| ["--features", name]))
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the examples do not build");
        target.join("debug/examples")
    });
    folder.join(name)
}
