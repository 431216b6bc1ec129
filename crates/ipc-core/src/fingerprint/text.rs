//! The canonical text of a traced type.
//!
//! The graph is minimised first (nodes that read the same are one class, however many types they come
//! from), so that the text depends on what is read and on nothing else: not on names of types, nor on
//! newtypes in between, nor on where a recursion was cut into types. Each class is then written once, which
//! keeps the text as long as the graph, not as the tree that it unfolds to.

use std::collections::HashMap;
use std::fmt::Write;
use std::mem;

use super::graph::{Graph, Id, Kind, Node, ROOT, Slot, UNIT, Why};

/// How many nodes a part may unfold to and still be written out each time that it occurs.
const SMALL: u64 = 8;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Head {
    Leaf(&'static str),
    Handle(&'static str),
    Opaque(&'static str),
    /// The payload of an index that names no variant.
    Never,
    Option,
    Seq,
    Map,
    Tuple,
    Struct,
    Enum,
}

/// A node without what does not count: seeds, newtypes, aliases of fields.
#[derive(Debug)]
struct Form {
    head: Head,
    /// As they are written, with the aliases of each.
    names: Vec<String>,
    kids: Vec<usize>,
}

impl Form {
    /// A form that has no parts.
    fn of(head: Head) -> Self {
        Form { head, names: Vec::new(), kids: Vec::new() }
    }
}

/// The text of what was traced, and whether all of it is known.
pub(super) fn canonical(graph: &Graph) -> (String, bool) {
    let forms = reachable(forms(graph), resolve(graph, ROOT));
    let classes = classes(&forms);
    let count = classes.iter().max().map_or(0, |max| max + 1);
    let mut members = vec![usize::MAX; count];
    for (form, &class) in classes.iter().enumerate() {
        members[class] = members[class].min(form);
    }
    let mut writer = Writer {
        sizes: sizes(&forms, &classes, &members),
        forms: &forms,
        classes: &classes,
        members: &members,
        state: vec![State::New; count],
        shared: vec![false; count],
        labels: HashMap::new(),
        open: Vec::new(),
        text: String::new(),
        complete: true,
    };
    let root = classes[0];
    // The first time only tells which classes occur again and so need a label.
    writer.class(root);
    writer.state.fill(State::New);
    writer.text.clear();
    writer.class(root);
    (writer.text, writer.complete)
}

/// Where the forms are that no node stands for: they follow those of the nodes.
fn extra(graph: &Graph, slot: Slot) -> usize {
    let nodes = graph.nodes.len();
    match slot {
        Slot::Pending | Slot::Opaque(Why::Unreached) => nodes,
        Slot::Opaque(Why::Limit) => nodes + 1,
        Slot::Opaque(Why::Varies) => nodes + 2,
        Slot::Absent => nodes + 3,
        Slot::Known(id) => id,
    }
}

/// The form that is read where a node is: what is inside, if the node is on the wire as its only part.
fn resolve(graph: &Graph, id: Id) -> usize {
    let mut id = id;
    // A type may consist of nothing but itself (`struct T(Box<T>)`), which must not keep us.
    for _ in 0..=graph.nodes.len() {
        let Some(node) = graph.nodes.get(id) else {
            return id;
        };
        let mut read = node.slots.iter().filter(|slot| **slot != Slot::Absent);
        id = match (node.kind, read.next(), read.next()) {
            (Kind::Seed | Kind::Newtype | Kind::Tuple, None, _) => UNIT,
            (Kind::Seed | Kind::Newtype | Kind::Tuple, Some(&slot), None) => extra(graph, slot),
            _ => return id,
        };
    }
    extra(graph, Slot::Pending)
}

fn forms(graph: &Graph) -> Vec<Form> {
    let mut forms: Vec<Form> = Vec::with_capacity(graph.nodes.len() + 4);
    for node in &graph.nodes {
        let head = match node.kind {
            Kind::Leaf(name) => Head::Leaf(name),
            Kind::Handle(kind) => Head::Handle(kind),
            Kind::Any => Head::Opaque("opaque<any>"),
            Kind::Option => Head::Option,
            Kind::Seq => Head::Seq,
            Kind::Map => Head::Map,
            // Seeds and newtypes are never referred to, as `resolve` sees through them.
            Kind::Tuple | Kind::Seed | Kind::Newtype => Head::Tuple,
            Kind::Struct => Head::Struct,
            Kind::Enum => Head::Enum,
        };
        // An index that names no variant keeps its place: the one after it has its number on the wire.
        let keep = |slot: &Slot| *slot != Slot::Absent || head == Head::Enum && !node.names.is_empty();
        let kids: Vec<usize> = (node.slots.iter().filter(|slot| keep(slot)))
            .map(|&slot| resolve(graph, extra(graph, slot)))
            .collect();
        let names = match node.kind {
            Kind::Struct => fields(node),
            _ => node.names.iter().map(|name| quoted(name)).collect(),
        };
        // A sequence of bytes is encoded as bytes are.
        let byte = |id: usize| graph.nodes.get(id).is_some_and(|node| node.kind == Kind::Leaf("u8"));
        forms.push(match head {
            Head::Seq if byte(kids[0]) => Form::of(Head::Leaf("bytes")),
            head => Form { head, names, kids },
        });
    }
    forms.push(Form::of(Head::Opaque("opaque")));
    forms.push(Form::of(Head::Opaque("opaque<limit>")));
    forms.push(Form::of(Head::Opaque("opaque<varies>")));
    forms.push(Form::of(Head::Never));
    forms
}

/// Those of the forms that the root refers to, the root first.
fn reachable(mut forms: Vec<Form>, root: usize) -> Vec<Form> {
    let mut place = vec![None; forms.len()];
    place[root] = Some(0);
    let mut order = vec![root];
    let mut next = 0;
    while let Some(&form) = order.get(next) {
        next += 1;
        for kid in &mut forms[form].kids {
            *kid = *place[*kid].get_or_insert_with(|| {
                order.push(*kid);
                order.len() - 1
            });
        }
    }
    let taken = order.into_iter().map(|form| mem::replace(&mut forms[form], Form::of(Head::Never)));
    taken.collect()
}

/// The names of the fields of a struct that are read, each with its aliases.
fn fields(node: &Node) -> Vec<String> {
    let slots = || (0..node.slots.len()).filter(|&slot| node.slots[slot] != Slot::Absent);
    slots()
        .map(|slot| {
            let ident = node.idents[slot].filter(|_| node.idents_differ == Some(true));
            let same = (0..node.slots.len())
                .filter(|&other| other == slot || ident.is_some() && node.idents[other] == ident);
            same.map(|other| quoted(node.names[other])).collect::<Vec<_>>().join("|")
        })
        .collect()
}

/// A name, written so that no other text reads the same, whatever characters are in it.
fn quoted(name: &str) -> String {
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)) {
        return name.to_owned();
    }
    let mut text = String::from("\"");
    for char in name.chars() {
        match char {
            '"' | '\\' => text.extend(['\\', char]),
            '\0'..' ' | '\u{7f}' => text.push_str(&format!("\\u{{{:x}}}", u32::from(char))),
            _ => text.push(char),
        }
    }
    text + "\""
}

/// The class of each form: two forms are in one if they unfold to the same tree. (Moore's algorithm: start
/// with those that look alike, and part those whose kids are in different classes until none are.)
fn classes(forms: &[Form]) -> Vec<usize> {
    let mut seen = HashMap::new();
    let mut classes: Vec<usize> = Vec::with_capacity(forms.len());
    for form in forms {
        let next = seen.len();
        classes.push(*seen.entry((&form.head, &form.names, form.kids.len())).or_insert(next));
    }
    let mut count = seen.len();
    loop {
        let mut seen = HashMap::new();
        let mut finer = Vec::with_capacity(forms.len());
        for (form, &class) in forms.iter().zip(&classes) {
            let kids: Vec<usize> = form.kids.iter().map(|&kid| classes[kid]).collect();
            let next = seen.len();
            finer.push(*seen.entry((class, kids)).or_insert(next));
        }
        classes = finer;
        if seen.len() == count {
            return classes;
        }
        count = seen.len();
    }
}

/// How many nodes each class unfolds to; the largest number if it contains itself.
fn sizes(forms: &[Form], classes: &[usize], members: &[usize]) -> Vec<u64> {
    let mut sizes = vec![u64::MAX; members.len()];
    let mut moved = true;
    while moved {
        moved = false;
        for (class, &form) in members.iter().enumerate().rev() {
            let kids = forms[form].kids.iter().map(|&kid| sizes[classes[kid]]);
            let size = kids.fold(1, u64::saturating_add);
            moved |= size != sizes[class];
            sizes[class] = size;
        }
    }
    sizes
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Open,
    Done,
}

struct Writer<'f> {
    forms: &'f [Form],
    classes: &'f [usize],
    members: &'f [usize],
    sizes: Vec<u64>,
    state: Vec<State>,
    /// Whether a class occurs after it was written out.
    shared: Vec<bool>,
    labels: HashMap<usize, usize>,
    /// The classes that are being written, outermost first.
    open: Vec<usize>,
    text: String,
    complete: bool,
}

impl Writer<'_> {
    fn class(&mut self, class: usize) {
        if self.sizes[class] > SMALL {
            match self.state[class] {
                State::New if self.shared[class] => {
                    let label = self.labels.len() + 1;
                    self.labels.insert(class, label);
                    self.push(format_args!("#{label}="));
                }
                State::New => {}
                State::Open => {
                    let up = self.open.iter().rev().position(|&open| open == class).unwrap_or(0);
                    return self.push(format_args!("^{up}"));
                }
                State::Done => {
                    self.shared[class] = true;
                    let label = self.labels.get(&class).copied().unwrap_or(0);
                    return self.push(format_args!("#{label}"));
                }
            }
        }
        self.state[class] = State::Open;
        self.open.push(class);
        self.form(&self.forms[self.members[class]]);
        self.open.pop();
        self.state[class] = State::Done;
    }

    fn form(&mut self, form: &Form) {
        match form.head {
            Head::Leaf(name) => self.text.push_str(name),
            Head::Handle(kind) => {
                self.text.push_str("handle<");
                self.text.push_str(&quoted(kind));
                self.text.push('>');
            }
            Head::Opaque(text) => {
                self.complete = false;
                self.text.push_str(text);
            }
            Head::Never => self.text.push('!'),
            Head::Option => {
                self.text.push('?');
                self.class(self.classes[form.kids[0]]);
            }
            Head::Seq => self.list("[", "]", form),
            Head::Map => self.list("map<", ">", form),
            Head::Tuple => self.tuple(form),
            Head::Struct if form.kids.is_empty() => self.text.push_str("{}"),
            Head::Struct => {
                self.text.push_str("{ ");
                for (index, (name, &kid)) in form.names.iter().zip(&form.kids).enumerate() {
                    self.text.push_str(if index > 0 { ", " } else { "" });
                    self.text.push_str(name);
                    self.text.push_str(": ");
                    self.class(self.classes[kid]);
                }
                self.text.push_str(" }");
            }
            Head::Enum => self.variants(form),
        }
    }

    fn list(&mut self, before: &str, after: &str, form: &Form) {
        self.text.push_str(before);
        for (index, &kid) in form.kids.iter().enumerate() {
            self.text.push_str(if index > 0 { ", " } else { "" });
            self.class(self.classes[kid]);
        }
        self.text.push_str(after);
    }

    fn tuple(&mut self, form: &Form) {
        let first = self.classes[form.kids[0]];
        if form.kids.iter().all(|&kid| self.classes[kid] == first) {
            self.text.push('(');
            self.class(first);
            self.push(format_args!("; {})", form.kids.len()));
        } else {
            self.list("(", ")", form);
        }
    }

    fn variants(&mut self, form: &Form) {
        self.text.push_str("enum<");
        // With aliases there are more names than variants, and no telling which names belong together.
        let named = form.kids.iter().all(|&kid| self.forms[kid].head != Head::Never);
        if !named {
            self.text.push_str(&form.names.join(", "));
            self.text.push_str(" = ");
        }
        for (index, &kid) in form.kids.iter().enumerate() {
            self.text.push_str(if index > 0 { " | " } else { "" });
            if named {
                // A visitor that names none has one kid, which is opaque.
                self.text.push_str(form.names.get(index).map_or("", String::as_str));
                if self.forms[kid].head == Head::Leaf("()") {
                    continue;
                }
                self.text.push_str(": ");
            }
            self.class(self.classes[kid]);
        }
        self.text.push('>');
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.text.write_fmt(text);
    }
}
