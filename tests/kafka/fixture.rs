//! Apache Kafka as the tests need it: one node or three on loopback, each with its own data folder.
//!
//! Owns the broker processes, and never leaves one behind: every broker runs under a small shell that holds a pipe from
//! the test process, and kills its broker when that pipe closes, however the test process ended. Kafka's own command
//! line programs are in `tools`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::metadata;
use crate::tools::{self, Record};

/// Apache Kafka with one node or three, of the version that `OTTLA_KAFKA` names. Dropping it kills the brokers and
/// removes their data.
pub struct RealKafka {
    nodes: Vec<Node>,
}

impl RealKafka {
    /// Starts `count` nodes (1 or 3), each broker and controller, and waits until all of them serve.
    ///
    /// Three nodes keep three replicas of every partition, and `acks=all` needs two of them.
    pub fn start(count: usize) -> Self {
        Self::start_with(count, &[])
    }

    /// The same with more lines in every node's `server.properties`.
    pub fn start_with(count: usize, settings: &[&str]) -> Self {
        Self::start_nodes(count, settings, None)
    }

    /// A single node with more lines in its `server.properties` and one more listener, `sasl_address`, which lets in
    /// `ann` with [`PASSWORD`] by PLAIN and both SCRAMs, and whoever has a token that nobody signed.
    pub fn start_with_logins(settings: &[&str]) -> Self {
        Self::start_nodes(1, settings, Some("SASL_PLAINTEXT"))
    }

    /// A single node with more lines in its `server.properties`, which name its certificate, and one more listener,
    /// `tls_address`.
    #[cfg(feature = "_tls")]
    pub fn start_with_tls(settings: &[&str]) -> Self {
        Self::start_nodes(1, settings, Some("SSL"))
    }

    /// So many nodes with more lines in their `server.properties`, which name their certificate, and one more listener
    /// each, those of `secured_bootstrap`: encrypted, and with the logins of `start_with_logins`.
    #[cfg(feature = "_tls")]
    pub fn start_secured(count: usize, settings: &[&str]) -> Self {
        Self::start_nodes(count, settings, Some("SASL_SSL"))
    }

    /// `also` is the security protocol of one more listener.
    fn start_nodes(count: usize, settings: &[&str], also: Option<&'static str>) -> Self {
        assert!(count == 1 || count == 3, "a quorum of 1 or 3 nodes, not {count}");
        // RUST_LOG=ottla=debug shows what the client saw of a failed test.
        let _ = env_logger::builder().is_test(true).try_init();
        let folder = run_folder();
        let ports = free_ports(2 * count);
        let (broker_ports, controller_ports) = ports.split_at(count);
        let voters: Vec<String> =
            controller_ports.iter().zip(1..).map(|(port, id)| format!("{id}@127.0.0.1:{port}")).collect();
        let cluster_id = new_cluster_id();
        let nodes = (0..count)
            .map(|at| {
                let mut node = Node::new(&folder, at + 1, broker_ports[at], controller_ports[at]);
                node.also = also.map(|protocol| (protocol, free_ports(1)[0]));
                node.format(&(properties(&node, at + 1, &voters) + &settings.join("\n")), &cluster_id);
                node
            })
            .collect();
        let mut kafka = Self { nodes };
        kafka.restart_all(&(1..=count).collect::<Vec<_>>());
        kafka
    }

    /// A single node that all tests of this process share: use your own topics, and do not stop it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<RealKafka> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(1))
    }

    /// Three nodes for one test after the other: kill, stop and freeze them as you like, but use your own topics.
    ///
    /// Whatever the test before left behind, all three serve.
    pub fn three() -> MutexGuard<'static, Self> {
        static THREE: OnceLock<Mutex<RealKafka>> = OnceLock::new();
        let three = THREE.get_or_init(|| Mutex::new(Self::start(3)));
        // A test that failed has poisoned it, which says nothing about the nodes.
        let mut kafka = three.lock().unwrap_or_else(PoisonError::into_inner);
        let down: Vec<usize> = (1..=3).filter(|node| !kafka.is_running(*node)).collect();
        kafka.restart_all(&down);
        for node in 1..=3 {
            kafka.resume(node);
        }
        kafka
    }

    /// The addresses of all nodes, `host:port,host:port`.
    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(Node::address).collect::<Vec<_>>().join(",")
    }

    /// The address of one node.
    pub fn address(&self, node: usize) -> String {
        self.nodes[node - 1].address()
    }

    /// The address of the listener of the first node that wants a login.
    pub fn sasl_address(&self) -> String {
        self.also_address()
    }

    /// The address of the listener of the first node that is encrypted.
    #[cfg(feature = "_tls")]
    pub fn tls_address(&self) -> String {
        self.also_address()
    }

    /// The addresses of all encrypted listeners that want a login, `ssl://host:port,ssl://host:port`.
    #[cfg(feature = "_tls")]
    pub fn secured_bootstrap(&self) -> String {
        self.nodes.iter().map(|node| format!("ssl://{}", node.also_address())).collect::<Vec<_>>().join(",")
    }

    fn also_address(&self) -> String {
        self.nodes[0].also_address()
    }

    fn is_running(&self, node: usize) -> bool {
        self.nodes[node - 1].running.is_some()
    }

    /// The partitions of a topic as some node that runs sees them.
    pub fn partitions(&self, topic: &str) -> Vec<metadata::Partition> {
        let running = self.nodes.iter().filter(|node| node.running.is_some());
        metadata::partitions(&running.map(Node::address).collect::<Vec<_>>(), topic)
    }

    /// Waits until every partition of a topic has a leader and `replicas` replicas in sync.
    pub fn wait_until_whole(&self, topic: &str, replicas: usize) {
        wait_for(&format!("{replicas} replicas of {topic} in sync"), || {
            let partitions = self.partitions(topic);
            !partitions.is_empty() && partitions.iter().all(|it| it.leader.is_some() && it.in_sync == replicas)
        });
    }

    /// Waits until a partition is led by another node than this one.
    pub fn wait_until_another_leads(&self, topic: &str, partition: usize, node: usize) {
        wait_for(&format!("a new leader of {topic}-{partition}"), || {
            let leader = self.partitions(topic).get(partition).and_then(|partition| partition.leader);
            leader.is_some_and(|leader| leader != node)
        });
    }

    /// The address where a node's controller listens: it speaks Kafka's protocol, but is no broker.
    pub fn controller_address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.nodes[node - 1].controller_port)
    }

    /// Creates a topic; `configs` are `name=value`.
    pub fn create_topic(&self, name: &str, partitions: usize, configs: &[&str]) {
        tools::create_topic(&self.bootstrap(), name, partitions, configs);
    }

    /// Creates a topic with its replicas where `places` says: `1:2,2:3` is two partitions, led by nodes 1 and 2.
    pub fn create_placed_topic(&self, name: &str, places: &str, configs: &[&str]) {
        tools::create_placed_topic(&self.bootstrap(), name, places, configs);
    }

    /// The node that leads a partition, or `None` while there is no leader.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<usize> {
        tools::leader(&self.bootstrap(), topic, partition)
    }

    /// Everything that is in a topic, read by Kafka's console consumer, ordered by partition and offset.
    pub fn read_all(&self, topic: &str) -> Vec<Record> {
        tools::read_all(&self.bootstrap(), topic)
    }

    /// How many records each partition of a topic holds.
    pub fn counts(&self, topic: &str) -> Vec<usize> {
        tools::end_offsets(&self.bootstrap(), topic)
    }

    /// The batches of a partition as they lie on a node's disk, one line each, as Kafka's `DumpLogSegments` shows them.
    pub fn dump_batches(&self, node: usize, topic: &str, partition: i32) -> Vec<String> {
        let segment = self.nodes[node - 1]
            .folder
            .join("data")
            .join(format!("{topic}-{partition}"))
            .join("00000000000000000000.log");
        tools::dump_batches(&segment)
    }

    /// What a node has logged since its last start.
    pub fn log(&self, node: usize) -> String {
        fs::read_to_string(self.nodes[node - 1].log()).unwrap_or_default()
    }

    /// Kills a node as a power failure does (SIGKILL).
    pub fn kill(&mut self, node: usize) {
        self.nodes[node - 1].end("kill");
    }

    /// Stops a node in order (SIGTERM), and waits until its process is gone.
    pub fn stop(&mut self, node: usize) {
        self.nodes[node - 1].end("stop");
    }

    /// Starts a node again that was killed or stopped, with its data and its ports, and waits until it serves.
    pub fn restart(&mut self, node: usize) {
        self.restart_all(&[node]);
    }

    /// The same for several nodes, which may need each other to serve.
    pub fn restart_all(&mut self, nodes: &[usize]) {
        for node in nodes {
            self.nodes[node - 1].launch();
        }
        for node in nodes {
            self.nodes[node - 1].wait_until_started();
        }
    }

    /// Kills all nodes, and starts others at the same addresses: a cluster of its own, with nothing in it.
    pub fn replace(&mut self) {
        let cluster_id = new_cluster_id();
        for node in &mut self.nodes {
            node.end("kill");
            let _ = fs::remove_dir_all(node.folder.join("data"));
            let properties = fs::read_to_string(node.properties()).expect("written when it was first formatted");
            node.format(&properties, &cluster_id);
        }
        self.restart_all(&(1..=self.nodes.len()).collect::<Vec<_>>());
    }

    /// Freezes a node (SIGSTOP): its connections stay open, and nothing answers.
    pub fn pause(&self, node: usize) {
        self.nodes[node - 1].signal("STOP");
    }

    /// Lets a frozen node go on.
    pub fn resume(&self, node: usize) {
        self.nodes[node - 1].signal("CONT");
    }
}

struct Node {
    folder: PathBuf,
    port: u16,
    controller_port: u16,
    /// The security protocol and the port of one more listener, if there is one.
    also: Option<(&'static str, u16)>,
    running: Option<Running>,
}

/// The shell that guards a broker, and the broker's process id.
struct Running {
    guard: Child,
    commands: ChildStdin,
    pid: u32,
}

impl Node {
    fn new(run: &Path, id: usize, port: u16, controller_port: u16) -> Self {
        Self { folder: run.join(format!("node-{id}")), port, controller_port, also: None, running: None }
    }

    fn format(&self, properties: &str, cluster_id: &str) {
        fs::create_dir_all(&self.folder).expect("the target folder can be written");
        fs::write(self.properties(), properties).expect("the target folder can be written");
        let users = ["SCRAM-SHA-256", "SCRAM-SHA-512"].map(|it| format!("{it}=[name=ann,password={PASSWORD}]"));
        let users = users.iter().filter(|_| self.also.is_some_and(|(protocol, _)| protocol.starts_with("SASL")));
        let output = tools::broker_java(&[])
            .args(["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c"])
            .arg(self.properties())
            .args(users.flat_map(|user| ["--add-scram", user]))
            .output()
            .expect("java was found before");
        assert!(output.status.success(), "formatting failed: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn launch(&mut self) {
        assert!(self.running.is_none(), "node {} runs already", self.address());
        let _ = fs::remove_file(self.log());
        let broker = tools::broker_java(&["-Xmx512m"]);
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(self.folder.join("data"))
            .arg(broker.get_program())
            .arg(format!("-Dorg.slf4j.simpleLogger.logFile={}", self.log().display()))
            .args(["-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=info"])
            .args(broker.get_args())
            .arg("kafka.Kafka")
            .arg(self.properties())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(self.folder.join("console.log")).expect("the target folder can be written"))
            .spawn()
            .expect("a shell starts");
        let commands = guard.stdin.take().expect("piped above");
        let mut pid = String::new();
        BufReader::new(guard.stdout.take().expect("piped above")).read_line(&mut pid).expect("the shell says the pid");
        let pid = pid.trim().parse().expect("the shell says the pid");
        self.running = Some(Running { guard, commands, pid });
    }

    fn wait_until_started(&self) {
        let began = Instant::now();
        loop {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            if log.contains("Kafka Server started") {
                return;
            }
            if began.elapsed() > START_LIMIT || log.contains("Exiting Kafka due to fatal exception") {
                let console = fs::read_to_string(self.folder.join("console.log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(20).collect();
                panic!("Kafka did not start within {START_LIMIT:?}: {console}\n{}", last.join("\n"));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Says `word` to the guard, and waits until the broker and the guard are gone.
    fn end(&mut self, word: &str) {
        let mut running = self.running.take().expect("the node runs");
        writeln!(running.commands, "{word}").expect("the guard reads");
        drop(running.commands);
        running.guard.wait().expect("the guard ends");
    }

    fn signal(&self, name: &str) {
        let pid = self.running.as_ref().expect("the node runs").pid;
        let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().expect("kill exists");
        assert!(sent.success(), "SIG{name} was not delivered to {pid}");
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn also_address(&self) -> String {
        format!("127.0.0.1:{}", self.also.expect("it was started with one more listener").1)
    }

    fn properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            // The closed pipe is the command to kill the broker and remove its data.
            drop(running.commands);
            let _ = running.guard.wait();
        }
    }
}

fn properties(node: &Node, id: usize, voters: &[String]) -> String {
    let (port, controller_port) = (node.port, node.controller_port);
    let also = node.also.map_or_else(String::new, |(protocol, port)| format!(",{protocol}://127.0.0.1:{port}"));
    let mut security = String::new();
    if let Some((protocol, _)) = node.also {
        security +=
            &format!("listener.security.protocol.map=PLAINTEXT:PLAINTEXT,{protocol}:{protocol},CONTROLLER:PLAINTEXT\n");
        if protocol.starts_with("SASL") {
            security += &LOGINS.replace("PASSWORD", PASSWORD).replace("LISTENER", &protocol.to_lowercase());
        }
    }
    let replicas = voters.len();
    let in_sync = if replicas == 1 { 1 } else { 2 };
    format!(
        "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port}{also},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{also}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
num.partitions=3
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
# A killed node is noticed after 4 s, not 9, so that tests of it are short.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
{security}",
        voters = voters.join(","),
        data = node.folder.join("data").display(),
    )
}

/// Waits until something is so, as long as a node may take to start.
fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < START_LIMIT, "not within {START_LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// A folder for this call, under cargo's target folder. What earlier runs left is removed first.
fn run_folder() -> PathBuf {
    static SWEEP: Once = Once::new();
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let runs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka-runs");
    SWEEP.call_once(|| {
        for entry in fs::read_dir(&runs).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_string_lossy().split('-').next().unwrap_or_default().to_owned();
            let alive = Command::new("kill").args(["-0", &pid]).stderr(Stdio::null()).status();
            if !alive.is_ok_and(|status| status.success()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    });
    runs.join(format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)))
}

/// Ports below those that the system gives to outgoing connections, so that none is taken while a broker is down.
fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut held = Vec::new();
    for _ in 0..12_000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(37));
        let port = 20_000 + u16::try_from(step % 12_000).expect("below 12,000");
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
        if held.len() == count {
            return held.into_iter().map(|(port, _)| port).collect();
        }
    }
    panic!("no {count} free ports between 20000 and 32000");
}

/// 16 bytes in URL-safe base64: 22 characters, the last of them with four zero bits.
fn new_cluster_id() -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    format!("ottla{:016x}A", nanos & u128::from(u64::MAX))
}

/// The password of `ann`.
pub const PASSWORD: &str = "open-sesame";

/// The lines of a listener that wants a login.
const LOGINS: &str = "\
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.LISTENER.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_ann=\"PASSWORD\";
listener.name.LISTENER.scram-sha-256.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.LISTENER.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.LISTENER.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";
";

const START_LIMIT: Duration = Duration::from_secs(120);

/// Starts the broker, says its process id, and waits for a word or for the end of the pipe: the test process closes
/// it on purpose, by a panic, or by being killed. The data are removed only when no word was said. The broker has its
/// standard output with its errors, because a pipe that nobody reads would stop it.
const GUARD: &str = r#"
data=$1
shift
"$@" </dev/null >&2 &
pid=$!
echo $pid
read -r word
case $word in
    stop) kill -TERM $pid ;;
    *) kill -KILL $pid ;;
esac
wait $pid
[ -n "$word" ] || rm -rf "$data"
"#;
