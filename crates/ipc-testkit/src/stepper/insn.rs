//! Just enough of x86-64's instruction format: which instructions are system calls, and which memory they name.
//!
//! What is not recognised is taken to name no memory. A mistake costs a sample some of its aim, nothing else: an address
//! counts only if it lies in shared memory.

/// As many bytes as are looked at: prefixes, opcode, and operands up to the displacement.
pub(super) const LEN: usize = 16;

/// The general registers as instructions number them: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
pub(super) type Registers = [u64; 16];

const RSI: u8 = 6;
const RDI: u8 = 7;
const RSP: u8 = 4;

/// An instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Insn {
    /// `syscall`
    Syscall,
    /// One with these operands in memory.
    Memory(Operand),
    /// `movs`, `cmps`, `stos`, `scas`: what rdi and rsi point to. With its length, if it repeats itself.
    String(Option<u8>),
    /// Any other.
    Other,
}

/// base + index × scale + displacement
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operand {
    base: Option<u8>,
    index: Option<(u8, u8)>,
    displacement: i64,
}

impl Insn {
    /// Reads an instruction.
    pub(super) fn of(bytes: &[u8; LEN]) -> Insn {
        decode(bytes).unwrap_or(Insn::Other)
    }

    /// The addresses that it reads or writes, of those that can be told.
    pub(super) fn addresses(self, registers: &Registers) -> [Option<u64>; 2] {
        let register = |number: u8| registers[usize::from(number & 15)];
        match self {
            Insn::Memory(Operand { base, index, displacement }) => {
                let index = index.map_or(0, |(number, shift)| register(number) << shift);
                let address = base.map_or(0, register).wrapping_add(index);
                [Some(address.wrapping_add_signed(displacement)), None]
            }
            Insn::String(_) => [Some(register(RDI)), Some(register(RSI))],
            Insn::Syscall | Insn::Other => [None; 2],
        }
    }
}

/// The bits that extend register numbers, from whichever prefix holds them.
#[derive(Clone, Copy, Default)]
struct Extension {
    index: u8,
    base: u8,
    /// What a displacement of one byte counts in.
    unit: i64,
}

fn decode(bytes: &[u8; LEN]) -> Option<Insn> {
    let at = |i: usize| bytes.get(i).copied();
    let mut i = 0;
    while matches!(at(i)?, 0x66 | 0xf0 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26) {
        i += 1;
    }
    // fs and gs: a thread's own memory. 67: addresses of 32 bits, which nobody uses.
    if matches!(at(i)?, 0x64 | 0x65 | 0x67) {
        return None;
    }
    let mut extension = Extension { unit: 1, ..Extension::default() };
    let bit = |byte: u8, n: u8| ((byte >> n) & 1) << 3;
    let has_operand = match at(i)? {
        // Vector instructions, whose prefix holds the extension inverted: VEX (two bytes, three bytes), EVEX.
        0xc5 => {
            i += 2;
            !matches!(at(i)?, 0x77)
        }
        0xc4 => {
            (extension.index, extension.base) = (bit(!at(i + 1)?, 6), bit(!at(i + 1)?, 5));
            i += 3;
            true
        }
        0x62 => {
            (extension.index, extension.base) = (bit(!at(i + 1)?, 6), bit(!at(i + 1)?, 5));
            extension.unit = 16 << ((at(i + 3)? >> 5) & 3).min(2);
            i += 4;
            true
        }
        first => {
            if first & 0xf0 == 0x40 {
                (extension.index, extension.base) = (bit(first, 1), bit(first, 0));
                i += 1;
            }
            match at(i)? {
                0x0f => {
                    i += 1;
                    match at(i)? {
                        0x05 => return Some(Insn::Syscall),
                        0x38 | 0x3a => {
                            i += 1;
                            true
                        }
                        second => !without_operand_after_0f(second),
                    }
                }
                0xa4..=0xa7 | 0xaa | 0xab | 0xae | 0xaf => {
                    let is_repeated = bytes[..i].iter().any(|prefix| matches!(prefix, 0xf2 | 0xf3));
                    return Some(Insn::String(is_repeated.then_some(i as u8 + 1)));
                }
                opcode => has_operand(opcode),
            }
        }
    };
    if has_operand { operand(bytes, i + 1, extension).map(Insn::Memory) } else { None }
}

/// Whether an opcode of one byte is followed by an operand in memory or a register (`lea` only computes its address).
fn has_operand(opcode: u8) -> bool {
    match opcode {
        0x00..=0x3f => opcode & 7 < 4,
        0x8d => false,
        0x63 | 0x69 | 0x6b | 0x80..=0x8f | 0xc0 | 0xc1 | 0xc6 | 0xc7 => true,
        0xd0..=0xd3 | 0xd8..=0xdf | 0xf6 | 0xf7 | 0xfe | 0xff => true,
        _ => false,
    }
}

/// Those of two bytes that have none, or one that is never touched (prefetches, long no-operations).
fn without_operand_after_0f(opcode: u8) -> bool {
    matches!(opcode, 0x06 | 0x08 | 0x09 | 0x0b | 0x0d | 0x18..=0x1f | 0x30..=0x37 | 0x77 | 0x80..=0x8f)
        || matches!(opcode, 0xa0..=0xa2 | 0xa8..=0xaa | 0xc8..=0xcf)
}

/// The operand whose ModRM byte is at `i`.
fn operand(bytes: &[u8; LEN], mut i: usize, extension: Extension) -> Option<Operand> {
    let modrm = *bytes.get(i)?;
    let (mode, rm) = (modrm >> 6, modrm & 7);
    // A register; or an address relative to the instruction: the program's own data.
    if mode == 3 || (mode == 0 && rm == 5) {
        return None;
    }
    i += 1;
    let mut long_displacement = mode == 2;
    let (base, index) = if rm == 4 {
        let sib = *bytes.get(i)?;
        i += 1;
        let number = ((sib >> 3) & 7) | extension.index;
        let index = (number != RSP).then_some((number, sib >> 6));
        if mode == 0 && sib & 7 == 5 {
            long_displacement = true;
            (None, index)
        } else {
            (Some((sib & 7) | extension.base), index)
        }
    } else {
        (Some(rm | extension.base), None)
    };
    let displacement = if long_displacement {
        i64::from(i32::from_le_bytes(bytes.get(i..i + 4)?.try_into().ok()?))
    } else if mode == 1 {
        i64::from(i8::from_le_bytes([*bytes.get(i)?])) * extension.unit
    } else {
        0
    };
    Some(Operand { base, index, displacement })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Registers with values that tell which is which: register n holds n × 0x1000.
    fn address(code: &[u8]) -> Option<u64> {
        let mut bytes = [0x90; LEN];
        bytes[..code.len()].copy_from_slice(code);
        let registers: Registers = std::array::from_fn(|n| n as u64 * 0x1000);
        Insn::of(&bytes).addresses(&registers)[0]
    }

    #[test]
    fn operands_in_memory_are_found() {
        assert_eq!(address(&[0xf0, 0x48, 0x0f, 0xb1, 0x0f]), Some(0x7000), "lock cmpxchg [rdi], rcx");
        assert_eq!(
            address(&[0xf0, 0x41, 0x0f, 0xb1, 0x4c, 0x24, 0x08]),
            Some(0xc008),
            "lock cmpxchg [r12+8], ecx"
        );
        assert_eq!(address(&[0x87, 0x03]), Some(0x3000), "xchg [rbx], eax");
        assert_eq!(address(&[0x48, 0x89, 0x44, 0xcb, 0xf8]), Some(0xaff8), "mov [rbx+rcx*8-8], rax");
        assert_eq!(address(&[0xc7, 0x86, 0, 1, 0, 0, 5, 0, 0, 0]), Some(0x6100), "mov dword [rsi+256], 5");
        assert_eq!(address(&[0xc5, 0xfe, 0x7f, 0x47, 0x20]), Some(0x7020), "vmovdqu [rdi+32], ymm0");
        assert_eq!(
            address(&[0x62, 0xe1, 0xfe, 0x28, 0x7f, 0x47, 0x01]),
            Some(0x7020),
            "vmovdqu64 [rdi+32], ymm16"
        );
        assert_eq!(address(&[0xf3, 0xa4]), Some(0x7000), "rep movsb");
    }

    #[test]
    fn what_names_no_memory_is_told() {
        for code in [
            &[0x48, 0x8d, 0x47, 0x08][..],   // lea rax, [rdi+8]
            &[0x48, 0x89, 0xc8],             // mov rax, rcx
            &[0x8b, 0x05, 1, 0, 0, 0],       // mov eax, [rip+1]
            &[0x64, 0x8b, 0x07],             // mov eax, fs:[rdi]
            &[0x0f, 0x84, 1, 0, 0, 0],       // je
            &[0x66, 0x0f, 0x1f, 0x44, 0, 0], // nop
            &[0xc3],                         // ret
        ] {
            assert_eq!(address(code), None, "{code:x?}");
        }
        let mut syscall = [0; LEN];
        syscall[..2].copy_from_slice(&[0x0f, 0x05]);
        assert_eq!(Insn::of(&syscall), Insn::Syscall);
        assert_eq!(Insn::of(&[0xaa; LEN]), Insn::String(None), "stosb");
        let mut repeated = [0x90; LEN];
        repeated[..3].copy_from_slice(&[0xf3, 0x48, 0xab]);
        assert_eq!(Insn::of(&repeated), Insn::String(Some(3)), "rep stosq");
    }
}
