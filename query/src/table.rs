//! A topic as a table of one statement.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::meter::Meter;
use crate::parts::TopicRows;
use crate::scan::{Filters, OpenIndexes, ScanTable, TopicScan};
use crate::schema::table_schema;

/// One snapshot of a topic. It evaluates every filter on rows, so that none is evaluated again above it.
#[derive(Debug)]
pub(crate) struct TopicTable {
    table: ScanTable,
}

impl TopicTable {
    /// The topic's table where `named` tells which hidden columns the statement names.
    pub(crate) fn new(
        rows: impl Into<TopicRows>,
        meter: Arc<Meter>,
        indexes: Arc<OpenIndexes>,
        named: impl Fn(&str) -> bool,
    ) -> Self {
        let TopicRows { snapshot, parts } = rows.into();
        let schema = table_schema(&snapshot.schema, named);
        Self { table: ScanTable { snapshot, parts, schema, meter, indexes } }
    }
}

#[async_trait]
impl TableProvider for TopicTable {
    fn schema(&self) -> SchemaRef {
        self.table.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let filters = Filters::new(state, &self.table.schema, filters)?;
        let partitions = state.config().target_partitions();
        let scan = TopicScan::new(self.table.clone(), filters, projection, partitions, limit)?;
        Ok(DataSourceExec::from_data_source(scan))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Exact; filters.len()])
    }
}
