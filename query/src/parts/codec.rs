//! Plans as bytes: DataFusion's own protobuf, with our scan as the one leaf and our functions.
//!
//! What arrives may be anything (X1): only operators that a part may have are looked at, the scan's columns are checked, and
//! it reads nothing but the rows of the part that the request names.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_datafusion_err, plan_err};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF};
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;
use datafusion::physical_plan::joins::HashTableLookupExpr;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use datafusion_proto::physical_plan::to_proto::serialize_physical_expr_with_converter;
use datafusion_proto::physical_plan::{
    DeduplicatingProtoConverter, PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalPlanNodeExt,
    PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::physical_plan_node::PhysicalPlanType;
use datafusion_proto::protobuf::{AggregateMode, PhysicalExprNode, PhysicalPlanNode};
use parking_lot::Mutex;
use prost::Message;
use stratalog_index::Leaf;
use stratalog_proto::{bounded, internal};

use super::ipc;
use super::scan::PartScan;
use crate::matching::MatchLeaf;
use crate::scan::{Counts, Filters, LeafColumn, ScanTable, TopicScan};
use crate::schema::{names, system_fields};
use crate::try_cast::TryCastFunction;

/// The longest plan, in bytes.
pub(super) const MAX_PLAN_BYTES: usize = 8 << 20;
/// Operators above the scan.
const MAX_OPERATORS: usize = 16;
/// The most keys, lengths and values of a plan: an expression takes two bytes at least, and some hundred in memory.
const MAX_PLAN_PIECES: usize = 1 << 20;

/// Which values a plan is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// While it is planned, to see whether it can be written at all: subqueries have no value yet.
    Planning,
    /// When it is sent.
    Running,
}

/// The bytes of a plan above a [`PartScan`].
///
/// # Errors
/// An operator or an expression that cannot be written, or that nests deeper than it could be read.
pub(super) fn encode(plan: &Arc<dyn ExecutionPlan>, moment: Moment) -> Result<Vec<u8>> {
    let node = PhysicalPlanNode::try_from_physical_plan_with_converter(plan.clone(), &Sending, &Writing(moment))?;
    let bytes = node.encode_to_vec();
    if bytes.len() > MAX_PLAN_BYTES {
        return exec_err!("a part of the plan has {} bytes; the most that is sent is {MAX_PLAN_BYTES}", bytes.len());
    }
    Ok(bytes)
}

/// Whether a plan can be sent, and read again.
pub(super) fn can_be_sent(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if !ipc::travels(&plan.schema()) {
        return false;
    }
    let sent = encode(plan, Moment::Planning).and_then(|bytes| read_message::<PhysicalPlanNode>(&bytes, "plan"));
    if let Err(error) = &sent {
        tracing::debug!(%error, "a part of a plan stays here");
    }
    sent.is_ok()
}

/// Whether a condition can be sent, and read again.
pub(super) fn expression_can_be_sent(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let node = Writing(Moment::Planning).physical_expr_to_proto(expr, &Sending);
    node.is_ok_and(|node| read_message::<PhysicalExprNode>(&node.encode_to_vec(), "condition").is_ok())
}

/// The plan in `bytes` over the rows of `table`, and what its scan counts.
///
/// # Errors
/// Bytes that are no plan, or one of operators that no part has.
pub(super) fn decode(
    bytes: &[u8],
    table: ScanTable,
    partitions: usize,
    context: &TaskContext,
) -> Result<(Arc<dyn ExecutionPlan>, Counts)> {
    if bytes.len() > MAX_PLAN_BYTES {
        return plan_err!("a part of a plan has {} bytes; the most is {MAX_PLAN_BYTES}", bytes.len());
    }
    let node: PhysicalPlanNode = read_message(bytes, "plan")?;
    check(&node)?;
    let codec = Receiving { table, partitions, counts: Mutex::new(None) };
    let decoding = PhysicalPlanDecodeContext::new(context, &codec);
    let plan = DeduplicatingProtoConverter {}.proto_to_execution_plan(&node, &decoding)?;
    let counts = codec.counts.lock().take();
    counts.map(|counts| (plan, counts)).ok_or_else(|| plan_datafusion_err!("a part of a plan has no scan"))
}

/// The message in `bytes`, with no more in it than a plan may have.
fn read_message<M: Message + Default>(bytes: &[u8], what: &str) -> Result<M> {
    bounded::decode(bytes, MAX_PLAN_PIECES).map_err(|error| plan_datafusion_err!("not a {what}: {error}"))
}

/// A chain of operators that work on each stream of rows by itself, above one scan.
fn check(node: &PhysicalPlanNode) -> Result<()> {
    let mut node = node;
    for _ in 0..=MAX_OPERATORS {
        let input = match &node.physical_plan_type {
            Some(PhysicalPlanType::Extension(scan)) if scan.inputs.is_empty() => return Ok(()),
            Some(PhysicalPlanType::Filter(filter)) => &filter.input,
            Some(PhysicalPlanType::Projection(projection)) => &projection.input,
            Some(PhysicalPlanType::Sort(sort)) if sort.preserve_partitioning => &sort.input,
            Some(PhysicalPlanType::LocalLimit(limit)) => &limit.input,
            Some(PhysicalPlanType::Aggregate(aggregate)) if aggregate.mode == AggregateMode::Partial as i32 => {
                if aggregate.group_expr.is_empty() && !aggregate.groups.is_empty() {
                    return plan_err!("an aggregate has sets of groups and no group");
                }
                &aggregate.input
            }
            _ => return plan_err!("a part of a plan has an operator that no part has"),
        };
        let Some(input) = input else { return plan_err!("an operator of a plan has no input") };
        node = input;
    }
    plan_err!("a part of a plan has more than {MAX_OPERATORS} operators")
}

/// How expressions are written: what only this node has becomes a value.
struct Writing(Moment);

impl PhysicalProtoConverterExtension for Writing {
    fn proto_to_execution_plan(
        &self,
        _: &PhysicalPlanNode,
        _: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        internal_err!("plans are not read by what writes them")
    }

    fn execution_plan_to_proto(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        codec: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalPlanNode> {
        PhysicalPlanNode::try_from_physical_plan_with_converter(plan.clone(), codec, self)
    }

    fn proto_to_physical_expr(
        &self,
        _: &PhysicalExprNode,
        _: &Schema,
        _: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        internal_err!("expressions are not read by what writes them")
    }

    fn physical_expr_to_proto(
        &self,
        expr: &Arc<dyn PhysicalExpr>,
        codec: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalExprNode> {
        let value = match () {
            () if expr.is::<ScalarSubqueryExpr>() => Some(subquery_value(expr, self.0)?),
            // The other side of a join, in a condition that only saves work: what it would exclude the join excludes.
            () if expr.is::<HashTableLookupExpr>() => Some(ScalarValue::Boolean(Some(true))),
            () => None,
        };
        let literal = value.map(|value| Arc::new(Literal::new(value)) as Arc<dyn PhysicalExpr>);
        serialize_physical_expr_with_converter(literal.as_ref().unwrap_or(expr), codec, self)
    }
}

/// What a subquery gave, which runs before those that use it.
fn subquery_value(expr: &Arc<dyn PhysicalExpr>, moment: Moment) -> Result<ScalarValue> {
    let schema = Arc::new(Schema::empty());
    if moment == Moment::Planning {
        return ScalarValue::try_from(&expr.data_type(&schema)?);
    }
    match expr.evaluate(&RecordBatch::new_empty(schema))? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(_) => internal_err!("a subquery of one value gave several"),
    }
}

/// The codec of the node that was asked.
#[derive(Debug)]
struct Sending;

impl PhysicalExtensionCodec for Sending {
    fn try_decode(
        &self,
        _: &[u8],
        _: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        internal_err!("plans are not read by what writes them")
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let scan = node.downcast_ref::<DataSourceExec>().and_then(|scan| scan.data_source().downcast_ref::<PartScan>());
        let Some(scan) = scan else { return exec_err!("{} is no operator of a part", node.name()) };
        let mut filters = Vec::with_capacity(scan.filters.conjuncts.len());
        for conjunct in &scan.filters.conjuncts {
            // As it is now: a filter that goes on to change is made anew where the operator runs that changes it.
            let filter = snapshot_physical_expr(conjunct.expr.clone())?;
            match converter.physical_expr_to_proto(&filter, self) {
                Ok(filter) => filters.push(filter.encode_to_vec().into()),
                // It only saves work: whoever made it evaluates it too.
                Err(_) if conjunct.is_dynamic() => {}
                Err(error) => return Err(error),
            }
        }
        let numbers = |columns: &[usize]| columns.iter().map(|column| *column as u32).collect();
        let scan = internal::PartScan {
            schema: ipc::encode_schema(&scan.table),
            projection: numbers(&scan.projection),
            leaves: scan.filters.leaves.iter().map(|leaf| written_leaf(&leaf.leaf, numbers(&leaf.columns))).collect(),
            filters,
            fetch: scan.fetch.map(|fetch| fetch as u64),
        };
        scan.encode(buf).map_err(|error| plan_datafusion_err!("{error}"))
    }

    fn try_encode_udf(&self, function: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        let function = function.inner();
        let written = if let Some(leaf) = function.downcast_ref::<MatchLeaf>() {
            written_leaf(leaf.leaf(), Vec::new()).encode(buf)
        } else if let Some(cast) = function.downcast_ref::<TryCastFunction>() {
            let schema = Schema::new(vec![arrow::datatypes::Field::new("to", cast.to().clone(), true)]);
            buf.extend_from_slice(&ipc::encode_schema(&schema));
            Ok(())
        } else {
            // Every node has all others, by their names.
            Ok(())
        };
        written.map_err(|error| plan_datafusion_err!("{error}"))
    }
}

fn written_leaf(leaf: &Leaf, columns: Vec<u32>) -> internal::PartLeaf {
    use internal::part_leaf::Text;
    let text = match leaf {
        Leaf::Term(text) => Text::Term(text.clone()),
        Leaf::Phrase(text) => Text::Phrase(text.clone()),
        Leaf::Prefix(text) => Text::Prefix(text.clone()),
    };
    internal::PartLeaf { text: Some(text), columns }
}

fn read_leaf(leaf: internal::PartLeaf) -> Result<Leaf> {
    use internal::part_leaf::Text;
    match leaf.text {
        Some(Text::Term(text)) => Ok(Leaf::Term(text)),
        Some(Text::Phrase(text)) => Ok(Leaf::Phrase(text)),
        Some(Text::Prefix(text)) => Ok(Leaf::Prefix(text)),
        None => plan_err!("a text leaf has no text"),
    }
}

/// The codec of a node that has rows of a part.
#[derive(Debug)]
struct Receiving {
    /// The rows; its schema is that of all that is here.
    table: ScanTable,
    partitions: usize,
    /// Those of the scan, once it was read.
    counts: Mutex<Option<Counts>>,
}

impl PhysicalExtensionCodec for Receiving {
    fn try_decode(
        &self,
        buf: &[u8],
        _: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let scan: internal::PartScan = read_message(buf, "scan")?;
        let schema = ipc::decode_schema(&scan.schema)?;
        check_columns(&schema)?;
        let leaves = scan.leaves.into_iter().map(|leaf| leaf_column(&schema, leaf)).collect::<Result<_>>()?;
        let mut filters = Filters::of_leaves(&schema, leaves);
        for filter in &scan.filters {
            let node: PhysicalExprNode = read_message(filter, "condition")?;
            let decoding = PhysicalPlanDecodeContext::new(context, self);
            let filter = converter.proto_to_physical_expr(&node, &filters.schema, &decoding)?;
            filters.push(filter)?;
        }
        let projection: Vec<usize> = scan.projection.iter().map(|column| *column as usize).collect();
        let fetch = scan.fetch.map(|fetch| usize::try_from(fetch).unwrap_or(usize::MAX));
        let table = ScanTable { schema, ..self.table.clone() };
        let scan = TopicScan::new(table, filters, Some(&projection), self.partitions, fetch)?;
        *self.counts.lock() = Some(scan.counts.clone());
        Ok(DataSourceExec::from_data_source(scan))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        _: &mut Vec<u8>,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        internal_err!("{} is not sent on", node.name())
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        match name {
            MatchLeaf::NAME => {
                let leaf = read_leaf(read_message(buf, "text leaf")?)?;
                Ok(Arc::new(MatchLeaf::function(leaf)))
            }
            TryCastFunction::NAME => {
                let schema = ipc::decode_schema(buf)?;
                let Some(field) = schema.fields().first() else { return plan_err!("a cast has no type") };
                Ok(Arc::new(TryCastFunction::function(field.data_type().clone())))
            }
            _ => plan_err!("there is no function {name}; are all nodes of one version?"),
        }
    }
}

/// Every table has these columns, and they are what they always are.
fn check_columns(schema: &SchemaRef) -> Result<()> {
    for known in system_fields() {
        match schema.field_with_name(known.name()) {
            Ok(field) if field.data_type() != known.data_type() => {
                return plan_err!("column {} is {} in a scan", known.name(), field.data_type());
            }
            Err(_) if [names::TIME, names::PARTITION, names::OFFSET].contains(&known.name().as_str()) => {
                return plan_err!("a scan is over columns without {}", known.name());
            }
            _ => {}
        }
    }
    Ok(())
}

fn leaf_column(schema: &SchemaRef, leaf: internal::PartLeaf) -> Result<LeafColumn> {
    let columns: Vec<usize> = leaf.columns.iter().map(|column| *column as usize).collect();
    let is_text =
        |column: &usize| schema.fields().get(*column).is_some_and(|field| *field.data_type() == DataType::Utf8);
    if !columns.iter().all(is_text) {
        return plan_err!("a text leaf is over columns that have no text");
    }
    Ok(LeafColumn::new(read_leaf(leaf)?, columns))
}
