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
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::SessionConfig;

use crate::growth::GROWING;
use crate::guarded::guarded;
use crate::joins::EndJoins;
use crate::json_get::JsonGet;
use crate::lengthy::{InPortions, LENGTHY, RegexRewrite};
use crate::matching::{MatchFunction, MatchRewrite};
use crate::parts::SplitByNode;
use crate::query::Query;
use crate::spill::SpillFiles;
use crate::sql::{INFORMATION, SYSTEM};
use crate::try_cast::TryCastRewrite;

const CATALOG: &str = "stratalog";
const TOPICS: &str = "topics";

/// What a sort keeps for merging, of the memory of its query: one in so many.
const SORT_SHARE: usize = 32;
/// And not more than this, in bytes.
const MAX_SORT_RESERVATION: usize = 10 << 20;

/// Tables of one statement, by name.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) topics: BTreeMap<String, Arc<dyn TableProvider>>,
    pub(crate) system: BTreeMap<String, Arc<dyn TableProvider>>,
    pub(crate) information: BTreeMap<String, Arc<dyn TableProvider>>,
}

/// What all statements share: functions and rules, set up once.
#[derive(Debug)]
pub(crate) struct Sessions {
    base: SessionState,
}

impl Sessions {
    /// `partitions`: how many streams a scan and each operator above it have; `memory_bytes`: what a query may use.
    ///
    /// # Errors
    /// None but defects.
    pub(crate) fn new(partitions: usize, memory_bytes: usize) -> Result<Self> {
        let mut config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_default_catalog_and_schema(CATALOG, TOPICS)
            .with_create_default_catalog_and_schema(false);
        let parser = &mut config.options_mut().sql_parser;
        parser.enable_ident_normalization = false;
        parser.collect_spans = true;
        let execution = &mut config.options_mut().execution;
        execution.time_zone = Some("UTC".to_owned());
        // Each sort takes it before its first row, to be able to merge what it spilled.
        execution.sort_spill_reservation_bytes = (memory_bytes / SORT_SHARE).min(MAX_SORT_RESERVATION);
        let mut base = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .with_physical_optimizer_rule(Arc::new(SplitByNode))
            .with_physical_optimizer_rule(Arc::new(EndJoins))
            .build();
        for (name, growth) in GROWING {
            let function = base.udf(name)?;
            base.register_udf(guarded(function, growth))?;
        }
        for name in LENGTHY {
            let function = base.udf(name)?;
            base.register_udf(guarded(function, InPortions))?;
        }
        base.register_udf(Arc::new(ScalarUDF::from(MatchFunction::new())))?;
        base.register_udf(Arc::new(ScalarUDF::from(JsonGet::new())))?;
        base.register_function_rewrite(Arc::new(MatchRewrite))?;
        base.register_function_rewrite(Arc::new(TryCastRewrite))?;
        let regexes = RegexRewrite::new(|name| base.udf(name))?;
        base.register_function_rewrite(Arc::new(regexes))?;
        Ok(Self { base })
    }

    /// A session in which exactly `tables` exist, and whose operators have the memory and the disk of `query`.
    ///
    /// # Errors
    /// None but defects.
    pub(crate) fn start(&self, tables: Tables, query: &Query) -> Result<SessionState> {
        let disk = if query.spill.is_possible() {
            DiskManagerMode::Custom(Arc::new(SpillFiles(query.spill.clone())))
        } else {
            DiskManagerMode::Disabled
        };
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(query.memory.clone())
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(disk))
            .build_arc()?;
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(TOPICS, schema_of(tables.topics)?)?;
        catalog.register_schema(SYSTEM, schema_of(tables.system)?)?;
        catalog.register_schema(INFORMATION, schema_of(tables.information)?)?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let mut state = SessionStateBuilder::new_from_existing(self.base.clone())
            .with_runtime_env(runtime)
            .with_catalog_list(Arc::new(catalogs))
            .build();
        state.config_mut().options_mut().extensions.insert(query.end());
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
