//! Panics in workers.

use ipc_process::{JoinError, Process};
use ipc_testkit::watchdog;
use serde::{Deserialize, Deserializer, Serialize};

use crate::panicked;

fn deep_down(n: u32) -> u32 {
    assert!(n < 3, "at {n}, which is too deep");
    deep_down(n + 1)
}

#[test]
fn message_location_thread_and_backtrace() {
    let _watchdog = watchdog("message_location_thread_and_backtrace");
    let report = panicked(Process::spawn(deep_down, (0,)).unwrap().join());
    assert_eq!(report.message, "at 3, which is too deep");
    assert_eq!(report.thread, "main");
    let location = report.location.clone().unwrap();
    assert!(location.file.ends_with("panics.rs"), "{location}");
    assert_eq!(location.line, line_of("assert!(n < 3"), "{location}");
    assert!(report.backtrace.matches("deep_down").count() >= 4, "{}", report.backtrace);
    assert!(report.to_string().starts_with("at 3, which is too deep (at "), "{report}");
}

fn line_of(text: &str) -> u32 {
    let source = include_str!("panics.rs");
    source.lines().position(|line| line.trim_start().starts_with(text)).unwrap() as u32 + 1
}

#[test]
fn a_panic_with_no_string_is_told_with_its_location() {
    let _watchdog = watchdog("a_panic_with_no_string_is_told_with_its_location");
    let report = panicked(Process::spawn(|| -> () { std::panic::panic_any(5u8) }, ()).unwrap().join());
    assert_eq!(report.message, "(a panic without a message)");
    assert!(report.location.unwrap().file.ends_with("panics.rs"));
}

#[test]
fn a_long_message_is_cut() {
    let _watchdog = watchdog("a_long_message_is_cut");
    let report = panicked(Process::spawn(|| -> () { panic!("{}", "ä".repeat(1 << 20)) }, ()).unwrap().join());
    assert!(report.message.len() > 1000 && report.message.chars().all(|c| c == 'ä'));
}

#[test]
fn a_caught_panic_is_none() {
    let _watchdog = watchdog("a_caught_panic_is_none");
    fn catch(times: u32) {
        for n in 0..times {
            assert!(std::panic::catch_unwind(|| panic!("caught {n}")).is_err());
        }
    }
    let returns = || {
        catch(20);
        5u8
    };
    assert_eq!(Process::spawn(returns, ()).unwrap().join().unwrap(), 5);
    // Neither is what came after it told as the panic, even if it looks like the end of one.
    let exits = || -> u8 {
        catch(2);
        std::process::exit(101)
    };
    let error = Process::spawn(exits, ()).unwrap().join().unwrap_err();
    assert!(matches!(error, JoinError::Exited { code: 101 }), "{error:?}");
    let aborts = || -> u8 {
        catch(2);
        std::process::abort()
    };
    let error = Process::spawn(aborts, ()).unwrap().join().unwrap_err();
    assert!(matches!(error, JoinError::Killed { signal: 6, .. }), "{error:?}");
    let panics = || -> u8 {
        catch(2);
        panic!("not caught")
    };
    assert_eq!(panicked(Process::spawn(panics, ()).unwrap().join()).message, "not caught");
}

#[test]
fn a_panic_of_another_thread_matters_to_who_joins_it() {
    let _watchdog = watchdog("a_panic_of_another_thread_matters_to_who_joins_it");
    fn panics_elsewhere() -> Box<dyn std::any::Any + Send> {
        let thread = std::thread::Builder::new().name("elsewhere".into());
        thread.spawn(|| panic!("in a thread")).unwrap().join().unwrap_err()
    }
    let ignores = || {
        panics_elsewhere();
        5u8
    };
    assert_eq!(Process::spawn(ignores, ()).unwrap().join().unwrap(), 5);
    // Resumed here: no hook sees that, but what the hook saw there is still known.
    let resumes = || -> () { std::panic::resume_unwind(panics_elsewhere()) };
    let report = panicked(Process::spawn(resumes, ()).unwrap().join());
    assert_eq!((report.message.as_str(), report.thread.as_str()), ("in a thread", "elsewhere"));
    assert!(report.location.unwrap().file.ends_with("panics.rs"));
    assert!(report.backtrace.contains("panics_elsewhere"), "{}", report.backtrace);
    let unwraps = || -> () { std::thread::spawn(|| panic!("in a thread")).join().unwrap() };
    let report = panicked(Process::spawn(unwraps, ()).unwrap().join());
    assert!(report.message.contains("unwrap") && report.thread == "main", "{report:?}");
}

/// Panics when it is dropped.
struct Bad;

impl Drop for Bad {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

#[test]
fn a_second_panic_while_unwinding_aborts_and_is_told() {
    let _watchdog = watchdog("a_second_panic_while_unwinding_aborts_and_is_told");
    let twice = || -> () {
        let _bad = Bad;
        panic!("the first")
    };
    let mut process = Process::spawn(twice, ()).unwrap();
    let report = panicked(process.join_timeout(ipc_testkit::LONG));
    assert_eq!(report.message, "the first; while unwinding, a second panic: in a destructor");
    assert_eq!(report.location.unwrap().line, line_of("panic!(\"the first\")"));
    let exit = process.exit().unwrap();
    assert!(matches!(exit, Some(ipc_process::Exit::Signal { number: 6, .. })), "{exit:?}");
}

extern "C" fn cannot_unwind() {
    panic!("out of a C function")
}

#[test]
fn a_panic_that_cannot_unwind_is_told_from_any_thread() {
    let _watchdog = watchdog("a_panic_that_cannot_unwind_is_told_from_any_thread");
    let report = panicked(Process::spawn(|| cannot_unwind(), ()).unwrap().join());
    assert_eq!(report.message, "out of a C function");
    assert!(report.backtrace.contains("cannot_unwind"), "{}", report.backtrace);
    let in_a_thread = || {
        // An earlier, caught one of another thread is not mistaken for it.
        let _ = std::panic::catch_unwind(|| panic!("caught"));
        let thread = std::thread::Builder::new().name("c-caller".into());
        thread.spawn(|| cannot_unwind()).unwrap().join().unwrap()
    };
    let report = panicked(Process::spawn(in_a_thread, ()).unwrap().join());
    assert_eq!((report.message.as_str(), report.thread.as_str()), ("out of a C function", "c-caller"));
}

#[test]
fn a_hook_of_the_functions_own_takes_place_and_backtrace_but_not_the_panic() {
    let _watchdog = watchdog("a_hook_of_the_functions_own_takes_place_and_backtrace_but_not_the_panic");
    let replaces = || -> () {
        std::panic::set_hook(Box::new(|_| ()));
        panic!("with a quiet hook")
    };
    let report = panicked(Process::spawn(replaces, ()).unwrap().join());
    assert_eq!(report.message, "with a quiet hook");
    assert_eq!((report.location, report.backtrace.as_str()), (None, ""));
    // One that keeps the previous one keeps all.
    let wraps = || -> () {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| previous(info)));
        panic!("with a polite hook")
    };
    let report = panicked(Process::spawn(wraps, ()).unwrap().join());
    assert!(report.message == "with a polite hook" && report.location.is_some(), "{report:?}");
    // One that ends the process ends it.
    let exits = || -> () {
        std::panic::set_hook(Box::new(|_| std::process::exit(3)));
        panic!("with a hook that exits")
    };
    let error = Process::spawn(exits, ()).unwrap().join().unwrap_err();
    assert!(matches!(error, JoinError::Exited { code: 3 }), "{error:?}");
}

#[derive(Serialize)]
struct PanicsWhenDecoded;

impl<'de> Deserialize<'de> for PanicsWhenDecoded {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("while decoding")
    }
}

#[test]
fn a_panic_in_decoding_the_arguments_is_one() {
    let _watchdog = watchdog("a_panic_in_decoding_the_arguments_is_one");
    let report = panicked(Process::spawn(|_: PanicsWhenDecoded| (), (PanicsWhenDecoded,)).unwrap().join());
    assert_eq!(report.message, "while decoding");
}
