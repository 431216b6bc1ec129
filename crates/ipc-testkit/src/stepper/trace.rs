//! What the counting run saw.

/// What kind of moment it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Before the first instruction.
    Begin,
    /// After an instruction.
    Step,
    /// At the entry of the system call with this number.
    Entry(u64),
    /// Asleep in it.
    Blocked(u64),
    /// At its exit.
    Exit(u64),
}

impl Kind {
    /// Whether the process is at an instruction, which a breakpoint can bring it to.
    pub(super) fn is_at_instruction(self) -> bool {
        matches!(self, Kind::Begin | Kind::Step | Kind::Exit(_))
    }

    /// Whether it is part of a system call.
    pub(super) fn is_in_call(self) -> bool {
        matches!(self, Kind::Entry(_) | Kind::Blocked(_) | Kind::Exit(_))
    }
}

/// A place in time where the process can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) kind: Kind,
    /// The instruction that comes next.
    pub(super) rip: u64,
    /// That instruction accesses shared memory.
    pub(super) touches_shared: bool,
    /// That instruction is a system call: nothing else can be done there with a breakpoint.
    pub(super) is_syscall: bool,
}

/// A mapping of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) file_offset: u64,
    pub(super) is_shared: bool,
    pub(super) path: String,
}

/// The whole operation, moment by moment.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) moments: Vec<Moment>,
    pub(super) maps: Vec<Map>,
    /// Where the program itself lies.
    pub(super) program: String,
}

impl Trace {
    /// How many instructions were executed; a system call is one.
    pub(super) fn instructions(&self) -> usize {
        self.moments.iter().filter(|moment| matches!(moment.kind, Kind::Step | Kind::Exit(_))).count()
    }

    /// Whether an address is in shared memory.
    pub(super) fn is_shared(&self, address: u64) -> bool {
        self.maps.iter().any(|map| map.is_shared && (map.start..map.end).contains(&address))
    }

    /// Where a moment is, in words.
    pub(super) fn place(&self, at: usize) -> String {
        let Some(moment) = self.moments.get(at) else { return "behind the end".into() };
        let call = |what: &str, number: u64| format!("{what} {}, ", call_name(number));
        let prefix = match moment.kind {
            Kind::Begin => "at the beginning, ".into(),
            Kind::Step => String::new(),
            Kind::Entry(number) => call("entering", number),
            Kind::Blocked(number) => call("asleep in", number),
            Kind::Exit(number) => call("leaving", number),
        };
        prefix + &self.address(moment.rip)
    }

    fn address(&self, rip: u64) -> String {
        let Some(map) = self.maps.iter().find(|map| (map.start..map.end).contains(&rip)) else {
            return format!("{rip:#x}");
        };
        let base = self.maps.iter().filter(|other| other.path == map.path).map(|other| other.start).min();
        let offset = rip - base.unwrap_or(map.start);
        let name = map.path.rsplit('/').next().unwrap_or_default();
        let symbol = (map.path == self.program).then(|| super::symbols::name(offset)).flatten();
        let symbol = symbol.map_or(String::new(), |symbol| format!("{symbol}, "));
        format!("{symbol}{name}+{offset:#x}")
    }
}

/// Reads `/proc/PID/maps`.
pub(super) fn maps(text: &str) -> Vec<Map> {
    let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let permissions = words.next()?;
        let file_offset = hex(words.next()?)?;
        Some(Map {
            start: hex(start)?,
            end: hex(end)?,
            file_offset,
            is_shared: permissions.ends_with('s'),
            path: words.skip(2).collect::<Vec<_>>().join(" "),
        })
    };
    text.lines().filter_map(line).collect()
}

/// The names of those system calls that one meets.
fn call_name(number: u64) -> String {
    let name = match number {
        0 => "read",
        1 => "write",
        3 => "close",
        7 => "poll",
        9 => "mmap",
        10 => "mprotect",
        11 => "munmap",
        12 => "brk",
        17 => "pread64",
        18 => "pwrite64",
        20 => "writev",
        24 => "sched_yield",
        28 => "madvise",
        32 => "dup",
        35 => "nanosleep",
        39 => "getpid",
        44 => "sendto",
        45 => "recvfrom",
        46 => "sendmsg",
        47 => "recvmsg",
        53 => "socketpair",
        72 => "fcntl",
        74 => "fsync",
        186 => "gettid",
        202 => "futex",
        228 => "clock_gettime",
        230 => "clock_nanosleep",
        257 => "openat",
        270 => "pselect6",
        271 => "ppoll",
        273 => "set_robust_list",
        274 => "get_robust_list",
        293 => "pipe2",
        319 => "memfd_create",
        434 => "pidfd_open",
        449 => "futex_waitv",
        _ => return format!("system call {number}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_read() {
        let text = "7ffff7c00000-7ffff7c28000 r--p 00002000 fe:01 1234   /usr/lib/libc.so.6\n\
                    7ffff7fc0000-7ffff7fc1000 rw-s 00000000 00:01 99 /memfd:a b (deleted)\n\
                    7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0\n";
        let maps = maps(text);
        assert_eq!(maps.len(), 3);
        assert_eq!(
            (maps[0].start, maps[0].file_offset, maps[0].is_shared),
            (0x7fff_f7c0_0000, 0x2000, false)
        );
        assert_eq!(maps[0].path, "/usr/lib/libc.so.6");
        assert!(maps[1].is_shared && maps[1].path == "/memfd:a b (deleted)");
        assert_eq!(maps[2].path, "");
    }
}
