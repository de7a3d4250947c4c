//! What Linux says about this process, under the names that Prometheus' own client libraries use: dashboards and alerts
//! for any process (a restart, memory, descriptors near their limit) work for this one too. What /proc does not say is
//! left out.

use super::collect::{Family, Value, one, seconds};
use super::definitions::{self as is, Definition};
use procfs::WithCurrentSystemInfo;
use procfs::process::{LimitValue, Process};

type Figure = (&'static Definition, fn(&Process) -> Option<Value>);

/// One family for each figure that can be had.
pub(super) fn families() -> Vec<Family> {
    let figures: [Figure; 7] = [
        (&is::PROCESS_START, start),
        (&is::PROCESS_CPU, cpu),
        (&is::PROCESS_RESIDENT, |process| Some(Value::Integer(process.stat().ok()?.rss_bytes().get()))),
        (&is::PROCESS_VIRTUAL, |process| Some(Value::Integer(process.stat().ok()?.vsize))),
        (&is::PROCESS_THREADS, |process| Some(Value::Integer(process.stat().ok()?.num_threads.try_into().ok()?))),
        (&is::PROCESS_OPEN_FDS, |process| Some(Value::Integer(process.fd_count().ok()? as u64))),
        (&is::PROCESS_MAX_FDS, most_descriptors),
    ];
    let Ok(process) = Process::myself() else { return Vec::new() };
    let family = |(definition, read): Figure| Some(one(definition, Vec::new(), read(&process)?));
    figures.into_iter().filter_map(family).collect()
}

/// Since 1970, as far as the clock was right when the machine started.
fn start(process: &Process) -> Option<Value> {
    let ticks = process.stat().ok()?.starttime;
    let since_boot = ticks as f64 / procfs::ticks_per_second() as f64;
    Some(Value::Float(procfs::boot_time_secs().ok()? as f64 + since_boot))
}

fn cpu(process: &Process) -> Option<Value> {
    let stat = process.stat().ok()?;
    let nanos_a_tick = 1_000_000_000 / procfs::ticks_per_second();
    Some(seconds((stat.utime + stat.stime) * nanos_a_tick))
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
