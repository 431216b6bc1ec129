//! Running cargo and reading what it knows about the workspace.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::failure::{Failure, Outcome};

/// The directory of the workspace's manifest.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies below the workspace's root")
}

/// A cargo command that runs at the workspace's root.
pub(crate) fn cargo<I>(arguments: I) -> Command
where
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    forget_this_package(&mut command);
    command
}

/// Removes what `cargo run` told this process about itself.
///
/// A build script that asks to be rerun when one of these changes would otherwise be run again, and a
/// program could take our package for its own.
pub(crate) fn forget_this_package(command: &mut Command) {
    const OWN: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
    for (name, _) in std::env::vars_os() {
        if OWN.iter().any(|own| name.as_encoded_bytes().starts_with(own.as_bytes())) {
            command.env_remove(name);
        }
    }
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs the command to its end with our own stdout and stderr.
pub(crate) fn run(mut command: Command) -> Outcome {
    let line = shown(&command);
    let status = command.status().map_err(Failure::io(&line))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("`{line}` ended with {status}"))) }
}

/// Runs the command to its end and returns what it printed; its stderr stays ours.
pub(crate) fn output(mut command: Command) -> Outcome<String> {
    let line = shown(&command);
    let output = command.stderr(Stdio::inherit()).output().map_err(Failure::io(&line))?;
    if !output.status.success() {
        return Err(Failure::new(format!("`{line}` ended with {}", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|_| Failure::new(format!("`{line}` printed what is not UTF-8")))
}

/// What kind of dependency an edge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Dev,
    Build,
}

/// One line of a manifest's dependencies.
#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Set when the dependency is given by path.
    pub(crate) path: Option<PathBuf>,
    pub(crate) features: Vec<String>,
}

/// One thing cargo can build of a package.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// `lib`, `bin`, `example`, `test`, …
    pub(crate) kinds: Vec<String>,
    pub(crate) source: PathBuf,
}

impl Target {
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kinds.iter().any(|k| k == kind)
    }
}

/// A package as its manifest describes it.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) dir: PathBuf,
    /// Whether it may be published: `publish = false` is what marks our internal packages.
    pub(crate) public: bool,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
    /// Names of its features.
    pub(crate) features: Vec<String>,
}

/// The packages of one workspace and where it builds.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) target_dir: PathBuf,
}

impl Metadata {
    /// Asks cargo about the workspace of `manifest`, without resolving dependencies.
    pub(crate) fn of(manifest: &Path) -> Outcome<Metadata> {
        let mut command = cargo(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]);
        command.arg(manifest);
        let text = output(command)?;
        Metadata::parse(&text).ok_or_else(|| {
            Failure::new(format!("cannot make sense of the metadata of {}", manifest.display()))
        })
    }

    /// The metadata of our own workspace.
    pub(crate) fn workspace() -> Outcome<Metadata> {
        Metadata::of(&root().join("Cargo.toml"))
    }

    fn parse(text: &str) -> Option<Metadata> {
        let value: Value = serde_json::from_str(text).ok()?;
        let packages = value["packages"].as_array()?.iter().map(package).collect::<Option<_>>()?;
        Some(Metadata { packages, target_dir: value["target_directory"].as_str()?.into() })
    }

    /// The package called `name`.
    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }
}

fn package(value: &Value) -> Option<Package> {
    Some(Package {
        name: value["name"].as_str()?.into(),
        description: value["description"].as_str().unwrap_or_default().into(),
        dir: Path::new(value["manifest_path"].as_str()?).parent()?.into(),
        public: value["publish"].is_null(),
        dependencies: value["dependencies"].as_array()?.iter().map(dependency).collect::<Option<_>>()?,
        targets: value["targets"].as_array()?.iter().map(target).collect::<Option<_>>()?,
        features: value["features"].as_object()?.keys().cloned().collect(),
    })
}

fn dependency(value: &Value) -> Option<Dependency> {
    Some(Dependency {
        name: value["name"].as_str()?.into(),
        kind: match value["kind"].as_str() {
            None => Kind::Normal,
            Some("dev") => Kind::Dev,
            Some("build") => Kind::Build,
            Some(_) => return None,
        },
        path: value["path"].as_str().map(PathBuf::from),
        features: strings(&value["features"])?,
    })
}

fn target(value: &Value) -> Option<Target> {
    Some(Target {
        name: value["name"].as_str()?.into(),
        kinds: strings(&value["kind"])?,
        source: value["src_path"].as_str()?.into(),
    })
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|word| word.as_str().map(String::from)).collect()
}

/// A program that a build made, and the source file of its `main`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) source: PathBuf,
    pub(crate) path: PathBuf,
}

/// Runs `cargo build ARGUMENTS` and returns the programs it names.
pub(crate) fn build(arguments: &[&str]) -> Outcome<Vec<Program>> {
    let mut command = cargo(["build", "--message-format=json-render-diagnostics"]);
    command.args(arguments);
    Ok(output(command)?.lines().filter_map(program).collect())
}

/// Builds the binary `name` of `package` with further `arguments`; the path to it.
pub(crate) fn build_binary(package: &str, name: &str, arguments: &[&str]) -> Outcome<PathBuf> {
    let mut all = vec!["-p", package, "--bin", name];
    all.extend(arguments);
    let built = build(&all)?;
    match built.as_slice() {
        [one] => Ok(one.path.clone()),
        _ => Err(Failure::new(format!("cargo built {} programs for `{name}` of `{package}`", built.len()))),
    }
}

/// A program that was built, to be run.
pub(crate) fn to_run(path: &Path) -> Command {
    let mut command = Command::new(path);
    forget_this_package(&mut command);
    command
}

/// Reads one line of cargo's build messages.
fn program(line: &str) -> Option<Program> {
    let value: Value = serde_json::from_str(line).ok()?;
    if value["reason"] != "compiler-artifact" {
        return None;
    }
    Some(Program {
        source: value["target"]["src_path"].as_str()?.into(),
        path: value["executable"].as_str()?.into(),
    })
}

/// Replaces this process by `program`, so that its exit status, signals and terminal are its own.
///
/// Returns only if that could not be done.
pub(crate) fn become_program(program: &Path, arguments: &[OsString]) -> Failure {
    use std::os::unix::process::CommandExt;
    let mut command = to_run(program);
    command.args(arguments);
    Failure::new(format!("cannot start {}: {}", program.display(), command.exec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_workspace() {
        let metadata = Metadata::workspace().unwrap();
        let xtask = metadata.package("xtask").unwrap();
        assert!(!xtask.public);
        assert_eq!(xtask.dir, root().join("xtask"));
        assert!(
            xtask.dependencies.iter().any(|d| d.name == "clap" && d.kind == Kind::Normal && d.path.is_none())
        );
        assert!(xtask.targets.iter().any(|t| t.is("bin") && t.source == root().join("xtask/src/main.rs")));
        assert!(metadata.package("ipc-core").unwrap().public);
    }

    #[test]
    fn refuses_metadata_of_another_form() {
        assert!(Metadata::parse("{}").is_none());
        assert!(Metadata::parse("not JSON").is_none());
        assert!(Metadata::parse(r#"{"packages": [{"name": "a"}], "target_directory": "t"}"#).is_none());
    }

    #[test]
    fn takes_only_programs_from_build_messages() {
        let made = r#"{"reason":"compiler-artifact","target":{"src_path":"a/main.rs"},"executable":"t/a"}"#;
        let library = r#"{"reason":"compiler-artifact","target":{"src_path":"a/lib.rs"},"executable":null}"#;
        let other = r#"{"reason":"build-finished","success":true}"#;
        assert_eq!(program(made), Some(Program { source: "a/main.rs".into(), path: "t/a".into() }));
        assert_eq!([program(library), program(other), program("")], [None, None, None]);
    }

    #[test]
    fn a_failing_command_is_named() {
        let failure = run(cargo(["no-such-command"])).unwrap_err().to_string();
        assert!(failure.contains("cargo no-such-command"), "{failure}");
    }
}
