//! Names in a statement: which topics and hidden columns it names, and rewriting them to what the planner knows.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, ExcludeSelectItem, Expr, FunctionArguments, Ident, ObjectName, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, Statement, TableFactor, Visit, VisitMut, Visitor, VisitorMut,
    WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::tokenizer::Location;

use super::SYSTEM;
use super::scope::{Scope, Target, dotted, ident, idents, without_schema};
use crate::matching::MatchFunction;
use crate::schema;

/// What a statement names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The hidden system columns that appear anywhere.
    pub(crate) hidden: BTreeSet<&'static str>,
    /// The topics in FROM clauses, each place once.
    pub(crate) topics: Vec<TableName>,
    /// The tables of the schema `system`.
    pub(crate) system: Vec<TableName>,
    /// The tables of the schema `information_schema`.
    pub(crate) information: Vec<TableName>,
}

/// A table in a FROM clause.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TableName {
    /// The topic's name, or what follows `system.`.
    pub(crate) name: String,
    /// Where it is written: line and column, from 1.
    pub(crate) at: (u64, u64),
}

impl TableName {
    /// The table that a name outside a query means.
    pub(crate) fn of(name: &ObjectName) -> Self {
        let idents = idents(name);
        let at = idents.first().map_or(Location::empty(), |ident| ident.span.start);
        let named = without_schema(&idents, |ident| &ident.value);
        Self { name: dotted(named).value, at: (at.line, at.column) }
    }
}

/// Rewrites names for the planner and returns what the statement names.
pub(crate) fn resolve(statement: &mut Statement) -> Names {
    let mut hidden = Hidden::default();
    // Neither visitor ever breaks off.
    let _ = Visit::visit(statement, &mut hidden);
    let mut rewriter = Rewriter { names: Names { hidden: hidden.0, ..Names::default() }, ..Rewriter::default() };
    let _ = VisitMut::visit(statement, &mut rewriter);
    rewriter.names
}

/// Collects the hidden system columns that expressions name.
#[derive(Default)]
struct Hidden(BTreeSet<&'static str>);

impl Hidden {
    fn add(&mut self, is_named: impl Fn(&str) -> bool) {
        self.0.extend(schema::HIDDEN.into_iter().filter(|name| is_named(name)));
    }
}

impl Visitor for Hidden {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => self.add(|name| ident.value == name),
            Expr::CompoundIdentifier(parts) => self.add(|name| parts.last().is_some_and(|part| part.value == name)),
            Expr::Function(call) if call.name.to_string().eq_ignore_ascii_case(MatchFunction::NAME) => {
                // A field in the text of a query. One too many does no harm.
                let text = call.args.to_string();
                self.add(|name| name != schema::names::RAW && text.contains(name));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[derive(Default)]
struct Rewriter {
    names: Names,
    /// Names that WITH defines, one frame a query.
    ctes: Vec<Vec<String>>,
    /// Relations in scope, innermost last.
    scopes: Vec<Scope>,
}

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.ctes.push(ctes.map(|cte| cte.alias.name.value.clone()).collect());
        let scope = Scope::of_query(query, &|name| self.is_cte(name));
        self.scopes.push(scope);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.ctes.pop();
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let scope = Scope::of_select(select, &|name| self.is_cte(name));
        let items = std::mem::take(&mut select.projection);
        select.projection = items.into_iter().flat_map(|item| self.expand(item, &scope)).collect();
        self.scopes.push(scope);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<()> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, .. } = factor {
            self.rewrite_table(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(column) = column_user(expr) {
            *expr = column;
        }
        if let Expr::CompoundIdentifier(parts) = expr {
            let qualified = self.scopes.iter().rev().find_map(|scope| scope.qualify(parts));
            *expr = match qualified {
                Some(parts) => Expr::CompoundIdentifier(parts),
                None => Expr::Identifier(dotted(parts)),
            };
        }
        ControlFlow::Continue(())
    }
}

impl Rewriter {
    fn is_cte(&self, name: &str) -> bool {
        self.ctes.iter().flatten().any(|cte| cte == name)
    }

    fn rewrite_table(&mut self, name: &mut ObjectName) {
        let place = TableName::of(name);
        let span = dotted(&idents(name)).span;
        match Target::of(name, &|name| self.is_cte(name)) {
            Target::Cte(_) => {}
            Target::Own(schema, table) => {
                *name = vec![ident(schema.to_owned(), span), ident(table.clone(), span)].into();
                let tables = if schema == SYSTEM { &mut self.names.system } else { &mut self.names.information };
                tables.push(TableName { name: table, ..place });
            }
            Target::Topic(topic) => {
                *name = ident(topic, span).into();
                self.names.topics.push(place);
            }
        }
    }

    /// `*` shows no hidden column, even where the statement names one elsewhere.
    fn expand(&self, item: SelectItem, scope: &Scope) -> Vec<SelectItem> {
        match item {
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                vec![self.qualified_wildcard(name, options, scope)]
            }
            SelectItem::Wildcard(options) if self.hides_from(scope) && is_plain(&options) => {
                // A topic with a dot in its name is in scope twice.
                let mut seen = BTreeSet::new();
                let relations = scope.relations.iter().map(|relation| (relation.planned_name(), relation.is_topic));
                let once: Vec<_> = relations.filter(|(name, _)| seen.insert(name.to_string())).collect();
                let wildcard = |(name, is_topic)| self.exclude(name, options.clone(), is_topic);
                once.into_iter().map(wildcard).collect()
            }
            item => vec![item],
        }
    }

    fn hides_from(&self, scope: &Scope) -> bool {
        let topics = scope.relations.iter().any(|relation| relation.is_topic);
        topics && scope.complete && !self.names.hidden.is_empty()
    }

    fn qualified_wildcard(&self, name: ObjectName, options: WildcardAdditionalOptions, scope: &Scope) -> SelectItem {
        let scopes = self.scopes.iter().rev();
        match std::iter::once(scope).chain(scopes).find_map(|scope| scope.relation(&name)) {
            Some(relation) => {
                let hide = relation.is_topic && !self.names.hidden.is_empty() && is_plain(&options);
                self.exclude(relation.planned_name(), options, hide)
            }
            None => SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options),
        }
    }

    fn exclude(&self, name: ObjectName, mut options: WildcardAdditionalOptions, hide: bool) -> SelectItem {
        if hide {
            let hidden = |name: &&str| ObjectName::from(Ident::new(*name));
            options.opt_exclude = Some(ExcludeSelectItem::Multiple(self.names.hidden.iter().map(hidden).collect()));
        }
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options)
    }
}

/// `user`, `user.id` and `t.user.id` are columns: the parser takes `user` for a function without parentheses, and what is
/// around it for access to fields.
fn column_user(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::Function(_) => parts_of(expr)?.pop().map(Expr::Identifier),
        Expr::CompoundFieldAccess { .. } => parts_of(expr).map(Expr::CompoundIdentifier),
        _ => None,
    }
}

/// The parts of a name that the parser may have taken for something else.
fn parts_of(expr: &Expr) -> Option<Vec<Ident>> {
    match expr {
        Expr::Identifier(name) => Some(vec![name.clone()]),
        Expr::CompoundIdentifier(parts) => Some(parts.clone()),
        Expr::Function(call) if matches!(call.args, FunctionArguments::None) => {
            let is_user = |name: &Ident| name.quote_style.is_none() && name.value.eq_ignore_ascii_case("user");
            Some(idents(&call.name)).filter(|parts| matches!(parts.as_slice(), [name] if is_user(name)))
        }
        Expr::CompoundFieldAccess { root, access_chain } => {
            let fields = access_chain.iter().map(|access| match access {
                AccessExpr::Dot(field) => parts_of(field),
                AccessExpr::Subscript(_) => None,
            });
            std::iter::once(parts_of(root)).chain(fields).collect::<Option<Vec<_>>>().map(|parts| parts.concat())
        }
        _ => None,
    }
}

/// Whether the wildcard says nothing of its own about columns to leave out.
fn is_plain(options: &WildcardAdditionalOptions) -> bool {
    options.opt_exclude.is_none() && options.opt_except.is_none() && options.opt_replace.is_none()
}
