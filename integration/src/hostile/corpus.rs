//! The table of attacks: who does what, under which limit, and what must become of it. Each varies one limit and leaves the
//! others large, so that it proves one guard.

use std::path::Path;
use std::time::Duration;

use pelton_sandbox::FaultCode::{
    Contract, Deadline, Exit, OutOfFuel, OutOfMemory, OutputHeader, OutputTooLarge, OutputTooMany, OutputTopic, Panic,
    StackOverflow, Trap,
};
use pelton_sandbox::{FaultCode, Limits};

use super::attack::Outcome::{AtTimes, Configure, Emits, Fault, Keep, Load, Prepare, Rejects, Says};
use super::attack::{Attack, Guest, component, deed, lie, module, wat};
use super::bombs;

/// All groups, under their titles. `granted` is the directory for those who get one.
pub fn all(granted: &Path) -> Vec<(&'static str, Vec<Attack>)> {
    vec![
        ("Time", time()),
        ("Memory", memory()),
        ("Outputs", outputs()),
        ("Frames and lists that lie", frames()),
        ("The window, as an attacker sees it", window()),
        ("Traps, panics, exits", endings()),
        ("Files, environment, streams", reach(granted)),
        ("Imports", imports()),
        ("Before the first record", configure()),
        ("Modules that attack the compiler", compiler()),
    ]
}

/// Code without end, waits without end, and host functions called without end.
pub fn time() -> Vec<Attack> {
    let late = |attack: Attack| attack.in_time().repeats(6).ends(Fault(Deadline));
    vec![
        late(deed("infinite loop", "loop")),
        deed("infinite loop, by fuel", "loop").limit(|l| l.fuel = 50_000_000).cpu_ms(60).ends(Fault(OutOfFuel)),
        late(deed("sleep", "sleep")),
        late(deed("poll for ever", "poll-never")),
        late(deed("busy polling", "poll-busy")),
        late(deed("50 timers", "timers")),
        late(deed("allocation storm", "allocate")),
        late(deed("memory filled for ever", "fill")),
        late(wat("memory.fill and memory.copy storm", "memory-fill").peak_mib(16)),
        late(wat("table.fill and table.copy storm", "table-fill")),
        late(wat("memory.grow storm", "grow-storm")),
        late(wat("memory.grow storm, 4 GiB each", "grow-huge")),
        late(wat("table.grow storm", "table-storm")),
        late(deed("clock storm", "clocks")),
        late(deed("randomness storm", "random")),
        late(deed("environment storm", "environment-busy")),
        late(deed("stdout without a newline", "stdout")),
        late(deed("stdout flood in lines", "stdout-lines")),
        late(deed("stderr flood", "stderr")),
        late(deed("flushing writes", "write-flush")),
        late(deed("splice storm", "splice")),
        late(wat("log flood", "log-storm")),
        late(wat("log lines of 10 MiB", "log-large")),
        // The host must read all of it before it can look at the clock: the longest that one call can take.
        late(wat("log lines of 10 MiB in UTF-16", "log-utf16").peak_mib(40)).cpu_ms(120),
        // Nobody pays for that work; the deadline is looked at behind it.
        late(wat("text of 10 MiB from part to part, in another encoding", "transcode").peak_mib(40)).cpu_ms(120),
        late(wat("loop in cabi_realloc", "realloc-loops").by(large())),
        wat("loop in post-return", "post-loops").in_time().packed(Keep).typed(Fault(Deadline)),
    ]
}

/// Memory, tables, handles, stacks.
pub fn memory() -> Vec<Attack> {
    let small = |attack: Attack| attack.limit(|l| l.memory = 8 << 20).peak_mib(12).cpu_ms(60);
    vec![
        small(deed("memory bomb, fast", "bomb")).ends(Fault(OutOfMemory)),
        small(deed("memory bomb, slow", "hoard 300000")).times(40).ends(AtTimes(OutOfMemory)),
        small(wat("memory taken in cabi_realloc", "realloc-grows").by(large())).ends(Fault(OutOfMemory)),
        small(wat("second memory, above the limit", "memory-large")).ends(Configure(OutOfMemory)),
        small(deed("traces of others in fresh memory", "snoop")).ends(Says("0")),
        wat("table bomb", "table-bomb").limit(|l| l.table_elements = 10_000).ends(Fault(OutOfMemory)),
        deed("handle bomb", "handles").ends(Fault(Contract)),
        deed("one pollable named 100,000 times", "poll-many 100000").ends(Fault(Contract)),
        deed("one pollable named 4,000,000 times", "poll-many 4000000").cpu_ms(60).peak_mib(40).ends(Fault(Contract)),
        deed("recursion", "recurse").ends(Fault(StackOverflow)),
        wat("recursion with wide frames", "recurse-wide").ends(Fault(StackOverflow)),
        deed("recursion, on the stack in linear memory", "recurse-large").ends(Fault(StackOverflow)),
        deed("recursion of two functions, on that stack", "recurse-two").ends(Fault(StackOverflow)),
        deed("read beyond memory", "beyond").ends(Fault(Trap)),
        wat("write right behind memory", "beyond").ends(Fault(Trap)),
        wat("write 8 GiB behind memory", "beyond-far").ends(Fault(Trap)),
    ]
}

/// Too much output, to the wrong place, under the wrong name.
pub fn outputs() -> Vec<Attack> {
    let count = |attack: Attack| attack.limit(|l| l.outputs = 1_000).cpu_ms(200).repeats(10).leaves_mib(12);
    let bytes = |attack: Attack| attack.limit(|l| l.output_bytes = 1 << 20).cpu_ms(200).repeats(10).leaves_mib(12);
    vec![
        count(deed("output bomb, by count", "many 200000")).peak_mib(120).ends(Fault(OutputTooMany)),
        bytes(deed("output bomb, by size", "large 10000000")).peak_mib(40).ends(Fault(OutputTooLarge)),
        bytes(deed("output bomb, by headers", "headers 200000")).peak_mib(60).ends(Fault(OutputTooLarge)),
        bytes(deed("oversized key", "key 2000000")).peak_mib(12).ends(Fault(OutputTooLarge)),
        // the Rust SDK finds out by itself
        deed("topic not granted", "to secrets").packed(Rejects).typed(Fault(OutputTopic)),
        deed("reserved header", "header __dlq.errors.topic").packed(Rejects).typed(Fault(OutputHeader)),
        deed("reason of 10 MB", "reason 10000000").peak_mib(40).ends(Rejects),
    ]
}

/// Lies in the frames of one outcome, and in the lists of the typed world.
pub fn frames() -> Vec<Attack> {
    let false_frame = |name| lie(name, name).packed(Fault(Contract));
    let false_list = |name, file| wat(name, file).typed(Fault(Contract));
    let mut all: Vec<Attack> = FALSE_FRAMES.map(false_frame).into();
    all.extend([
        lie("topic not granted, by number", "topic not granted").packed(Fault(OutputTopic)),
        lie("topic huge, by number", "topic huge").packed(Fault(OutputTopic)),
        lie("header reserved", "header reserved").packed(Fault(OutputHeader)),
        lie("header name not UTF-8", "header not text").packed(Emits),
        lie("reason not UTF-8", "reason not text").packed(Rejects),
        false_list("list of 4 billion outcomes", "lie-length"),
        false_list("list beyond memory", "lie-place"),
        false_list("list not aligned", "lie-alignment"),
        false_list("neither ok nor error", "lie-result"),
        false_list("unknown kind of outcome", "lie-kind"),
        false_list("one outcome too few", "lie-few"),
        false_list("one outcome too many", "lie-many"),
        false_list("4 million outcomes", "lie-million").cpu_ms(60).peak_mib(90),
        false_list("reason not UTF-8, in the list", "lie-reason-not-text"),
        wat("reason of 10 MiB, in the list", "lie-reason").peak_mib(24).typed(Rejects),
        wat("one value of 1 MiB named 100,000 times", "lie-again").cpu_ms(60).peak_mib(60).typed(Fault(Contract)),
        wat("300,000 outputs as small as can be", "lie-small").cpu_ms(100).peak_mib(160).typed(Fault(Contract)),
        // Its own word for all of its records, the innocent included.
        wat("the whole batch refused, in 10 MiB", "lie-batch").drags().peak_mib(24).typed(Rejects),
    ]);
    all
}

const FALSE_FRAMES: [&str; 28] = [
    "unknown kind",
    "keep with bytes",
    "outcome past the window",
    "half a frame",
    "frame of zeros",
    "total short",
    "total past the end",
    "total huge",
    "key length negative",
    "key length smallest",
    "key past the end",
    "key huge",
    "key over value",
    "value length negative",
    "value past the end",
    "value huge",
    "bytes after headers",
    "headers promised",
    "headers by the billion",
    "header key huge",
    "header key past the end",
    "header value negative",
    "header value past the end",
    "frames overlap",
    "second frame cut",
    "partition negative",
    "partition smallest",
    "timestamp negative",
];

/// Lies about the window's cell, and by the imports of the packed world.
pub fn window() -> Vec<Attack> {
    let mut all: Vec<Attack> = FALSE_ACCOUNTS.map(|name| lie(name, name).packed(Fault(Contract))).into();
    all.extend([
        lie("commit of 4 MiB", "commit large").limit(|l| l.output_bytes = 1 << 20).packed(Fault(OutputTooLarge)),
        lie("count beyond the batch, for ever", "count beyond the batch for ever").in_time().packed(Fault(Deadline)),
        // Alone in its batch, where the liar ends, each of these is true.
        lie("commit before a flush", "commit before a flush").packed(Keep),
        lie("commit twice", "commit twice").packed(Keep),
        lie("flush with wrong bytes", "flush with wrong bytes").packed(Keep),
        // A transform's word for its own records is believed, so its innocent ones may pay.
        lie("record skipped", "skipped").drags().packed(Fault(Contract)),
        lie("count that swings", "count swings").in_time().drags().packed(Fault(Deadline)),
        lie("count that creeps", "count creeps").in_time().drags().packed(Fault(Deadline)),
    ]);
    all
}

const FALSE_ACCOUNTS: [&str; 18] = [
    "never",
    "error",
    "error large",
    "twice",
    "counted twice",
    "count goes back",
    "count beyond the batch",
    "bytes short",
    "bytes beyond the window",
    "window again",
    "flush of nothing",
    "flush of too many",
    "flush that goes back",
    "commit out of turn",
    "commit of rubbish",
    "commit of nothing",
    "commit of two",
    "commit beyond memory",
];

/// Every way to end.
pub fn endings() -> Vec<Attack> {
    let name = bombs::name_that_unfolds(23);
    vec![
        deed("exit, with every code", "")
            .by_each((0..=255).map(|code| format!("exit {code}")))
            .repeats(2)
            .ends(Fault(Exit)),
        deed("panic", "panic").ends(Fault(Panic)),
        deed("panic with 1 MB of text", "panic-large 1000000").cpu_ms(60).ends(Fault(Panic)),
        deed("abort", "abort").ends(Fault(Trap)),
        wat("division by zero", "divide").ends(Fault(Trap)),
        wat("integer of a NaN", "convert").ends(Fault(Trap)),
        wat("call of nothing", "call-null").ends(Fault(Trap)),
        wat("call by a wrong type", "call-wrong").ends(Fault(Trap)),
        wat("call beyond a table", "table-beyond").ends(Fault(Trap)),
        wat("trap in cabi_realloc", "realloc-traps").by(large()).ends(Fault(Trap)),
        wat("host called from cabi_realloc", "realloc-calls").by(large()).ends(Fault(Trap)),
        wat("trap in post-return", "post-traps").packed(Keep).typed(Fault(Trap)),
        wat("host called from post-return", "post-calls").packed(Keep).typed(Fault(Trap)),
        wat("log of what is not UTF-8", "log-not-text").ends(Fault(Contract)),
        wat("log of text beyond memory", "log-beyond").ends(Fault(Contract)),
        wat("log at an unknown level", "log-level").ends(Fault(Contract)),
        // Twenty frames of a function whose C++ name stands for 100 MB.
        module(
            "function name that unfolds",
            Guest::Text(format!(";; @main\n(func $attack (@name \"{name}\") (call $attack))")),
        )
        .ends(Fault(StackOverflow)),
        // The guests hold half a megabyte of it; looking up twenty frames there would take longer than the deadline.
        deed("trap with debug information", "recurse").cpu_ms(3).ends(Fault(StackOverflow)),
    ]
}

/// What is not granted is not there, and what is granted ends at its border.
pub fn reach(granted: &Path) -> Vec<Attack> {
    let with =
        |attack: Attack| attack.worldly().grants(|grants| grants.directories.push(("/granted".into(), granted.into())));
    let each = |verbs: &[&str]| verbs.iter().map(|verb| (*verb).to_owned()).collect::<Vec<_>>();
    vec![
        deed("environment probed", "environment").ends(Says("variables: arguments:0")),
        deed("stdin read", "stdin").ends(Says("0")),
        deed("files read without a grant", "")
            .by_each(each(&["read /etc/passwd", "read /proc/self/environ", "read ../secret", "list /", "write /tmp/x"]))
            .ends(Says("refused")),
        with(deed("paths out of a granted directory", ""))
            .by_each(each(&ESCAPES))
            .repeats(3)
            .cpu_ms(60)
            .ends(Says("refused")),
        with(deed("changes in a granted directory", ""))
            .by_each(each(&CHANGES))
            .repeats(3)
            .cpu_ms(60)
            .ends(Says("refused")),
        with(deed("path of 2 MB", "raw-path 300000")).cpu_ms(60).ends(Says("refused")),
        with(deed("read of 2^64 bytes", "raw-read-large table")).ends(Says("7 bytes")),
        with(deed("streams hoarded", "raw-hoard-streams large"))
            .cpu_ms(200)
            .peak_mib(12)
            .leaves_mib(16)
            .ends(Fault(Contract)),
        with(deed("listings hoarded", "raw-hoard-listings")).cpu_ms(200).ends(Fault(Contract)),
        with(deed("stat storm", "raw-stat-storm table")).in_time().ends(Fault(Deadline)),
        // Each leaves a thread waiting until a writer comes: do not grant directories with pipes in them.
        with(deed("pipe without a writer", "read /granted/pipe")).in_time().repeats(1).ends(Fault(Deadline)),
        deed("write of more than a stream takes", "write-large").cpu_ms(200).peak_mib(24).ends(Fault(Contract)),
        deed("2^64 zeroes written", "write-zeroes").ends(Fault(Contract)),
        deed("2^64 random bytes", "random-large").ends(Fault(Contract)),
    ]
}

const ESCAPES: [&str; 20] = [
    "read /granted/../secret",
    "read /granted/sub/../../secret",
    "read ../secret",
    "read /etc/passwd",
    "read /granted/absolute",
    "read /granted/relative",
    "read /granted/up/secret",
    "read /granted/loop",
    "read /granted/proc",
    "list /granted/..",
    "list /granted/up",
    "list /proc",
    "list /",
    "raw-read ../secret",
    "raw-read /etc/passwd",
    "raw-read sub/../../secret",
    "raw-read absolute",
    "raw-read relative",
    "raw-read up/secret",
    "raw-read table\0x",
];

const CHANGES: [&str; 20] = [
    "write /granted/table",
    "write /granted/new",
    "append /granted/table",
    "truncate /granted/table",
    "create-new /granted/new",
    "make /granted/new",
    "remove /granted/table",
    "remove /granted/absolute",
    "remove-directory /granted/sub",
    "rename /granted/table /granted/new",
    "rename /granted/table /tmp/table",
    "hard-link /granted/table /granted/new",
    "hard-link /granted/../secret /granted/new",
    "raw-open-write new",
    "raw-open-write table",
    "raw-mutate sub",
    "raw-write table",
    "raw-resize table",
    "raw-symlink new",
    "raw-times table",
];

/// Modules that import what there is not.
pub fn imports() -> Vec<Attack> {
    let refused = |name, text: &str| component(name, text).repeats(3).ends(Prepare("Import"));
    let import = |name: &'static str| refused(name, &format!("(import \"{name}\" (instance))"));
    let random = |name, item: &str| {
        let text = format!("(import \"wasi:random/random@0.2.0\" (instance {item}))");
        component(name, text).repeats(3).ends(Prepare("Link"))
    };
    vec![
        module("std::net in Rust", Guest::Rust("hostile-sockets")).repeats(3).packed(Prepare("Import")),
        import("wasi:sockets/tcp@0.2.0"),
        import("wasi:sockets/udp@0.2.0"),
        import("wasi:sockets/ip-name-lookup@0.2.0"),
        import("wasi:http/outgoing-handler@0.2.0"),
        import("wasi:http/incoming-handler@0.2.0"),
        import("wasi:keyvalue/store@0.2.0"),
        import("acme:db/query"),
        import("pelton:transform/log@0.2.0"),
        import("pelton:transform/packed-sink@0.0.9"),
        import("wasi:cli/environment@0.3.0"),
        import("wasi:io/poll@0.1.0"),
        refused("an import of a bare function", "(import \"system\" (func (param \"command\" string)))"),
        refused("an import of a core module", "(import \"code\" (core module))"),
        component("an import of a component", "(import \"part\" (component))")
            .repeats(3)
            .cpu_ms(200)
            .ends(Load("Compile")),
        random("a known function of another type", "(export \"get-random-u64\" (func (param \"x\" u32) (result u64)))"),
        random("a function that there is not", "(export \"get-entropy\" (func (result u64)))"),
        random("a resource that there is not", "(export \"socket\" (type (sub resource)))"),
    ]
}

/// What goes wrong before the first record.
pub fn configure() -> Vec<Attack> {
    let soon = |l: &mut Limits| l.configure_deadline = Duration::from_millis(20);
    let late = |attack: Attack| attack.limit(soon).cpu_ms(60).repeats(8).ends(Configure(Deadline));
    let sets = |name, verb| deed(name, "").configures("configure", verb);
    let speaks = |name, version: &str| lie(name, "").grants(|g| g.environment.push(("ABI".into(), version.into())));
    let mut all = vec![
        late(sets("loop in configure", "loop")),
        late(sets("sleep in configure", "sleep")),
        late(wat("loop at instantiation", "start-loops")),
        late(wat("log flood at instantiation", "start-logs")),
        speaks("loop in abi-version", "loops").limit(soon).cpu_ms(60).packed(Configure(Deadline)),
        wat("trap at instantiation", "start-traps").ends(Configure(Trap)),
        sets("panic in configure", "panic").ends(Configure(Panic)),
        sets("exit in configure", "exit 0").ends(Configure(Exit)),
        sets("memory bomb in configure", "bomb")
            .limit(|l| l.memory = 8 << 20)
            .peak_mib(12)
            .ends(Configure(OutOfMemory)),
        sets("refusal in 10 MB", "reason 10000000").peak_mib(40).ends(Configure(FaultCode::Configure)),
        speaks("another version of the ABI", "2").packed(Prepare("Abi")),
        speaks("window announced before configure", "announces").packed(Configure(Contract)),
    ];
    all.extend(FALSE_WINDOWS.map(|name| {
        lie(name, "").configures("lie", name.trim_start_matches("window: ")).peak_mib(24).packed(Configure(Contract))
    }));
    all
}

const FALSE_WINDOWS: [&str; 12] = [
    "window: no window",
    "window: misaligned",
    "window: short cell",
    "window: long cell",
    "window: tiny",
    "window: huge",
    "window: cell inside",
    "window: copy",
    "window: beyond memory",
    "window: twice",
    "window: flush early",
    "window: commit early",
];

/// Files that are no modules, components of too many parts, and what unfolds in a compiler.
pub fn compiler() -> Vec<Attack> {
    let bytes =
        |name, bytes: Vec<u8>| module(name, Guest::Bytes(bytes)).repeats(1).peak_mib(24).leaves_mib(16).cpu_ms(1_500);
    let refused = |name, of: Vec<u8>| bytes(name, of).packed(Load("Compile"));
    let harmless = |name, of: Vec<u8>| bytes(name, of).packed(Load("World"));
    // its ten seconds, and the stop
    let complex = |name, of: Vec<u8>| bytes(name, of).cpu_ms(11_500).packed(Load("TooComplex"));
    let parts = |name, what: &str, n: usize| {
        let instances = "(core instance (instantiate $x))".repeat(n);
        component(name, format!("(core module $x {what}){instances}")).repeats(1).cpu_ms(1_500).packed(Load("Compile"))
    };
    vec![
        bytes("a core module", b"\0asm\x01\0\0\0".to_vec()).packed(Load("NotAComponent")),
        bytes("text", b"(component)".to_vec()).packed(Load("NotAComponent")),
        bytes("nothing", Vec::new()).packed(Load("NotAComponent")),
        bytes("a component of neither world", b"\0asm\x0d\0\x01\0".to_vec()).packed(Load("World")),
        parts("33 core instances", "", 31),
        parts("3 memories", "(memory 1)", 2),
        parts("17 tables", "(table 1 funcref)", 17),
        parts("table of 20 million", "(table 20000000 funcref)", 1),
        parts("memory of 4 GiB", "(memory 65536)", 1),
        parts("shared memory", "(memory 1 1 shared)", 1),
        parts("64-bit memory", "(memory i64 1)", 1),
        harmless("64 MiB of padding", bombs::custom("x", 64 << 20)).peak_mib(100),
        harmless("100,000 exports", bombs::exports(100_000, 20)).peak_mib(40),
        harmless("100,000 element segments", bombs::elements(100_000)),
        harmless("100 levels of 40 calls to inline", bombs::inlined(100, 40)),
        refused("branch table of 100,000", bombs::branch_table(100_000, 100)),
        refused("1,024 instances in 242 bytes", bombs::doubled_components(10)),
        complex("16 million instances in 522 bytes", bombs::doubled_components(24)),
        complex("components 10,000 deep", bombs::nested_components(10_000)),
        complex("100,000 functions", bombs::many_functions(100_000)),
        complex("300,000 types", bombs::distinct_types(300_000)),
        complex("1,000 loops over 1,000 variables", bombs::nested_loops(1_000, 1_000)),
        complex("switch of 1,000 cases over 1,000 variables", bombs::switch(1_000, 1_000, 5)),
        complex("1,000 calls with 1,000 arguments", bombs::wide_calls(1_000, 1_000)),
        complex("100,000 indirect calls in a function", bombs::indirect(1, 100_000)),
        complex("blocks 400,000 deep", bombs::nested_blocks(400_000)),
    ]
}

/// A value that the attacks in cabi_realloc know by its size.
fn large() -> String {
    format!("attack{}", "x".repeat(4000))
}
