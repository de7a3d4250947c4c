//! What Linux says about this process, under the names that Prometheus' own client libraries use: dashboards and alerts
//! for any process (a restart, memory, descriptors near their limit) work for this one too. What /proc does not say is
//! left out.

use super::collect::{Family, Value, one, seconds};
use super::definitions::{self as is, Definition};
use procfs::WithCurrentSystemInfo;
use procfs::process::{LimitValue, Process, Stat};
use std::sync::OnceLock;

/// One family for each figure that can be had.
pub(super) fn families() -> Vec<Family> {
    let Ok(process) = Process::myself() else { return Vec::new() };
    let stat = process.stat().ok();
    let stat = stat.as_ref();
    let figures: [(&'static Definition, Option<Value>); 7] = [
        (&is::PROCESS_START, stat.and_then(start)),
        (&is::PROCESS_CPU, stat.map(cpu)),
        (&is::PROCESS_RESIDENT, stat.map(|stat| Value::Integer(stat.rss_bytes().get()))),
        (&is::PROCESS_VIRTUAL, stat.map(|stat| Value::Integer(stat.vsize))),
        (&is::PROCESS_THREADS, stat.and_then(|stat| stat.num_threads.try_into().ok()).map(Value::Integer)),
        (&is::PROCESS_OPEN_FDS, process.fd_count().ok().map(|count| Value::Integer(count as u64))),
        (&is::PROCESS_MAX_FDS, most_descriptors(&process)),
    ];
    let family = |(definition, value): (_, Option<_>)| Some(one(definition, Vec::new(), value?));
    figures.into_iter().filter_map(family).collect()
}

/// Since 1970, as far as the clock was right when this was first asked. Found once: the boot time moves with the clock, and
/// who watches takes another start for a restart.
fn start(stat: &Stat) -> Option<Value> {
    static START: OnceLock<Option<f64>> = OnceLock::new();
    let since_boot = stat.starttime as f64 / procfs::ticks_per_second() as f64;
    let found = START.get_or_init(|| Some(procfs::boot_time_secs().ok()? as f64 + since_boot));
    found.map(Value::Float)
}

fn cpu(stat: &Stat) -> Value {
    let nanos_a_tick = 1_000_000_000 / procfs::ticks_per_second();
    seconds((stat.utime + stat.stime) * nanos_a_tick)
}

fn most_descriptors(process: &Process) -> Option<Value> {
    match process.limits().ok()?.max_open_files.soft_limit {
        LimitValue::Value(most) => Some(Value::Integer(most)),
        LimitValue::Unlimited => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn linux_says_when_it_started_and_what_it_takes() {
        let families = families();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.definition.name == name).expect(name);
            match family.points[0].value {
                Value::Integer(n) => n as f64,
                Value::Float(x) => x,
                Value::Histogram(_) => panic!("{name}"),
            }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value("process_start_time_seconds");
        // Boot time is in whole seconds.
        assert!((-1.5..86_400.0).contains(&age), "{age}");
        assert!((1e6..value("process_virtual_memory_bytes")).contains(&value("process_resident_memory_bytes")));
        assert!((1.0..1e4).contains(&value("process_threads")));
        assert!((0.0..1e5).contains(&value("process_cpu_seconds_total")));
        assert!((3.0..=value("process_max_fds")).contains(&value("process_open_fds")));
    }
}
