//! What a pickle describes, before it is a tree: a graph, as things can be referred to more than once.

use std::borrow::Cow;

use ipc_core::Limits;

use super::super::bigint::{BigInt, small};
use super::super::object::Object;
use super::{NODE_COST, PickleError};

type Result<T> = std::result::Result<T, PickleError>;

/// Something on the stack, in the memo or in a container.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// A function that waits for being called.
    Call(Call),
    /// What does not fit in here, by its place in the graph.
    Node(u32),
}

/// The functions that plain data needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Set,
    FrozenSet,
    Bytes,
    Encode,
}

impl Call {
    /// The function of that name. Python 2 has another name for the module, and so have the pickles that are meant
    /// for it.
    pub(super) fn named(module: &[u8], name: &[u8]) -> Result<Self> {
        match (module, name) {
            (b"builtins" | b"__builtin__", b"set") => Ok(Call::Set),
            (b"builtins" | b"__builtin__", b"frozenset") => Ok(Call::FrozenSet),
            (b"builtins" | b"__builtin__", b"bytes") => Ok(Call::Bytes),
            (b"_codecs", b"encode") => Ok(Call::Encode),
            _ => Err(PickleError::Global { module: excerpt(module), name: excerpt(name) }),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Call::Set => "set",
            Call::FrozenSet => "frozenset",
            Call::Bytes => "bytes",
            Call::Encode => "_codecs.encode",
        }
    }

    /// The error for a function that is not called.
    fn as_data(self) -> PickleError {
        let (module, name) = match self {
            Call::Encode => ("_codecs", "encode"),
            other => ("builtins", other.name()),
        };
        PickleError::Global { module: module.into(), name: name.into() }
    }
}

/// What may be shown of a name that somebody else chose.
fn excerpt(name: &[u8]) -> String {
    let most = name.get(..256).unwrap_or(name);
    String::from_utf8_lossy(most).chars().take(64).collect()
}

/// Something that can be shared.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// Two's complement, the least significant byte first.
    Int(Cow<'a, [u8]>),
    Str(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    List(Vec<Item>),
    Tuple(Vec<Item>),
    /// Keys and values in turn.
    Dict(Vec<Item>),
    Set(Vec<Item>),
    FrozenSet(Vec<Item>),
}

/// How much memory is left.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
    limit: usize,
}

impl Budget {
    pub(super) fn take(&mut self, bytes: usize) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or(PickleError::TooLarge { limit: self.limit })?;
        Ok(())
    }

    /// Takes back what was taken, and turned out not to be needed any more.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.left += bytes;
    }

    /// Makes room in `vec` for `more` elements.
    pub(super) fn reserve<T>(&mut self, vec: &mut Vec<T>, more: usize) -> Result<()> {
        let needed = vec.len().saturating_add(more);
        let before = vec.capacity();
        if needed <= before {
            return Ok(());
        }
        let room = needed.max(before.saturating_mul(2)).max(4);
        // The old elements are still there while they are moved.
        self.take(heap(room.saturating_mul(size_of::<T>())))?;
        vec.reserve_exact(room - vec.len());
        self.give_back(heap(before * size_of::<T>()));
        Ok(())
    }

    pub(super) fn push<T>(&mut self, vec: &mut Vec<T>, element: T) -> Result<()> {
        self.reserve(vec, 1)?;
        vec.push(element);
        Ok(())
    }
}

/// What an allocation of that many bytes is reckoned at: an allocator does not give less than 32, and rounds up.
pub(super) fn heap(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { bytes.saturating_add(32) }
}

/// All nodes of a pickle.
pub(super) struct Graph<'a> {
    nodes: Vec<Node<'a>>,
    pub(super) budget: Budget,
}

impl<'a> Graph<'a> {
    pub(super) fn new(memory_max: usize) -> Self {
        Graph { nodes: Vec::new(), budget: Budget { left: memory_max, limit: memory_max } }
    }

    pub(super) fn add(&mut self, node: Node<'a>) -> Result<Item> {
        let place = u32::try_from(self.nodes.len())
            .map_err(|_| PickleError::TooLarge { limit: self.budget.limit })?;
        self.budget.push(&mut self.nodes, node)?;
        Ok(Item::Node(place))
    }

    pub(super) fn get(&self, item: Item) -> Option<&Node<'a>> {
        match item {
            Item::Node(place) => self.nodes.get(place as usize),
            _ => None,
        }
    }

    /// The node, and the budget for what is added to it.
    pub(super) fn get_mut(&mut self, item: Item) -> Option<(&mut Node<'a>, &mut Budget)> {
        match item {
            Item::Node(place) => Some((self.nodes.get_mut(place as usize)?, &mut self.budget)),
            _ => None,
        }
    }

    /// Copies elements, exactly.
    pub(super) fn copy(&mut self, items: &[Item]) -> Result<Vec<Item>> {
        self.budget.take(heap(size_of_val(items)))?;
        Ok(items.to_vec())
    }

    /// Copies the elements of a list, if it is one.
    pub(super) fn copy_list(&mut self, item: Item) -> Result<Option<Vec<Item>>> {
        let Some((Node::List(items), budget)) = self.get_mut(item) else { return Ok(None) };
        budget.take(heap(size_of_val(items.as_slice())))?;
        Ok(Some(items.clone()))
    }

    /// The text at `item` as bytes, if each of its characters is one.
    pub(super) fn latin1(&mut self, item: Item) -> Result<Option<Cow<'a, [u8]>>> {
        let Some((Node::Str(text), budget)) = self.get_mut(item) else { return Ok(None) };
        // Counted although it may be more than is needed, since it is looked at each time: a short pickle may ask for
        // the same long text again and again.
        budget.take(heap(text.len()))?;
        if let Cow::Borrowed(text) = text
            && text.is_ascii()
        {
            return Ok(Some(Cow::Borrowed(text.as_bytes())));
        }
        let mut latin1 = Vec::with_capacity(text.len());
        for c in text.chars() {
            let Ok(byte) = u8::try_from(c) else { return Ok(None) };
            latin1.push(byte);
        }
        Ok(Some(Cow::Owned(latin1)))
    }

    /// Takes what is at `item` out as a tree.
    pub(super) fn into_object(mut self, item: Item, limits: &Limits) -> Result<Object> {
        let mut sizes = Vec::new();
        self.budget.reserve(&mut sizes, self.nodes.len())?;
        sizes.resize(self.nodes.len(), Size::Unknown);
        let mut measuring = Measuring { nodes: &self.nodes, sizes, depth_max: limits.depth_max };
        let known = measuring.item(item, limits.depth_max)?;
        self.budget.take(known.bytes)?;
        self.budget.take(NODE_COST)?;
        Ok(build(&self.nodes, item))
    }
}

/// What is known of a node.
#[derive(Clone, Copy)]
enum Size {
    Unknown,
    /// It is being looked at: who meets it again has found a circle.
    Open,
    Known(Known),
}

#[derive(Clone, Copy)]
struct Known {
    /// How many levels of containers it has.
    levels: u32,
    /// How much memory it takes as a tree, itself not counted.
    bytes: usize,
    hashable: bool,
}

struct Measuring<'n, 'a> {
    nodes: &'n [Node<'a>],
    sizes: Vec<Size>,
    depth_max: usize,
}

impl Measuring<'_, '_> {
    /// Looks at each node once, however often it is referred to; recurses no further than `depth_left`.
    fn item(&mut self, item: Item, depth_left: usize) -> Result<Known> {
        let flat = |bytes| Known { levels: 0, bytes, hashable: true };
        let place = match item {
            Item::Node(place) => place as usize,
            Item::Call(call) => return Err(call.as_data()),
            _ => return Ok(flat(0)),
        };
        let nodes = self.nodes;
        let (Some(node), Some(size)) = (nodes.get(place), self.sizes.get_mut(place)) else {
            // No item names a node that was not added.
            return Ok(flat(0));
        };
        match *size {
            Size::Unknown => *size = Size::Open,
            Size::Open => return Err(PickleError::SelfReference),
            Size::Known(known) if known.levels as usize > depth_left => return Err(self.too_deep()),
            Size::Known(known) => return Ok(known),
        }
        let known = match node {
            Node::Int(bytes) => flat(heap(bytes.len())),
            Node::Str(text) => flat(heap(text.len())),
            Node::Bytes(bytes) => flat(heap(bytes.len())),
            Node::List(items) => Known { hashable: false, ..self.all(items, 1, 0, depth_left)? },
            Node::Tuple(items) => self.all(items, 1, 0, depth_left)?,
            Node::Dict(items) => Known { hashable: false, ..self.all(items, 2, 2, depth_left)? },
            Node::Set(items) => Known { hashable: false, ..self.all(items, 1, 1, depth_left)? },
            Node::FrozenSet(items) => self.all(items, 1, 1, depth_left)?,
        };
        if let Some(size) = self.sizes.get_mut(place) {
            *size = Size::Known(known);
        }
        Ok(known)
    }

    /// The items of a container, of which every `step`th has to be hashable if that is what `keys` says.
    fn all(&mut self, items: &[Item], step: usize, keys: usize, depth_left: usize) -> Result<Known> {
        let inner = depth_left.checked_sub(1).ok_or_else(|| self.too_deep())?;
        let own = heap(items.len().saturating_mul(NODE_COST));
        let mut all = Known { levels: 0, bytes: own, hashable: true };
        for (index, item) in items.iter().enumerate() {
            let known = self.item(*item, inner)?;
            if keys > 0 && index % step == 0 && !known.hashable {
                return Err(PickleError::Unhashable);
            }
            all.levels = all.levels.max(known.levels);
            all.bytes = all.bytes.saturating_add(known.bytes);
            all.hashable &= known.hashable;
        }
        all.levels = all.levels.saturating_add(1);
        Ok(all)
    }

    fn too_deep(&self) -> PickleError {
        PickleError::TooDeep { limit: self.depth_max }
    }
}

/// Makes the tree that has been measured.
fn build(nodes: &[Node<'_>], item: Item) -> Object {
    let all = |items: &[Item]| items.iter().map(|item| build(nodes, *item)).collect();
    let node = match item {
        Item::Bool(value) => return Object::Bool(value),
        Item::Int(value) => return Object::Int(value.into()),
        Item::Float(value) => return Object::Float(value),
        // A function has been refused when it was measured.
        Item::None | Item::Call(_) => return Object::None,
        Item::Node(place) => nodes.get(place as usize),
    };
    match node {
        Some(Node::Int(bytes)) => match small(bytes) {
            Some(value) => Object::Int(value),
            None => Object::BigInt(BigInt::from_le_bytes(bytes)),
        },
        Some(Node::Str(text)) => Object::Str(text.clone().into_owned()),
        Some(Node::Bytes(bytes)) => Object::Bytes(bytes.clone().into_owned()),
        Some(Node::List(items)) => Object::List(all(items)),
        Some(Node::Tuple(items)) => Object::Tuple(all(items)),
        Some(Node::Set(items)) => Object::Set(all(items)),
        Some(Node::FrozenSet(items)) => Object::FrozenSet(all(items)),
        Some(Node::Dict(items)) => {
            let (entries, _) = items.as_chunks();
            Object::Dict(
                entries.iter().map(|[key, value]| (build(nodes, *key), build(nodes, *value))).collect(),
            )
        }
        None => Object::None,
    }
}
