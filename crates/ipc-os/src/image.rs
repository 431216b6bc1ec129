//! The program's own image in memory: what identifies it, and where its functions lie in it.
//!
//! A function is named to another process of the same program by its distance from the image's load address. That
//! is right if both run the same image, which [`identity`] tells, and if the address lies in the image's code,
//! which [`offset_of`] and [`address_at`] check against the mapped program headers.

use std::io;
use std::ops::Range;
use std::sync::OnceLock;

/// What names the image of the main program: equal for equal programs, different after any rebuild that changed it.
pub type Identity = Vec<u8>;

struct Image {
    base: usize,
    /// Mapped, executable address ranges.
    code: Vec<Range<usize>>,
    identity: Identity,
}

/// The identity of the main program as it is mapped (not as it lies on disk now): the linker's build-id, or where
/// there is none, a hash over the mapped headers and code.
pub fn identity() -> &'static [u8] {
    &image().identity
}

/// The distance of `address` from the load address of the main program.
///
/// # Errors
/// `InvalidInput` when the address is not in the main program's code: in a shared library, say, which another
/// process may have mapped elsewhere.
pub fn offset_of(address: usize) -> io::Result<u64> {
    let image = image();
    if !image.code.iter().any(|range| range.contains(&address)) {
        let what = "the function is not part of the main program (is it in a shared library?)";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok((address - image.base) as u64)
}

/// The address at this distance from the main program's load address.
///
/// # Errors
/// `InvalidInput` when no code of the main program is there.
pub fn address_at(offset: u64) -> io::Result<usize> {
    let image = image();
    let address = usize::try_from(offset).ok().and_then(|offset| image.base.checked_add(offset));
    match address {
        Some(address) if image.code.iter().any(|range| range.contains(&address)) => Ok(address),
        _ => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no code of the program at that offset"))
        }
    }
}

/// Whether this process runs with more rights than whoever started it (set-user-ID and the like, `AT_SECURE`): it
/// must not believe its environment or its inherited descriptors.
pub fn is_secure() -> bool {
    // SAFETY: reads the auxiliary vector; 0 if the entry is not there.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Names the calling thread for `ps` and debuggers; more than 15 bytes are cut off.
pub fn set_thread_name(name: &str) {
    let bytes: Vec<u8> = name.bytes().filter(|b| *b != 0).take(15).collect();
    if let Ok(name) = std::ffi::CString::new(bytes) {
        let _ = rustix::thread::set_name(&name);
    }
}

fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let mut image = Image { base: 0, code: Vec::new(), identity: Vec::new() };
        // SAFETY: the callback matches the type that is asked for, and the pointer is to a value that lives
        // through the call and is used by nothing else.
        unsafe { libc::dl_iterate_phdr(Some(read_first), (&raw mut image).cast()) };
        image
    })
}

/// Reads the first object of the walk, which is the main program (dl_iterate_phdr(3)), and ends the walk.
unsafe extern "C" fn read_first(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    image: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: `dl_iterate_phdr` passes a valid pointer for the duration of the callback.
    let info = unsafe { &*info };
    // SAFETY: this is the pointer that `image()` gave, exclusively ours meanwhile.
    let image = unsafe { &mut *image.cast::<Image>() };
    let base = info.dlpi_addr as usize;
    image.base = base;
    // SAFETY: the loader says that this many program headers lie there; they stay mapped as long as the object,
    // which for the main program is for ever.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    for header in headers {
        let start = base.wrapping_add(header.p_vaddr as usize);
        let range = start..start.wrapping_add(header.p_memsz as usize);
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 {
            image.code.push(range);
        } else if header.p_type == libc::PT_NOTE && image.identity.is_empty() {
            // SAFETY: a PT_NOTE segment lies within a readable PT_LOAD one, mapped and constant.
            let notes = unsafe { std::slice::from_raw_parts(start as *const u8, header.p_memsz as usize) };
            image.identity = build_id(notes).unwrap_or_default().to_vec();
        }
    }
    if image.identity.is_empty() {
        let mut hash = Fnv::new();
        for header in headers {
            hash.add(&header.p_vaddr.to_le_bytes());
            hash.add(&header.p_memsz.to_le_bytes());
        }
        for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_X != 0) {
            let start = base.wrapping_add(header.p_vaddr as usize);
            // SAFETY: a loaded segment is mapped for its size in the file, and code is readable and constant.
            let code = unsafe { std::slice::from_raw_parts(start as *const u8, header.p_filesz as usize) };
            hash.add(code);
        }
        image.identity = hash.0.to_le_bytes().to_vec();
    }
    1
}

/// Finds the GNU build-id in a note segment: notes of `namesz, descsz, type, name, descriptor`, each padded to 4.
fn build_id(mut notes: &[u8]) -> Option<&[u8]> {
    const NT_GNU_BUILD_ID: u32 = 3;
    while notes.len() >= 12 {
        let word = |at: usize| u32::from_ne_bytes([notes[at], notes[at + 1], notes[at + 2], notes[at + 3]]);
        let (name_len, len, kind) = (word(0) as usize, word(4) as usize, word(8));
        let name = notes.get(12..12usize.checked_add(name_len)?)?;
        let at = 12usize.checked_add(name_len.checked_next_multiple_of(4)?)?;
        let descriptor = notes.get(at..at.checked_add(len)?)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" {
            return Some(descriptor);
        }
        notes = notes.get(at.checked_add(len.checked_next_multiple_of(4)?)?..)?;
    }
    None
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): enough to tell two builds apart, nothing here defends against forgery.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_again() {
        let address = a_function_is_found_again as fn() as usize;
        let offset = offset_of(address).unwrap();
        assert_eq!(address_at(offset).unwrap(), address);
        assert!(!identity().is_empty());
    }

    #[test]
    fn what_is_not_code_of_the_program_is_refused() {
        let local = 0u8;
        assert!(offset_of(&raw const local as usize).is_err());
        assert!(offset_of(libc::getpid as *const () as usize).is_err());
        assert!(address_at(u64::MAX).is_err());
        assert!(address_at(0).is_err(), "the ELF header is no code");
    }

    #[test]
    fn notes_that_lie_about_their_lengths_are_no_build_id() {
        let note = |name: u32, len: u32, rest: &[u8]| {
            [&name.to_ne_bytes()[..], &len.to_ne_bytes(), &3u32.to_ne_bytes(), rest].concat()
        };
        assert_eq!(build_id(&note(4, 2, b"GNU\0ab\0\0")), Some(&b"ab"[..]));
        assert_eq!(build_id(&note(4, 9, b"GNU\0ab\0\0")), None);
        assert_eq!(build_id(&note(u32::MAX, 2, b"GNU\0ab\0\0")), None);
        assert_eq!(build_id(&note(4, u32::MAX, b"GNU\0ab\0\0")), None);
    }
}
