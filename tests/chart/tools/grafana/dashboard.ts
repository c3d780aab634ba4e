// A dashboard held to the types that Grafana publishes: no unknown field, no value of another type.
// The test puts the JSON where it is assigned.
import type { Dashboard, DataSourceRef, FieldConfigSource, Panel, RowPanel } from "@grafana/schema";
import type { AnnotationQuery, VariableModel } from "@grafana/schema";
import type * as bargauge from
  "@grafana/schema/dist/types/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen.d.ts";
import type * as heatmap from
  "@grafana/schema/dist/types/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen.d.ts";
import type * as stat from
  "@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen.d.ts";
import type * as timeseries from
  "@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.d.ts";

// JSON has the values of enumerations, not their names.
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;

// The types of Prometheus' queries are not published with the others.
interface Query {
  refId: string; datasource: DataSourceRef; expr: string; legendFormat: string;
  range: boolean; instant: boolean; format: "time_series" | "heatmap" | "table";
  editorMode: "code" | "builder";
}
interface Asked { expr: string; titleFormat: string; step?: string; useValueForTime?: boolean }

type Own<Type extends string, Options, Custom> = Omit<
  Panel, "type" | "options" | "targets" | "fieldConfig"
> & {
  type: Type; options: Options; targets: Query[];
  fieldConfig: Omit<FieldConfigSource, "defaults"> & {
    defaults: Omit<FieldConfigSource["defaults"], "custom"> & { custom?: Partial<Custom> };
  };
};
type Shown =
  | Own<"timeseries", timeseries.Options, timeseries.FieldConfig>
  | Own<"stat", stat.Options, never>
  | Own<"bargauge", Partial<bargauge.Options>, never>
  | Own<"heatmap", heatmap.Options, heatmap.FieldConfig>;

type Held = Plain<Omit<Dashboard, "panels" | "annotations" | "templating"> & {
  panels: (Shown | RowPanel)[];
  annotations: { list: (AnnotationQuery & Asked)[] };
  templating: { list: (VariableModel & { definition?: string })[] };
}>;

export const dashboard: Held = DASHBOARD;
