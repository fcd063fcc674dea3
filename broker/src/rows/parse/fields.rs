//! The fields of JSON objects as columns: a tree of the keys met so far, whose nodes know their dotted column.

use std::collections::HashMap;

use arrow::array::ArrayRef;

use super::column::{CELL_BYTES, Column, Value};
use super::json_text;
use super::names::{MAX_NAME_BYTES, column_name, join};

/// The most user columns of a chunk, [`REST`] apart, which gets the fields beyond.
pub(super) const MAX_COLUMNS: usize = 1_000;
/// The most nodes of the tree: objects need some that are no columns.
const MAX_NODES: usize = 4 * MAX_COLUMNS;
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
    /// In the order in which they were first met: most likely that of the next record too.
    children: Vec<(Box<str>, NodeId)>,
    by_key: HashMap<Box<str>, usize>,
    /// The last record that had it.
    seen: u64,
}

/// The user columns of a chunk under construction, and the tree of keys that leads to them.
pub(super) struct Fields {
    nodes: Vec<Node>,
    columns: Vec<(Box<str>, Column)>,
    by_name: HashMap<Box<str>, usize>,
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
    pub(super) fn new(time_field: Option<&str>) -> Self {
        let mut fields = Self {
            nodes: vec![Node::default()],
            columns: Vec::new(),
            by_name: HashMap::new(),
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
        if self.nodes.len() >= MAX_NODES || path.len() > MAX_NAME_BYTES {
            return None;
        }
        let child = NodeId(self.nodes.len() as u32);
        self.nodes.push(Node { path: path.into(), ..Node::default() });
        let parent = &mut self.nodes[parent.0 as usize];
        parent.children.push((key.into(), child));
        parent.by_key.insert(key.into(), parent.children.len() - 1);
        Some(parent.children.len() - 1)
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
            self.columns[column].1.remove(self.row);
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
                self.columns[column].1.put(self.row, value);
            }
            None => json_text::push_value(self.rest_of(node), value),
        }
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
        if self.columns.len() >= MAX_COLUMNS {
            return None;
        }
        self.columns.push((name.into(), Column::default()));
        self.by_name.insert(name.into(), self.columns.len() - 1);
        Some(self.columns.len() - 1)
    }

    /// Where the text of the JSON value of `key` below `parent` is to be written, which has no place of its own.
    pub(super) fn rest(&mut self, parent: NodeId, key: &str) -> &mut String {
        let path = self.path(parent, key);
        open_rest(&mut self.rest, &path)
    }

    fn rest_of(&mut self, node: NodeId) -> &mut String {
        open_rest(&mut self.rest, &self.nodes[node.0 as usize].path)
    }

    /// The event time of the record under construction, as it was written.
    pub(super) fn time(&self) -> Option<Value<'_>> {
        self.columns[self.time_column?].1.last(self.row)
    }

    /// Forgets what was put since the last [`commit`](Self::commit), and the columns that came with it.
    pub(super) fn rollback(&mut self) {
        self.columns.iter_mut().for_each(|(_, column)| column.remove(self.row));
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
        let rows = self.row as usize;
        let mut columns = self.columns;
        columns.push((REST.into(), self.rest_column));
        columns.retain(|(_, column)| !column.is_empty());
        columns.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        columns.into_iter().map(|(name, column)| (name, column.finish(rows))).collect()
    }
}

/// Starts the value of `path` in the object `rest`.
fn open_rest<'a>(rest: &'a mut String, path: &str) -> &'a mut String {
    rest.push(if rest.is_empty() { '{' } else { ',' });
    json_text::push_str(rest, path);
    rest.push(':');
    rest
}
