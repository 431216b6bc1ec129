//! The stack and the memo that a pickle works on.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ipc_core::Limits;

use super::super::object::Object;
use super::PickleError;
use super::graph::{Call, Graph, Item, Node, heap};

type Result<T> = std::result::Result<T, PickleError>;

/// What an entry of the memo that is out of turn is reckoned at, in bytes: more than it takes in a tree that is half
/// empty.
const SPARSE_COST: usize = 64;

/// Reads text of protocol 0; the number is where it stands.
type Unescape = for<'l> fn(&'l [u8], usize) -> Result<Cow<'l, str>>;

pub(super) struct Machine<'a> {
    graph: Graph<'a>,
    stack: Vec<Item>,
    /// How long the stack was at each mark that has not been met yet.
    marks: Vec<usize>,
    memo: Vec<Item>,
    /// Entries whose number is not the next one: a memo as large as the numbers in it say could be of any size.
    sparse: BTreeMap<u32, Item>,
    /// Where the opcode is that is being executed.
    pub(super) at: usize,
}

impl<'a> Machine<'a> {
    pub(super) fn new(limits: &Limits) -> Self {
        Machine {
            graph: Graph::new(limits.memory_max),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            sparse: BTreeMap::new(),
            at: 0,
        }
    }

    /// The error for what no pickler writes.
    pub(super) fn malformed(&self, what: &'static str) -> PickleError {
        PickleError::Malformed { what, at: self.at }
    }

    pub(super) fn push(&mut self, item: Item) -> Result<()> {
        self.graph.budget.push(&mut self.stack, item)
    }

    pub(super) fn push_node(&mut self, node: Node<'a>) -> Result<()> {
        let item = self.graph.add(node)?;
        self.push(item)
    }

    /// Text that lies in the pickle.
    pub(super) fn push_text(&mut self, text: &'a str) -> Result<()> {
        self.push_node(Node::Str(Cow::Borrowed(text)))
    }

    /// Text that has to be made of what lies in the pickle. It takes up to twice as much, which is counted before.
    pub(super) fn push_escaped(&mut self, line: &'a [u8], read: Unescape) -> Result<()> {
        let most = heap(line.len().saturating_mul(2));
        self.graph.budget.take(most)?;
        let text = read(line, self.at)?;
        let owned = if let Cow::Owned(text) = &text { heap(text.capacity()) } else { 0 };
        self.graph.budget.give_back(most.saturating_sub(owned));
        self.push_node(Node::Str(text))
    }

    /// An integer in two's complement.
    pub(super) fn push_long(&mut self, bytes: Cow<'a, [u8]>) -> Result<()> {
        if let Cow::Owned(bytes) = &bytes {
            self.graph.budget.take(heap(bytes.capacity()))?;
        }
        self.push_node(Node::Int(bytes))
    }

    /// Takes the top of the stack, if that is no mark.
    pub(super) fn pop(&mut self) -> Result<Item> {
        if self.marks.last() == Some(&self.stack.len()) {
            return Err(self.malformed("a mark where a value should be"));
        }
        self.stack.pop().ok_or_else(|| self.malformed("nothing on the stack"))
    }

    /// The top of the stack, if that is no mark.
    fn top(&self) -> Result<Item> {
        match self.stack.last() {
            Some(item) if self.marks.last() != Some(&self.stack.len()) => Ok(*item),
            _ => Err(self.malformed("nothing on the stack")),
        }
    }

    pub(super) fn mark(&mut self) -> Result<()> {
        self.graph.budget.push(&mut self.marks, self.stack.len())
    }

    /// Forgets the top of the stack, which may be a mark.
    pub(super) fn discard(&mut self) -> Result<()> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            Ok(())
        } else {
            self.pop().map(drop)
        }
    }

    /// Forgets everything down to the mark.
    pub(super) fn discard_marked(&mut self) -> Result<()> {
        let mark = self.unmark()?;
        self.stack.truncate(mark);
        Ok(())
    }

    fn unmark(&mut self) -> Result<usize> {
        self.marks.pop().ok_or_else(|| self.malformed("no mark"))
    }

    /// Takes everything down to the mark and makes a container of it.
    pub(super) fn gather(&mut self, make: fn(Vec<Item>) -> Node<'a>) -> Result<()> {
        let mark = self.unmark()?;
        let items = self.graph.copy(self.stack.get(mark..).unwrap_or_default())?;
        self.stack.truncate(mark);
        self.push_node(make(items))
    }

    /// Likewise, for a dict.
    pub(super) fn gather_entries(&mut self) -> Result<()> {
        let mark = self.marks.last().copied().unwrap_or_default();
        if !self.stack.len().abs_diff(mark).is_multiple_of(2) {
            return Err(self.malformed("a key without a value"));
        }
        self.gather(Node::Dict)
    }

    /// Takes `len` items and makes a tuple of them.
    pub(super) fn tuple(&mut self, len: usize) -> Result<()> {
        let floor = self.marks.last().copied().unwrap_or_default();
        let from = self.stack.len().checked_sub(len).filter(|from| *from >= floor);
        let Some(from) = from else { return Err(self.malformed("nothing on the stack")) };
        let items = self.graph.copy(self.stack.get(from..).unwrap_or_default())?;
        self.stack.truncate(from);
        self.push_node(Node::Tuple(items))
    }

    /// Moves what is above `from` into the container below it.
    fn add(&mut self, from: usize, kind: Kind) -> Result<()> {
        let malformed = |what| PickleError::Malformed { what, at: self.at };
        let floor = self.marks.last().copied().unwrap_or_default();
        let below = from.checked_sub(1).filter(|below| *below >= floor);
        let target = below.and_then(|below| self.stack.get(below));
        let Some(target) = target else { return Err(malformed("no container to add to")) };
        let added = self.stack.get(from..).unwrap_or_default();
        let (items, budget) = match (kind, self.graph.get_mut(*target)) {
            (Kind::List, Some((Node::List(items), budget))) => (items, budget),
            (Kind::Set, Some((Node::Set(items), budget))) => (items, budget),
            (Kind::Dict, Some((Node::Dict(items), budget))) => {
                if !added.len().is_multiple_of(2) {
                    return Err(malformed("a key without a value"));
                }
                (items, budget)
            }
            _ => return Err(malformed("not the container to add this to")),
        };
        budget.reserve(items, added.len())?;
        items.extend_from_slice(added);
        self.stack.truncate(from);
        Ok(())
    }

    /// Adds the last `len` items to the container below them.
    pub(super) fn add_last(&mut self, len: usize, kind: Kind) -> Result<()> {
        match self.stack.len().checked_sub(len) {
            Some(from) => self.add(from, kind),
            None => Err(self.malformed("nothing on the stack")),
        }
    }

    /// Adds everything down to the mark to the container below that.
    pub(super) fn add_marked(&mut self, kind: Kind) -> Result<()> {
        let mark = self.unmark()?;
        self.add(mark, kind)
    }

    /// Calls a function: which means that its arguments are read as what the function would make of them.
    pub(super) fn reduce(&mut self) -> Result<()> {
        let arguments = self.pop()?;
        let Item::Call(call) = self.pop()? else {
            return Err(self.malformed("a call of what is no function"));
        };
        let refused = PickleError::Call(call.name());
        let Some(Node::Tuple(arguments)) = self.graph.get(arguments) else { return Err(refused) };
        let made = match (call, arguments.as_slice()) {
            (Call::Set, []) => Some(Node::Set(Vec::new())),
            (Call::Set, &[list]) => self.graph.copy_list(list)?.map(Node::Set),
            (Call::FrozenSet, []) => Some(Node::FrozenSet(Vec::new())),
            (Call::FrozenSet, &[list]) => self.graph.copy_list(list)?.map(Node::FrozenSet),
            (Call::Bytes, []) => Some(Node::Bytes(Cow::Borrowed(b""))),
            (Call::Encode, &[text, encoding]) => match self.graph.get(encoding) {
                Some(Node::Str(name)) if name == "latin1" => self.graph.latin1(text)?.map(Node::Bytes),
                _ => None,
            },
            _ => None,
        };
        self.push_node(made.ok_or(refused)?)
    }

    /// Notes the top of the stack under a number.
    pub(super) fn put(&mut self, number: u32) -> Result<()> {
        let item = self.top()?;
        let budget = &mut self.graph.budget;
        if let Some(entry) = self.memo.get_mut(number as usize) {
            *entry = item;
        } else if number as usize == self.memo.len() && !self.sparse.contains_key(&number) {
            budget.push(&mut self.memo, item)?;
        } else {
            budget.take(SPARSE_COST)?;
            self.sparse.insert(number, item);
        }
        Ok(())
    }

    /// Notes the top of the stack under the next number.
    pub(super) fn memoize(&mut self) -> Result<()> {
        let number = u32::try_from(self.memo.len() + self.sparse.len());
        self.put(number.map_err(|_| self.malformed("too many entries in the memo"))?)
    }

    /// Pushes what was noted under a number.
    pub(super) fn recall(&mut self, number: u32) -> Result<()> {
        let item = self.memo.get(number as usize).or_else(|| self.sparse.get(&number));
        self.push(*item.ok_or(PickleError::Memo(number))?)
    }

    /// Looks up the function whose module and name are on the stack.
    pub(super) fn stack_global(&mut self) -> Result<()> {
        let (name, module) = (self.pop()?, self.pop()?);
        let (Some(Node::Str(module)), Some(Node::Str(name))) = (self.graph.get(module), self.graph.get(name))
        else {
            return Err(self.malformed("a name that is no text"));
        };
        let call = Call::named(module.as_bytes(), name.as_bytes())?;
        self.push(Item::Call(call))
    }

    /// The end: what is on top of the stack is the result.
    pub(super) fn stop(mut self, limits: &Limits) -> Result<Object> {
        let item = self.pop()?;
        self.graph.into_object(item, limits)
    }
}

/// What can be added to.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    List,
    Dict,
    Set,
}
