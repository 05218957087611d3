// Grafana's types say what a dashboard holds, but of a panel's options only that there are some: the types of each kind
// of panel are put in their place here, so that a dashboard is checked all the way down.
import type * as schema from '@grafana/schema';
import type * as heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// JSON has the texts of an enum, not its members.
type Json<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T
    : T extends (infer Each)[]
      ? Json<Each>[]
      : unknown extends T
        ? T
        : { [Name in keyof T]: Json<T[Name]> };

type Property<Id extends string, Value> = { id: Id; value?: Value };
type Properties<Fields, Prefix extends string> = {
  [Name in keyof Fields & string]-?: Property<`${Prefix}${Name}`, Fields[Name]>;
}[keyof Fields & string];

// Grafana knows this one, too; it is written down only in the schema of the next kind of dashboards.
type Standard = schema.FieldConfig & { fieldMinMax?: boolean };

type FieldConfig<Custom> = {
  defaults: Omit<schema.FieldConfig, 'custom'> & { custom?: Custom };
  overrides: {
    matcher: schema.MatcherConfig;
    properties: (Properties<Standard, ''> | Properties<Custom, 'custom.'>)[];
  }[];
};

type Target = schema.DataQuery & Record<string, unknown>;

type Kind<Type extends string, Options, Custom> = Omit<schema.Panel, 'type' | 'options' | 'fieldConfig' | 'targets'> & {
  type: Type;
  options: Options;
  fieldConfig: FieldConfig<Custom>;
  targets: Target[];
};

type Panel =
  | Kind<'heatmap', heatmap.Options, heatmap.FieldConfig>
  | Kind<'stat', stat.Options, Record<string, never>>
  | Kind<'table', table.Options, table.FieldConfig>
  | Kind<'timeseries', timeseries.Options, timeseries.FieldConfig>;

export type Dashboard = Json<Omit<schema.Dashboard, 'panels'> & { panels: (Panel | schema.RowPanel)[] }>;
