//! DataFusion's session, set up for one statement.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::CatalogProviderList;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider, SchemaProvider,
    TableProvider,
};
use datafusion::common::Result;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::SessionConfig;

use crate::matching::{MatchFunction, MatchRewrite};
use crate::sql::SYSTEM;

const CATALOG: &str = "stratalog";
const TOPICS: &str = "topics";

/// Tables of one statement, by name.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) topics: BTreeMap<String, Arc<dyn TableProvider>>,
    pub(crate) system: BTreeMap<String, Arc<dyn TableProvider>>,
}

/// What all statements share: functions and rules, set up once.
#[derive(Debug)]
pub(crate) struct Sessions {
    base: SessionState,
}

impl Sessions {
    /// `partitions`: how many streams a scan and each operator above it have.
    ///
    /// # Errors
    /// None but defects.
    pub(crate) fn new(partitions: usize) -> Result<Self> {
        let mut config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_default_catalog_and_schema(CATALOG, TOPICS)
            .with_create_default_catalog_and_schema(false);
        let parser = &mut config.options_mut().sql_parser;
        parser.enable_ident_normalization = false;
        parser.collect_spans = true;
        config.options_mut().execution.time_zone = Some("UTC".to_owned());
        let mut base = SessionStateBuilder::new().with_config(config).with_default_features().build();
        base.register_udf(Arc::new(ScalarUDF::from(MatchFunction::new())))?;
        base.register_function_rewrite(Arc::new(MatchRewrite))?;
        Ok(Self { base })
    }

    /// A session in which exactly `tables` exist, and whose operators take memory from `memory`; nothing spills.
    ///
    /// # Errors
    /// None but defects.
    pub(crate) fn start(&self, tables: Tables, memory: Arc<dyn MemoryPool>) -> Result<SessionState> {
        let no_disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let runtime =
            RuntimeEnvBuilder::new().with_memory_pool(memory).with_disk_manager_builder(no_disk).build_arc()?;
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(TOPICS, schema_of(tables.topics)?)?;
        catalog.register_schema(SYSTEM, schema_of(tables.system)?)?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let mut state = SessionStateBuilder::new_from_existing(self.base.clone())
            .with_runtime_env(runtime)
            .with_catalog_list(Arc::new(catalogs))
            .build();
        state.mark_start_execution();
        Ok(state)
    }
}

fn schema_of(tables: BTreeMap<String, Arc<dyn TableProvider>>) -> Result<Arc<dyn SchemaProvider>> {
    let schema = MemorySchemaProvider::new();
    for (name, table) in tables {
        schema.register_table(name, table)?;
    }
    Ok(Arc::new(schema))
}
