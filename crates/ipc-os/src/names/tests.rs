use std::collections::HashSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use ipc_testkit::{alone, eventually, watchdog};
use tempfile::TempDir;

use super::*;
use crate::map::{Access, Mapping};

/// Told to a process that a test starts: what it does, and where.
const JOB: &str = "IPC_NAMES_TEST_JOB";

const LEN: u64 = 4096;

fn place() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn directories(place: &TempDir) -> [Directory; 2] {
    let unnamed = Directory::within(place.path()).unwrap();
    let mut named = Directory::within(place.path()).unwrap();
    named.has_unnamed = false;
    [unnamed, named]
}

fn entries(directory: &Directory) -> Vec<String> {
    let all = std::fs::read_dir(directory.path()).unwrap();
    all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Fills a new file with words that fit each other.
fn fill(file: BorrowedFd<'_>) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let id = (u64::from(std::process::id()) << 32) | COUNT.fetch_add(1, Ordering::Relaxed);
    let map = Mapping::new(file, LEN as usize, Access::ReadWrite)?;
    for word in 0..LEN as usize / 8 {
        map.u64(word * 8)?.store(id.wrapping_mul(word as u64 + 1), Ordering::Relaxed);
    }
    Ok(())
}

/// A file that can be opened is whole.
fn assert_whole(file: &NamedFile) {
    assert_eq!(file.len(), LEN);
    let map = Mapping::new(file.neutral().unwrap(), LEN as usize, Access::ReadWrite).unwrap();
    let id = map.u64(0).unwrap().load(Ordering::Relaxed);
    assert_ne!(id, 0);
    for word in 0..LEN as usize / 8 {
        let found = map.u64(word * 8).unwrap().load(Ordering::Relaxed);
        assert_eq!(found, id.wrapping_mul(word as u64 + 1));
    }
}

fn never(_: BorrowedFd<'_>) -> io::Result<()> {
    panic!("the file is there already")
}

#[track_caller]
fn assert_not_found(opened: Result<NamedFile, NameError>) {
    assert!(matches!(opened, Err(NameError::NotFound { .. })), "{opened:?}");
}

/// For a test that says of a file when nobody uses it any more. Another test of this process may be starting a process,
/// which has a copy of every descriptor, and with it the locks, until its exec: what was dropped here is used for a moment
/// longer. So such a test has a process to itself.
fn undisturbed(test: &str, body: impl FnOnce()) {
    alone(&format!("names::tests::{test}"), body);
}

/// Starts this test binary again, to do a job in that place until it is killed or has done it.
fn start(job: &str, place: &TempDir) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["names::tests::does_a_job", "--exact", "--nocapture", "--include-ignored"])
        .env(JOB, job)
        .env("IPC_RUNTIME_DIR", place.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn assert_done(child: Child) {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
}

/// Numbers that differ from process to process.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        Chance(nanos ^ (u64::from(std::process::id()) << 40) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
#[ignore = "the job of another test: it starts this"]
fn does_a_job() {
    let job = std::env::var(JOB).unwrap();
    let mut chance = Chance::new();
    let pause = |chance: &mut Chance| std::thread::sleep(Duration::from_micros(chance.below(300)));
    match job.as_str() {
        "hold" => {
            let _file = create("t", "held", LEN, fill).unwrap();
            std::thread::sleep(ipc_testkit::PATIENCE);
        }
        // Until it is killed.
        "create" => loop {
            let name = format!("n{}", chance.below(3));
            match create("t", &name, LEN, fill) {
                Ok(file) => assert_whole(&file),
                // The test has it open.
                Err(NameError::AlreadyExists { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        },
        // Nobody removes on purpose: what is held keeps its name.
        "share" => loop {
            let file = match chance.below(3) {
                0 => create("t", "one", LEN, fill),
                1 => open("t", "one"),
                _ => open_or_create("t", "one", LEN, fill).map(|(file, _)| file),
            };
            match file {
                Ok(file) => {
                    assert_whole(&file);
                    pause(&mut chance);
                    let stat = std::fs::metadata(file.path()).expect("a name is there as long as it is used");
                    assert_eq!((stat.dev(), stat.ino()), file.identity(), "and means the same");
                }
                Err(NameError::AlreadyExists { .. } | NameError::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        },
        "race" => {
            let start = Instant::now();
            let mut kinds = HashSet::new();
            while start.elapsed() < Duration::from_millis(1500) {
                let done = match chance.below(5) {
                    0 => create("t", "one", LEN, fill).map(Some),
                    1 => open("t", "one").map(Some),
                    2 => remove("t", "one").map(|()| None),
                    3 => create("t", "two", LEN, fill).map(Some),
                    _ => open_or_create("t", "one", LEN, fill).map(|(file, _)| Some(file)),
                };
                match done {
                    Ok(Some(file)) => {
                        assert_whole(&file);
                        pause(&mut chance);
                        if chance.below(4) == 0 {
                            let removed = file.remove().unwrap();
                            assert!(!removed || !file.remove().unwrap(), "a name is removed once");
                        }
                    }
                    Ok(None) => {}
                    Err(error @ (NameError::AlreadyExists { .. } | NameError::NotFound { .. })) => {
                        kinds.insert(std::mem::discriminant(&error));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert_eq!(kinds.len(), 2, "it was a race");
        }
        job => panic!("no such job: {job}"),
    }
}

#[test]
fn names_and_kinds_are_checked() {
    for good in ["a", "A-b_c.d", "0", &"n".repeat(NAME_LEN_MAX)] {
        assert_eq!(file_name("kind", good).unwrap(), format!("kind.{good}"));
    }
    for bad in ["", ".a", "..", "a/b", "a b", "ä", "a\0", &"n".repeat(NAME_LEN_MAX + 1)] {
        assert!(matches!(file_name("kind", bad), Err(NameError::BadName { name }) if name == bad));
        assert!(matches!(file_name(bad, "name"), Err(NameError::BadName { .. })), "{bad}");
    }
    assert!(file_name("a.b", "c").is_err(), "it would be the same as kind `a` and name `b.c`");
}

#[test]
fn a_file_is_made_opened_and_gone_with_its_last_user() {
    undisturbed("a_file_is_made_opened_and_gone_with_its_last_user", || {
        let place = place();
        for directory in directories(&place) {
            assert_not_found(open_in(&directory, "t.a"));
            let made = create_in(&directory, "t.a", LEN, fill).unwrap();
            assert_eq!(made.path().metadata().unwrap().mode() & 0o777, 0o600);
            let opened = open_in(&directory, "t.a").unwrap();
            assert_whole(&opened);
            assert_eq!(opened.identity(), made.identity());
            let error = create_in(&directory, "t.a", LEN, never).unwrap_err();
            assert!(matches!(&error, NameError::AlreadyExists { name } if name == "t.a"), "{error}");
            drop(made);
            let (again, was_made) = open_or_create_in(&directory, "t.a", LEN, never).unwrap();
            assert!(!was_made);
            drop(opened);
            assert_eq!(entries(&directory), ["t.a"]);
            drop(again);
            assert_eq!(entries(&directory), [""; 0]);
            let (file, was_made) = open_or_create_in(&directory, "t.a", LEN, fill).unwrap();
            assert!(was_made);
            assert_whole(&file);
        }
    });
}

#[test]
fn a_name_that_is_removed_is_free_and_its_users_keep_the_file() {
    let place = place();
    let [directory, _] = directories(&place);
    let old = create_in(&directory, "t.a", LEN, fill).unwrap();
    remove_in(&directory, "t.a").unwrap();
    assert!(matches!(remove_in(&directory, "t.a"), Err(NameError::NotFound { .. })));
    assert_not_found(open_in(&directory, "t.a"));
    let new = create_in(&directory, "t.a", LEN, fill).unwrap();
    assert_ne!(old.identity(), new.identity());
    assert!(!old.remove().unwrap(), "the name means another file now");
    drop(old);
    assert_eq!(open_in(&directory, "t.a").unwrap().identity(), new.identity());
    assert!(new.remove().unwrap());
    assert_whole(&new);
    assert_eq!(entries(&directory), [""; 0]);
}

#[test]
fn what_cannot_be_filled_gets_no_name() {
    undisturbed("what_cannot_be_filled_gets_no_name", || {
        let place = place();
        for directory in directories(&place) {
            let error = create_in(&directory, "t.a", LEN, |_| Err(io::ErrorKind::Other.into())).unwrap_err();
            assert!(matches!(error, NameError::Io(_)), "{error}");
            // More than there can be.
            let error = create_in(&directory, "t.a", 1 << 50, |file| crate::memfd::reserve(file, 0, 1 << 50))
                .unwrap_err();
            assert!(matches!(error, NameError::NoSpace { len, .. } if len == 1 << 50), "{error}");
            assert!(matches!(create_in(&directory, "t.a", 0, never), Err(NameError::Io(_))));
            directory.reclaim().unwrap();
            assert_eq!(entries(&directory), [""; 0]);
        }
    });
}

#[test]
fn the_directory_is_this_users_alone() {
    let place = place();
    let path = Directory::within(place.path()).unwrap().path().to_owned();
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
    let refused = |why: &str| {
        let error = Directory::within(place.path()).unwrap_err();
        assert!(matches!(&error, NameError::WrongOwner { path: at } if *at == path), "{why}: {error}");
    };
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o710)).unwrap();
    refused("open to others");
    std::fs::remove_dir(&path).unwrap();
    std::fs::create_dir(place.path().join("elsewhere")).unwrap();
    symlink(place.path().join("elsewhere"), &path).unwrap();
    refused("a link");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    refused("no directory");
    std::fs::remove_file(&path).unwrap();
    if rustix::process::geteuid().is_root() {
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        refused("somebody else's");
    }
    let error = Directory::within(&place.path().join("missing")).unwrap_err();
    assert!(matches!(error, NameError::NoDirectory { .. }), "{error}");
    assert!(Directory::within(Path::new("relative")).is_err());
}

#[test]
fn what_is_no_file_of_ours_is_refused_and_left_alone() {
    let place = place();
    let [directory, _] = directories(&place);
    symlink("/dev/null", directory.path().join("t.link")).unwrap();
    std::fs::create_dir(directory.path().join("t.directory")).unwrap();
    nix::unistd::mkfifo(&directory.path().join("t.fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in ["t.link", "t.directory", "t.fifo"] {
        let error = open_in(&directory, name).unwrap_err();
        assert!(matches!(error, NameError::WrongOwner { .. }), "{name}: {error}");
    }
    directory.reclaim().unwrap();
    assert_eq!(entries(&directory).len(), 3);
}

#[test]
fn left_overs_go_with_the_next_create_or_open_of_any_name() {
    undisturbed("left_overs_go_with_the_next_create_or_open_of_any_name", || {
        let place = place();
        let [directory, _] = directories(&place);
        for used in 0..2 {
            let child = start("hold", &place);
            eventually("the child has its file", || open_in(&directory, "t.held").is_ok());
            kill(child);
            // The lock goes with the process, which `wait` has seen the end of.
            assert_eq!(entries(&directory), ["t.held"]);
            if used == 0 {
                let _other = create_in(&directory, "t.other", LEN, fill).unwrap();
                assert_eq!(entries(&directory), ["t.other"]);
            } else {
                assert_not_found(open_in(&directory, "t.other"));
            }
            assert_eq!(entries(&directory), [""; 0]);
        }
        let child = start("hold", &place);
        eventually("the child has its file", || open_in(&directory, "t.held").is_ok());
        kill(child);
        assert_not_found(open_in(&directory, "t.held"));
        assert_eq!(entries(&directory), [""; 0]);
    });
}

#[test]
fn many_left_overs_all_go_and_nothing_that_is_used() {
    let place = place();
    let [directory, _] = directories(&place);
    let used: Vec<_> =
        (0..60).map(|n| create_in(&directory, &format!("t.used{n}"), LEN, fill).unwrap()).collect();
    // As if their users had been killed: no lock on them.
    for n in 0..300 {
        std::fs::write(directory.path().join(format!("t.left{n}")), "").unwrap();
    }
    std::fs::write(directory.path().join(".new.1.2.3"), "").unwrap();
    let mut opens = 0;
    eventually("all left-overs are gone", || {
        assert!(open_in(&directory, "t.none").is_err());
        opens += 1;
        entries(&directory).len() == used.len()
    });
    println!("after {opens} calls");
    for n in 0..200 {
        std::fs::write(directory.path().join(format!("t.left{n}")), "").unwrap();
    }
    assert_eq!(directory.reclaim().unwrap(), 200);
    assert!(used.iter().all(|file| file.path().exists()));
}

#[test]
fn a_creator_that_is_killed_leaves_nothing_half_made() {
    undisturbed("a_creator_that_is_killed_leaves_nothing_half_made", || {
        let _watchdog = watchdog("a_creator_that_is_killed_leaves_nothing_half_made");
        let place = place();
        let [directory, _] = directories(&place);
        let mut chance = Chance::new();
        let mut left = 0;
        for _ in 0..60 {
            let child = start("create", &place);
            std::thread::sleep(Duration::from_micros(3000 + chance.below(4000)));
            // Whatever can be opened meanwhile is whole.
            for n in 0..3 {
                if let Ok(file) = open_in(&directory, &format!("t.n{n}")) {
                    assert_whole(&file);
                }
            }
            kill(child);
            left += entries(&directory).len();
            for n in 0..3 {
                assert_not_found(open_in(&directory, &format!("t.n{n}")));
            }
            assert_eq!(entries(&directory), [""; 0]);
        }
        println!("{left} files were left behind by 60 that were killed");
    });
}

#[test]
fn nothing_that_is_used_loses_its_name_while_users_are_killed() {
    let _watchdog = watchdog("nothing_that_is_used_loses_its_name_while_users_are_killed");
    let place = place();
    let [directory, _] = directories(&place);
    let mut chance = Chance::new();
    let mut children: Vec<_> = (0..20).map(|_| start("share", &place)).collect();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(2500) {
        std::thread::sleep(Duration::from_millis(chance.below(20)));
        let which = chance.below(children.len() as u64) as usize;
        kill(children.swap_remove(which));
        children.push(start("share", &place));
    }
    children.into_iter().for_each(kill);
    directory.reclaim().unwrap();
    assert_eq!(entries(&directory), [""; 0]);
}

#[test]
fn twenty_processes_race_for_one_name() {
    let _watchdog = watchdog("twenty_processes_race_for_one_name");
    let place = place();
    let [directory, _] = directories(&place);
    let children: Vec<_> = (0..20).map(|_| start("race", &place)).collect();
    children.into_iter().for_each(assert_done);
    // The last user of a file may have met somebody who was looking at it.
    directory.reclaim().unwrap();
    assert_eq!(entries(&directory), [""; 0]);
}

#[test]
#[ignore = "measures; nothing can fail"]
fn costs() {
    let place = place();
    let [directory, _] = directories(&place);
    for (others, len) in [(0, 4096), (0, 532_480), (100, 4096)] {
        let used: Vec<_> =
            (0..others).map(|n| create_in(&directory, &format!("t.u{n}"), LEN, fill).unwrap()).collect();
        let time = |what: &str, step: &mut dyn FnMut()| {
            let start = Instant::now();
            (0..2000).for_each(|_| step());
            println!("{len} bytes, {others} others, {what}: {:.1} µs", start.elapsed().as_secs_f64() * 500.0);
        };
        time("create and drop", &mut || drop(create_in(&directory, "t.c", len, |_| Ok(())).unwrap()));
        let file = create_in(&directory, "t.o", len, |_| Ok(())).unwrap();
        time("open and drop", &mut || drop(open_in(&directory, "t.o").unwrap()));
        let mut files = Vec::new();
        time("open", &mut || {
            files.push(open_in(&directory, "t.o").unwrap());
            if files.len() == 500 {
                files.iter_mut().for_each(|file| drop(file.role.take()));
                files.drain(..).for_each(std::mem::forget);
            }
        });
        time("directory", &mut || drop(Directory::within(place.path()).unwrap()));
        drop((used, file));
    }
}
