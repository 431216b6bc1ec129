//! Objects with names: a file each, which holds what it is, a board of its own, and the object.
//!
//! ```text
//!  0      magic "ipcnamed" u64 | version u32 | structure length u32 | fingerprint u64 | object length u64
//!  32     the structure of the type, as text, for errors that show it; at most 4,064 bytes
//!  4096   board
//!  532480 object
//! ```
//!
//! The file is complete before it gets its name, and the name goes with its last user: see [`ipc_os::names`].

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;

use ipc_os::map::{Access, Mapping};
use ipc_os::memfd;
use ipc_os::names::{self, NameError, NamedFile};

use crate::board;
use crate::error::OpenError;

/// "ipcnamed", as it stands in memory.
const MAGIC: u64 = u64::from_le_bytes(*b"ipcnamed");
const VERSION: u32 = 1;
const HEADER: usize = 32;
pub(crate) const BOARD: usize = 4096;
pub(crate) const OBJECT: usize = BOARD + board::LEN;
/// The most that is shown of a structure.
const STRUCTURE_MAX: usize = BOARD - HEADER;

const _: () = assert!(OBJECT == 532_480 && OBJECT.is_multiple_of(4096));

/// What an object with a name is.
#[derive(Debug, Clone, Copy)]
pub struct Typed<'a> {
    /// The kind, which is a part of the file's name: objects of different kinds can have the same name.
    pub kind: &'a str,
    /// How many bytes a new one takes.
    pub len: usize,
    /// Who opens one takes what is there, if it is at least so many.
    pub len_min: usize,
    /// How many of them, from the first on, are there at once: what is behind is to be reserved before it is touched.
    pub reserved: usize,
    /// The fingerprint of the type in it; 0 for objects of one structure only.
    pub fingerprint: u64,
    /// The structure of that type, for errors.
    pub structure: &'a str,
}

/// What to do about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// There must be none.
    Create,
    /// There must be one.
    Open,
    /// Either.
    OpenOrCreate,
}

/// Opens or makes the file of an object: its object's length, too.
pub(crate) fn file(
    opening: Opening,
    name: &str,
    typed: &Typed<'_>,
    init: impl FnOnce(&Mapping, usize) -> io::Result<()>,
) -> Result<(NamedFile, usize), OpenError> {
    let shown = format!("{}.{name}", typed.kind);
    let len = OBJECT
        .checked_add(typed.len)
        .ok_or_else(|| OpenError::InvalidInput("no memory has so many bytes".into()))?;
    let prepare = |file: std::os::fd::BorrowedFd<'_>| {
        memfd::reserve(file, 0, BOARD as u64 + 4096)?;
        memfd::reserve(file, OBJECT as u64, typed.reserved.min(typed.len) as u64)?;
        let map = Mapping::new(file, len, Access::ReadWrite)?;
        let structure = &typed.structure.as_bytes()[..typed.structure.len().min(STRUCTURE_MAX)];
        map.u64(0)?.store(MAGIC, Relaxed);
        map.u32(8)?.store(VERSION, Relaxed);
        map.u32(12)?.store(structure.len() as u32, Relaxed);
        map.u64(16)?.store(typed.fingerprint, Relaxed);
        map.u64(24)?.store(typed.len as u64, Relaxed);
        map.write(HEADER, structure)?;
        board::format(&map, BOARD)?;
        init(&map, OBJECT)
    };
    let translate = |error| translate(error, &shown);
    let file = match opening {
        Opening::Create => {
            return names::create(typed.kind, name, len as u64, prepare)
                .map(|file| (file, typed.len))
                .map_err(translate);
        }
        Opening::Open => names::open(typed.kind, name).map_err(translate)?,
        Opening::OpenOrCreate => {
            let (file, is_new) =
                names::open_or_create(typed.kind, name, len as u64, prepare).map_err(translate)?;
            if is_new {
                return Ok((file, typed.len));
            }
            file
        }
    };
    let (fingerprint, structure, object_len) = read_header(file.role(), file.len())
        .map_err(|what| OpenError::Mismatch { name: shown.clone(), what })?;
    if fingerprint != typed.fingerprint {
        let what = format!("it holds {structure}, and {} was asked for", typed.structure);
        return Err(OpenError::Mismatch { name: shown, what });
    }
    if object_len < typed.len_min {
        let what = format!("it has {object_len} bytes, and {} are needed", typed.len_min);
        return Err(OpenError::Mismatch { name: shown, what });
    }
    Ok((file, object_len))
}

/// The fingerprint, structure and length of the object in a file, if its header is right and it has the bytes that it
/// says it has.
pub(crate) fn read_header(file: impl AsFd, file_len: u64) -> Result<(u64, String, usize), String> {
    let mut bytes = [0; BOARD + 12];
    ipc_os::fd::read_exact_at(file, &mut bytes, 0)
        .map_err(|error| format!("its header cannot be read: {error}"))?;
    let (header, board) = bytes.split_at(BOARD);
    let u64_at = |at: usize| header[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    let u32_at = |at: usize| header[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
    if u64_at(0) != MAGIC {
        return Err("the file is not one of an object".into());
    }
    if u32_at(8) != VERSION {
        return Err(format!("it is of version {}, and this program reads version {VERSION}", u32_at(8)));
    }
    let len = usize::try_from(u64_at(24)).unwrap_or(usize::MAX);
    if OBJECT.checked_add(len).is_none_or(|end| end as u64 > file_len) {
        return Err("its file has been cut short".into());
    }
    board::check_header(board.try_into().unwrap_or(&[0; 12])).map_err(|error| error.to_string())?;
    let structure = &header[HEADER..][..(u32_at(12) as usize).min(STRUCTURE_MAX)];
    Ok((u64_at(16), String::from_utf8_lossy(structure).into_owned(), len))
}

fn translate(error: NameError, name: &str) -> OpenError {
    let name = name.to_owned();
    match error {
        NameError::AlreadyExists { .. } => OpenError::AlreadyExists { name },
        NameError::NotFound { .. } => OpenError::NotFound { name },
        NameError::BadName { name } => OpenError::BadName { name },
        NameError::WrongOwner { path } => OpenError::WrongOwner {
            path: path.display().to_string(),
            what: "objects are shared among the processes of one user".into(),
        },
        NameError::NoSpace { source, .. } => OpenError::NoSpace(source),
        NameError::Io(error) => OpenError::Io(error),
        other => OpenError::Io(io::Error::other(other)),
    }
}

/// Removes the files of all named objects that nobody uses any more; how many those were. Each `create` and `open` looks
/// after some of them, so a program needs this only if it has stopped to do either.
///
/// # Errors
/// [`OpenError::WrongOwner`], [`OpenError::Io`].
pub fn reclaim() -> Result<usize, OpenError> {
    names::reclaim().map_err(|error| translate(error, ""))
}

/// Takes the name of an object away on purpose: who has it keeps it, and the name is free for another at once.
///
/// # Errors
/// [`OpenError::NotFound`], [`OpenError::BadName`], [`OpenError::Io`].
pub fn remove(kind: &str, name: &str) -> Result<(), OpenError> {
    names::remove(kind, name).map_err(|error| translate(error, &format!("{kind}.{name}")))
}
