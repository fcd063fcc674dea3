//! The fields of records as columns: a tree of the keys met so far, whose nodes know their dotted column.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use stratalog_proto::config::ColumnType;

use super::column::{CELL_BYTES, Column, Value};
use super::declared::{Declared, conform};
use super::escape::clip;
use super::json_text;
use super::names::{MAX_NAME_BYTES, column_name, join};
use super::number::checked_number;

/// The most user columns of a chunk, [`REST`] apart, which gets the fields beyond. Declared columns have theirs set aside.
pub(super) const MAX_COLUMNS: usize = 1_000;
/// The most nodes of the tree: objects need some that are no columns.
const MAX_NODES: usize = 4 * MAX_COLUMNS;
/// Nodes beyond those for each declared column, so that it is found however many other fields there are.
const NODES_A_DECLARED: usize = 32;

const _: () = assert!(stratalog_proto::config::MAX_DECLARED_COLUMNS < MAX_COLUMNS);
/// The column of what has no column of its own: the text of one JSON object, from dotted name to value.
pub(crate) const REST: &str = "_rest";

/// A node of the tree.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeId(u32);

/// The record itself.
pub(super) const ROOT: NodeId = NodeId(0);

#[derive(Default)]
struct Node {
    /// The keys that lead to it, joined by dots; empty for the root.
    path: Box<str>,
    column: Option<usize>,
    /// The declared column of this path.
    declared: Option<usize>,
    /// In the order in which they were first met: most likely that of the next record too.
    children: Vec<(Box<str>, NodeId)>,
    by_key: HashMap<Box<str>, usize>,
    /// The last record that had it.
    seen: u64,
    /// The last record whose value of it is in [`REST`].
    in_rest: u64,
}

/// A column with its name.
struct Named {
    name: Box<str>,
    column: Column,
    /// Which declared column it is.
    declared: Option<usize>,
}

/// The user columns of a chunk under construction, and the tree of keys that leads to them.
pub(super) struct Fields {
    declared: Arc<Declared>,
    nodes: Vec<Node>,
    columns: Vec<Named>,
    by_name: HashMap<Box<str>, usize>,
    /// The column of each declared column that was met.
    declared_columns: Vec<Option<usize>>,
    time_column: Option<usize>,
    /// `_rest` of the record under construction, its closing brace apart.
    rest: String,
    rest_column: Column,
    row: u32,
    record: u64,
    /// Nodes and columns that the rows before have made.
    committed: (usize, usize),
    bytes: usize,
}

impl Fields {
    /// No fields yet. `time_field` is the dotted path whose value [`time`](Self::time) finds; it always has a column.
    pub(super) fn new(time_field: Option<&str>, declared: Arc<Declared>) -> Self {
        let mut fields = Self {
            nodes: vec![Node::default()],
            columns: Vec::new(),
            by_name: HashMap::new(),
            declared_columns: vec![None; declared.len()],
            declared,
            time_column: None,
            rest: String::new(),
            rest_column: Column::default(),
            row: 0,
            record: 1,
            committed: (1, 0),
            bytes: 0,
        };
        if let Some(field) = time_field {
            fields.reserve_time(field);
        }
        fields.committed = (fields.nodes.len(), fields.columns.len());
        fields
    }

    /// Makes the column of the time field, and the nodes that lead to it, before other fields can use up the caps.
    fn reserve_time(&mut self, field: &str) {
        self.time_column = self.column_named(&column_name(field));
        let nested = field.split('.').try_fold(ROOT, |parent, key| {
            let at = self.add_child(parent, key)?;
            Some(self.nodes[parent.0 as usize].children[at].1)
        });
        debug_assert!(nested.is_some(), "the caps leave room for a time field");
        if field.contains('.') {
            self.add_child(ROOT, field);
        }
    }

    /// The node below `parent` for `key`; `None` at the caps, where the value goes to [`rest`](Self::rest).
    ///
    /// `expected` is the place among the siblings where this key is looked for first: one after the previous key's.
    pub(super) fn child(&mut self, parent: NodeId, key: &str, expected: &mut usize) -> Option<NodeId> {
        let node = &self.nodes[parent.0 as usize];
        let at = match node.children.get(*expected) {
            Some((known, _)) if **known == *key => *expected,
            _ => match node.by_key.get(key) {
                Some(at) => *at,
                None => self.add_child(parent, key)?,
            },
        };
        *expected = at + 1;
        let child = self.nodes[parent.0 as usize].children[at].1;
        self.visit(child);
        Some(child)
    }

    fn add_child(&mut self, parent: NodeId, key: &str) -> Option<usize> {
        let path = self.path(parent, key);
        if self.nodes.len() >= self.most_nodes(&path) || path.len() > MAX_NAME_BYTES {
            return None;
        }
        let child = NodeId(self.nodes.len() as u32);
        let declared = self.declared.find(&path);
        self.nodes.push(Node { path: path.into(), declared, ..Node::default() });
        let parent = &mut self.nodes[parent.0 as usize];
        parent.children.push((key.into(), child));
        parent.by_key.insert(key.into(), parent.children.len() - 1);
        Some(parent.children.len() - 1)
    }

    /// How many nodes there may be before one of this path is refused.
    fn most_nodes(&self, path: &str) -> usize {
        if self.nodes.len() < MAX_NODES || !self.declared.leads_to(path) {
            return MAX_NODES;
        }
        MAX_NODES + NODES_A_DECLARED * self.declared.len()
    }

    /// The dotted path of `key` below `parent`.
    fn path(&self, parent: NodeId, key: &str) -> String {
        join(&self.nodes[parent.0 as usize].path, key)
    }

    /// A key that comes twice in one object: the last value wins, whatever the first one was.
    fn visit(&mut self, node: NodeId) {
        if self.nodes[node.0 as usize].seen == self.record {
            self.clear(node);
        }
        self.nodes[node.0 as usize].seen = self.record;
    }

    fn clear(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.0 as usize];
        node.seen = 0;
        if let Some(column) = node.column {
            self.columns[column].column.remove(self.row);
        }
        if self.nodes[id.0 as usize].in_rest == self.record {
            self.rest_of(id).push_str("null");
        }
        for at in 0..self.nodes[id.0 as usize].children.len() {
            let child = self.nodes[id.0 as usize].children[at].1;
            if self.nodes[child.0 as usize].seen == self.record {
                self.clear(child);
            }
        }
    }

    /// Sets the value of a node.
    pub(super) fn put(&mut self, node: NodeId, value: Value<'_>) {
        match self.column(node) {
            Some(column) => {
                self.bytes += CELL_BYTES + value.text_bytes();
                self.columns[column].column.put(self.row, value);
            }
            None => json_text::push_value(self.rest_of(node), value),
        }
    }

    /// Sets the value of a node to a number, by its text. A column that is declared as text keeps it as it was written.
    pub(super) fn put_number(&mut self, node: NodeId, text: &str) {
        match self.declared_type(node) {
            Some(ColumnType::Text) => self.put(node, Value::Text(text)),
            _ => self.put(node, checked_number(text)),
        }
    }

    /// The type of the node's column, if it is declared.
    pub(super) fn declared_type(&self, node: NodeId) -> Option<ColumnType> {
        self.nodes[node.0 as usize].declared.map(|at| self.declared.get(at).column_type)
    }

    /// Sets the value of a node to the text of a JSON value.
    pub(super) fn put_json(&mut self, node: NodeId, text: &str) {
        match self.column(node) {
            Some(_) => self.put(node, Value::Text(text)),
            None => self.rest_of(node).push_str(text),
        }
    }

    fn column(&mut self, node: NodeId) -> Option<usize> {
        if let Some(column) = self.nodes[node.0 as usize].column {
            return Some(column);
        }
        let name = column_name(&self.nodes[node.0 as usize].path).into_owned();
        let column = self.column_named(&name)?;
        self.nodes[node.0 as usize].column = Some(column);
        Some(column)
    }

    fn column_named(&mut self, name: &str) -> Option<usize> {
        if let Some(column) = self.by_name.get(name) {
            return Some(*column);
        }
        let at = self.columns.len();
        let declared = self.declared.find(name);
        match declared {
            Some(declared) => self.declared_columns[declared] = Some(at),
            None if self.undeclared_are_full() => return None,
            None => {}
        }
        self.columns.push(Named { name: name.into(), column: Column::default(), declared });
        self.by_name.insert(name.into(), at);
        Some(at)
    }

    fn undeclared_are_full(&self) -> bool {
        let most = MAX_COLUMNS - self.declared.len();
        self.columns.len() >= most && self.columns.iter().filter(|named| named.declared.is_none()).count() >= most
    }

    /// Where the text of the JSON value of `key` below `parent` is to be written, which has no place of its own.
    pub(super) fn rest(&mut self, parent: NodeId, key: &str) -> &mut String {
        let path = self.path(parent, key);
        open_rest(&mut self.rest, &path)
    }

    fn rest_of(&mut self, node: NodeId) -> &mut String {
        let node = &mut self.nodes[node.0 as usize];
        node.in_rest = self.record;
        open_rest(&mut self.rest, &node.path)
    }

    /// The event time of the record under construction, as it was written.
    pub(super) fn time(&self) -> Option<Value<'_>> {
        self.columns[self.time_column?].column.last(self.row)
    }

    /// Gives the values of declared columns in the record under construction their types.
    ///
    /// # Errors
    /// Which column has no such value, or none at all though it must. What was put has to be rolled back.
    pub(super) fn conform(&mut self) -> Result<(), String> {
        for (at, column) in self.declared_columns.iter().enumerate() {
            let Some(column) = column.map(|column| &mut self.columns[column].column) else { continue };
            let Some(value) = column.last(self.row) else { continue };
            let spec = self.declared.get(at);
            let conformed =
                conform(value, spec.column_type).map_err(|why| format!("column `{}` {why}", clip_name(&spec.name)))?;
            if let Some(value) = conformed {
                column.put(self.row, value);
            }
        }
        let required = self.declared.required().iter();
        match required.copied().find(|at| !self.has_declared(*at)) {
            None => Ok(()),
            Some(at) => {
                let name = clip_name(&self.declared.get(at).name);
                Err(format!("column `{name}` is missing, and it is declared NOT NULL"))
            }
        }
    }

    fn has_declared(&self, at: usize) -> bool {
        self.declared_columns[at].is_some_and(|column| self.columns[column].column.last(self.row).is_some())
    }

    /// Forgets what was put since the last [`commit`](Self::commit), and the columns that came with it.
    pub(super) fn rollback(&mut self) {
        self.columns.iter_mut().for_each(|named| named.column.remove(self.row));
        if self.committed != (self.nodes.len(), self.columns.len()) {
            self.forget_new_columns();
        }
        self.rest.clear();
        self.record += 1;
    }

    fn forget_new_columns(&mut self) {
        let (nodes, columns) = self.committed;
        self.nodes.truncate(nodes);
        self.columns.truncate(columns);
        self.by_name.retain(|_, column| *column < columns);
        for declared in &mut self.declared_columns {
            *declared = declared.filter(|column| *column < columns);
        }
        for node in &mut self.nodes {
            node.column = node.column.filter(|column| *column < columns);
            let known = node.children.partition_point(|(_, child)| (child.0 as usize) < nodes);
            node.children.truncate(known);
            node.by_key.retain(|_, at| *at < known);
        }
    }

    /// Ends the row, with whatever was put.
    pub(super) fn commit(&mut self) {
        if !self.rest.is_empty() {
            self.rest.push('}');
            self.bytes += CELL_BYTES + self.rest.len();
            self.rest_column.put(self.row, Value::Text(&self.rest));
            self.rest.clear();
        }
        self.committed = (self.nodes.len(), self.columns.len());
        self.record += 1;
        self.row += 1;
    }

    /// Columns so far.
    pub(super) fn columns(&self) -> usize {
        self.columns.len()
    }

    /// About the memory of the cells.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The columns that have a value, by name.
    pub(super) fn finish(self) -> Vec<(Box<str>, ArrayRef)> {
        #[cfg(test)]
        assert!(!self.by_name.contains_key(super::tests::DEFECT_OF_A_COLUMN), "a defect, injected");
        let rows = self.row as usize;
        let mut columns = self.columns;
        columns.push(Named { name: REST.into(), column: self.rest_column, declared: None });
        columns.retain(|named| !named.column.is_empty());
        columns.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let is_text = |at: usize| self.declared.get(at).column_type == ColumnType::Text;
        let finish = |named: Named| match named.declared {
            Some(at) if is_text(at) => (named.name, named.column.finish_text(rows)),
            _ => (named.name, named.column.finish(rows)),
        };
        columns.into_iter().map(finish).collect()
    }
}

/// The most bytes of a column's name that a reason shows, so that what is wrong with it has room, too.
const MAX_SHOWN_NAME_BYTES: usize = 96;

fn clip_name(name: &str) -> &str {
    clip(name, MAX_SHOWN_NAME_BYTES)
}

/// Starts the value of `path` in the object `rest`.
fn open_rest<'a>(rest: &'a mut String, path: &str) -> &'a mut String {
    rest.push(if rest.is_empty() { '{' } else { ',' });
    json_text::push_str(rest, path);
    rest.push(':');
    rest
}
