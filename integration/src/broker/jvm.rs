//! Kafka on the host's JVM, from the jars that Apache publishes to Maven Central. Ready in three seconds.

use super::{Broker, CLUSTER_ID, Secured, answers, free_ports, properties};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Ended by `atexit`.
static RUNNING: Mutex<Vec<(Child, PathBuf)>> = Mutex::new(Vec::new());

/// The JVM's settings in Kafka's own start scripts. What is measured needs them: with a small heap and the serial collector the
/// broker stands still for 14 ms in each 700, and that is what a 99th percentile shows. The image's start.sh has the same.
const AS_SHIPPED: [&str; 6] = [
    "-Xms1g",
    "-Xmx1g",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];

pub(super) fn start(secured: bool) -> Result<Broker> {
    let class_path = class_path()?;
    let java = java()?;
    let home = tempfile::Builder::new().prefix("pelton-kafka-").tempdir().context("no temporary directory")?.keep();
    let [port, internal, controller, secure] = free_ports()?;
    let bootstrap = format!("127.0.0.1:{port}");
    let secured = secured.then(|| Secured::new(format!("127.0.0.1:{secure}"))).transpose()?;
    let config = home.join("server.properties");
    let data = home.join("data");
    fs::write(
        &config,
        properties(
            (&bootstrap, &bootstrap),
            secured.as_ref().map(|at| (at.bootstrap.as_str(), at)),
            &format!("127.0.0.1:{internal}"),
            &format!("127.0.0.1:{controller}"),
            &data.to_string_lossy(),
        ),
    )?;
    let log = File::create(home.join("server.log"))?;
    let command = |main: &str| {
        let mut command = Command::new(&java);
        command
            .args(AS_SHIPPED)
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .args(["-cp", &class_path, main])
            .stdin(Stdio::null());
        command
    };
    let format = command("kafka.tools.StorageTool")
        .args(["format", "-t", CLUSTER_ID, "-c"])
        .arg(&config)
        .output()
        .context("cannot run java")?;
    if !format.status.success() {
        bail!("formatting the data directory failed: {}", String::from_utf8_lossy(&format.stderr));
    }
    let mut broker = command("kafka.Kafka");
    broker.arg(&config).stdout(log.try_clone()?).stderr(log);
    let child = spawn_bound(broker)?;
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push((child, home.clone()));
    // SAFETY: the handler touches only a static behind a lock and system calls.
    #[allow(unsafe_code, reason = "atexit is the only hook that runs when libtest ends the process")]
    unsafe {
        libc::atexit(end_all);
    }
    let log = home.join("server.log");
    answers(&bootstrap, Duration::from_secs(180), || last_words(&log))
        .with_context(|| format!("see {}", log.display()))?;
    Ok(Broker { bootstrap, description: "Apache Kafka 4.3.1 on the JVM".into(), secured })
}

/// Starts a process that dies with this one even when that is killed. The signal is bound to the thread that
/// forks, so that thread stays.
pub fn spawn_bound(mut command: Command) -> Result<Child> {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("parent".into()).spawn(move || {
        // SAFETY: prctl is async-signal-safe and changes only the child.
        #[allow(unsafe_code, reason = "PR_SET_PDEATHSIG has no safe wrapper in std")]
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let _ = send.send(command.spawn());
        loop {
            std::thread::park();
        }
    })?;
    receive.recv().context("the thread that starts processes ended")?.context("it cannot be started")
}

/// The log of the broker that was started last, if it has ended.
fn last_words(log: &Path) -> Option<String> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let (child, _) = running.last_mut()?;
    child.try_wait().ok().flatten()?;
    Some(fs::read_to_string(log).unwrap_or_default())
}

extern "C" fn end_all() {
    for (mut child, home) in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let _ = child.kill();
        let _ = child.wait();
        let _ = fs::remove_dir_all(home);
    }
}

/// The jars, fetched by Maven the first time.
pub(crate) fn class_path() -> Result<String> {
    let libs = crate::cache().join("kafka-4.3.1");
    let done = libs.join(".complete");
    // Two brokers may be wanted at once.
    static FETCH: Mutex<()> = Mutex::new(());
    let _alone = FETCH.lock().unwrap_or_else(PoisonError::into_inner);
    if !done.exists() {
        eprintln!("fetching the jars of Kafka 4.3.1 with Maven (about 50 MB, once)");
        let status = Command::new("mvn")
            .args(["-q", "-B", "-f"])
            .arg(crate::root().join("integration/kafka/pom.xml"))
            .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg(format!("-DoutputDirectory={}", fs::canonicalize(make(&libs)?)?.display()))
            .status()
            .context("cannot run `mvn`: install Maven (Debian: apt-get install maven), or run ./dev setup")?;
        if !status.success() {
            bail!("Maven could not fetch Kafka's jars");
        }
        File::create(&done)?;
    }
    let mut jars: Vec<String> = fs::read_dir(&libs)?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "jar"))
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    jars.sort();
    Ok(jars.join(":"))
}

fn make(dir: &Path) -> Result<&Path> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

pub(crate) fn java() -> Result<PathBuf> {
    let java =
        std::env::var_os("JAVA_HOME").map_or_else(|| PathBuf::from("java"), |h| PathBuf::from(h).join("bin/java"));
    let out = Command::new(&java).arg("-version").output().context("no `java`: install a JDK 17 or newer")?;
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let major = text.split('"').nth(1).and_then(|v| v.split('.').next()).and_then(|v| v.parse::<u32>().ok());
    match major {
        Some(major) if major >= 17 => Ok(java),
        _ => {
            bail!("Kafka 4 needs Java 17 or newer; `java -version` says: {}", text.lines().next().unwrap_or("nothing"))
        }
    }
}
